"""Where the codebooks of a new codec start: k-means over the latents of several batches, before the first step."""

import math
from itertools import islice
from typing import TYPE_CHECKING

import torch
from flashy import distrib

from ..models.encodec import EncodecModel
from ..quantization import ResidualVectorQuantizer
from .data import start_loader

if TYPE_CHECKING:
    from .base import StandardSolver

# One batch of a small codec has fewer latents than a codebook has codes: most would start as a copy of one latent.
VECTORS_PER_CODE = 8


@torch.no_grad()
def start_codebooks(solver: "StandardSolver") -> None:
    """Start the codebooks of `solver.model`, if they have not, from the first batches of the train split.

    Raises:
        Interrupted: a signal came.
    """
    model = solver.model
    if not isinstance(model, EncodecModel) or not isinstance(model.quantizer, ResidualVectorQuantizer):
        return
    if model.quantizer.vq.started:
        return
    loader = solver.dataloaders["train"]
    assert loader.batch_size is not None
    frames = math.ceil(solver.cfg.dataset.segment_duration * model.frame_rate) * loader.batch_size
    wanted = math.ceil(VECTORS_PER_CODE * model.quantizer.bins / (frames * distrib.world_size()))
    batches = min(start_loader(loader, solver.epoch), solver.updates_per_epoch, wanted)
    latents = []
    for wav, _ in solver.log_progress("codebooks", islice(solver.fetch(loader), batches), total=batches):
        latent = model.encoder(model.preprocess(wav.to(solver.device))[0])
        latents.append(latent.transpose(1, 2).flatten(0, 1))
        solver.check_stop()
    vectors = torch.cat(latents)
    model.quantizer.vq.start_(vectors, len(latents[0]) * distrib.world_size())
    solver.logger.info("The codebooks started from k-means over %d latents of %d batches", len(vectors), batches)
