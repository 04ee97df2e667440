"""The quantiser that a codec holds."""

import typing as tp

import torch

from ..errors import UserError
from .base import BaseQuantizer, QuantizedResult
from .core_vq import ResidualVectorQuantization, VectorQuantization, shared_randint


class ResidualVectorQuantizer(BaseQuantizer):
    """Residual vector quantiser, always computed in float32.

    Args:
        dimension: D of the latents.
        n_q: number of codebooks. bins: codes per codebook.
        q_dropout: train with a random number of codebooks, so that fewer work too.
        decay, kmeans_init, kmeans_iters, threshold_ema_dead_code: see EuclideanCodebook.
    """

    def __init__(
        self,
        dimension: int = 256,
        n_q: int = 8,
        q_dropout: bool = False,
        bins: int = 1024,
        decay: float = 0.99,
        kmeans_init: bool = True,
        kmeans_iters: int = 10,
        threshold_ema_dead_code: float | str = 2,
    ):
        super().__init__()
        if n_q < 1 or bins < 2:
            raise UserError(f"rvq.n_q={n_q} and rvq.bins={bins} make no codec; take at least 1 codebook of 2 codes")
        if isinstance(threshold_ema_dead_code, str) and threshold_ema_dead_code != "auto":
            raise UserError(
                f"rvq.threshold_ema_dead_code='{threshold_ema_dead_code}' is no threshold; give a number or auto"
            )
        self.max_n_q = n_q
        self.n_q = n_q
        self.q_dropout = q_dropout
        self.dimension = dimension
        self.bins = bins
        self.vq = ResidualVectorQuantization(
            num_quantizers=n_q,
            dim=dimension,
            codebook_size=bins,
            decay=decay,
            kmeans_init=kmeans_init,
            kmeans_iters=kmeans_iters,
            threshold_ema_dead_code=threshold_ema_dead_code,
        )

    def forward(self, x: torch.Tensor, frame_rate: int) -> QuantizedResult:
        """x [B, D, F] → QuantizedResult; bandwidth in kb/s, penalty the mean commitment loss (0 in eval mode),
        metrics (in training) `used`, distinct codes in the batch, and `dead`, codes found dead: scalar tensors, means
        over codebooks."""
        n_q = self.n_q
        if self.training and self.q_dropout:
            n_q = shared_randint(1, self.n_q, x.device)
        with torch.autocast(x.device.type, enabled=False):
            quantized, codes, losses, metrics = self.vq(x.float(), n_q=n_q)
        codes = codes.transpose(0, 1)
        return QuantizedResult(
            quantized.to(x.dtype),
            codes,
            self.bandwidth(codes, frame_rate),
            penalty=losses.mean(),
            metrics=dict(metrics),
        )

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Latents [B, D, F] → codes int64 [B, K, F]."""
        with torch.autocast(x.device.type, enabled=False):
            return self.vq.encode(x.float(), n_q=self.n_q).transpose(0, 1)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes [B, K, F] of the first K codebooks → latents float32 [B, D, F]."""
        return self.vq.decode(codes.transpose(0, 1))

    @property
    def codebooks(self) -> torch.Tensor:
        """Vectors [K, bins, D] of the codebooks in use."""
        layers = tp.cast(list[VectorQuantization], list(self.vq.layers))
        return torch.stack([layer.codebook for layer in layers[: self.n_q]])
