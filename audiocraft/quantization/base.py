"""What every quantiser offers, and one that does nothing."""

import typing as tp
from dataclasses import dataclass, field

import torch
from torch import nn

from ..errors import UserError


@dataclass
class QuantizedResult:
    """Outcome of a quantiser, or of a whole codec.

    x: quantised latents [B, D, F], or the wave [B, C, T]. codes: [B, K, F] int64. bandwidth: kb/s, scalar tensor.
    penalty: scalar to add to the loss while training. metrics: named numbers or scalar tensors worth logging.
    """

    x: torch.Tensor
    codes: torch.Tensor
    bandwidth: torch.Tensor
    penalty: torch.Tensor | None = None
    metrics: dict[str, tp.Any] = field(default_factory=dict)


class BaseQuantizer(nn.Module):
    """Maps latents [B, D, F] to codes [B, K, F] and back."""

    def forward(self, x: torch.Tensor, frame_rate: int) -> QuantizedResult:
        """Quantise x [B, D, F], given `frame_rate` in frames per second (for the bandwidth)."""
        raise NotImplementedError

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Latents [B, D, F] → codes [B, K, F]."""
        raise NotImplementedError

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes [B, K, F] → latents [B, D, F]."""
        raise NotImplementedError

    def bandwidth(self, codes: torch.Tensor, frame_rate: int) -> torch.Tensor:
        """kb/s that a stream of such codes takes, as a scalar tensor."""
        raise NotImplementedError

    def check_codes(self, codes: torch.Tensor) -> None:
        """Raises UserError unless `decode` can take the codes."""
        raise NotImplementedError

    @property
    def total_codebooks(self) -> int:
        """Number of codebooks there are."""
        raise NotImplementedError

    @property
    def num_codebooks(self) -> int:
        """Number of codebooks in use."""
        raise NotImplementedError

    def set_num_codebooks(self, n: int) -> None:
        """Use the first n codebooks from now on. Raises UserError if there are fewer."""
        raise NotImplementedError


class DummyQuantizer(BaseQuantizer):
    """No quantisation (`quantizer: no_quant`): the latents themselves are the codes, as float [B, 1, D, F]."""

    def forward(self, x: torch.Tensor, frame_rate: int) -> QuantizedResult:
        """x [B, D, F] as it is, with bandwidth in kb/s and a penalty of 0."""
        codes = self.encode(x)
        return QuantizedResult(x, codes, self.bandwidth(codes, frame_rate), penalty=torch.zeros((), device=x.device))

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Latents [B, D, F] → the same as codes [B, 1, D, F]."""
        return x.unsqueeze(1)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes [B, 1, D, F] → latents [B, D, F]."""
        return codes.squeeze(1)

    def bandwidth(self, codes: torch.Tensor, frame_rate: int) -> torch.Tensor:
        """kb/s of codes [B, 1, D, F], at 32 bits a number."""
        return torch.full((), codes.shape[2] * 32 * frame_rate / 1000, device=codes.device)

    def check_codes(self, codes: torch.Tensor) -> None:
        """Raises UserError unless codes are [B, 1, D, F] with at least one frame."""
        if codes.dim() != 4 or codes.shape[1] != 1 or codes.shape[3] == 0:
            raise UserError(f"a codec without quantiser takes codes [batch, 1, width, frames], not {list(codes.shape)}")

    @property
    def total_codebooks(self) -> int:
        """1: the latents."""
        return 1

    @property
    def num_codebooks(self) -> int:
        """1: the latents."""
        return 1

    def set_num_codebooks(self, n: int) -> None:
        """Does nothing for n = 1; else raises UserError."""
        if n != 1:
            raise UserError(f"a codec without quantiser has 1 stream, not {n} codebooks; use rvq")
