"""A codec of a few thousand random weights, as an export on disk, for tests that need some codec."""

from pathlib import Path

import torch
from omegaconf import OmegaConf

from audiocraft import __version__, train
from audiocraft.models import builders

RATE = 16000


def write_codec(folder: Path, seed: int = 0) -> Path:
    """An export of a tiny codec with random weights: 16 kHz, 25 frames/s, 4 codebooks of 64."""
    cfg = train.main.make_xp(["solver=compression/debug", "dset=audio/example", f"sample_rate={RATE}"]).cfg
    torch.manual_seed(seed)
    model = builders.get_compression_model(cfg)
    for layer in model.quantizer.vq.layers:  # type: ignore[attr-defined]
        layer._codebook.embed.normal_(std=0.1)
        layer._codebook.inited.fill_(1)
    folder.mkdir()
    package = {
        "best_state": model.state_dict(),
        "xp.cfg": OmegaConf.to_yaml(cfg, resolve=True),
        "version": __version__,
        "exported": True,
    }
    torch.save(package, folder / "compression_state_dict.bin")
    return folder
