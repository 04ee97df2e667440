"""Training of the spectral codec: its codebooks follow the envelopes of the audio; nothing takes a gradient."""

import typing as tp

import torch
from torch import nn

from ..errors import UserError
from ..models import builders, loaders
from ..models.spectral import SpectralModel
from ..utils.device import upload
from .compression import CompressionSolver, evaluate_audio_reconstruction

# Vectors per code from which principal components and codebooks start.
VECTORS_PER_CODE = 24


class SpectralSolver(CompressionSolver):
    """Solver of `solver=compression/spectral_32khz`.

    The first epoch of a codec from nothing begins with principal components and k-means; after that, as in a codec that
    goes on from another, codebooks are moving averages of what they code.
    """

    model: SpectralModel

    def __init__(self, cfg: tp.Any) -> None:
        if cfg.optim.ema.use:
            raise UserError("optim.ema.use=true: the spectral codec's codebooks are averages already; leave it false")
        super().__init__(cfg)

    def build_model(self) -> None:
        self.model = tp.cast(SpectralModel, builders.get_compression_model(self.cfg)).to(self.device)
        self.losses, self.adv_losses = nn.ModuleDict(), nn.ModuleDict()
        # The loop asks for one; there is nothing that it could move.
        self.optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(()))])
        self.register_stateful("model", "optimizer")
        self.register_best_state("model")

    @torch.no_grad()
    def start_codebooks(self) -> None:
        """As `CompressionSolver.start_codebooks`, after principal components."""
        if not self.model.quantizer.rvq.vq.started:
            found = self.first_vectors(self.model.envelopes, VECTORS_PER_CODE)
            self.model.quantizer.start_(torch.cat(found), len(found[0]))

    def run_step(self, idx: int, batch: tuple[torch.Tensor, list[tp.Any]], metrics: dict) -> dict:
        """One step on wav [B, 1, T] and its infos. Metrics: `loss`, the mean distance of envelopes in log10 of
        magnitudes, and in training `used` and `dead` codes."""
        wav, infos = batch
        hop, frames = self.model.hop_length, -(-wav.shape[-1] // self.model.hop_length)
        # Padding teaches nothing: only the frames that sound, as one clip. Counted here, as a GPU would be waited for.
        sounding = [i * frames + t for i, info in enumerate(infos) for t in range(-(-info.n_frames // hop))]
        places = upload(torch.tensor(sounding), self.device)
        with torch.no_grad():
            envelopes = self.model.envelopes(upload(wav, self.device))
            heard = envelopes.transpose(1, 2).flatten(0, 1).index_select(0, places).T[None]
            result = self.model.quantizer(heard, self.model.frame_rate)
        return {**metrics, **result.metrics, "loss": (result.x - heard).abs().mean()}

    def _distances(self, y_pred: torch.Tensor, y: torch.Tensor) -> dict[str, tp.Any]:
        return evaluate_audio_reconstruction(y_pred, y, self.cfg)

    def check_origin(self, source: str, cfg: tp.Any) -> None:
        """Raises UserError for a codec of another kind."""
        if "spectral" not in cfg:
            raise UserError(
                f"{source} is no spectral codec; begin anew (continue_from=null, codec train --from nothing)"
            )

    def load_from_pretrained(self, name: str) -> dict[str, torch.Tensor]:
        """As `CompressionSolver.load_from_pretrained`."""
        codec = loaders.load_compression_model(f"//pretrained/{name}", device="cpu")
        if not isinstance(codec, SpectralModel):
            raise UserError(f"{name} is no spectral codec; begin anew (continue_from=null, codec train --from nothing)")
        return codec.state_dict()
