"""What every quantiser offers, and one that does nothing."""

import math
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
    """Maps latents [B, D, F] to codes [B, K, F] and back.

    Attributes: `max_n_q`, the codebooks there are; `n_q`, those in use; `bins`, codes per codebook.
    """

    max_n_q: int
    n_q: int
    bins: int

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
        """kb/s of codes [B, K, F] at log2(bins) bits each, `frame_rate` in Hz; a scalar tensor."""
        return torch.full((), codes.shape[1] * math.log2(self.bins) * frame_rate / 1000, device=codes.device)

    def check_codes(self, codes: torch.Tensor) -> None:
        """Raises UserError unless codes are [B, K, F], 0 to bins - 1, K at most all codebooks and F at least 1."""
        if codes.dim() != 3 or not 1 <= codes.shape[1] <= self.max_n_q or codes.shape[2] == 0:
            raise UserError(
                f"the codec takes codes of shape [batch, up to {self.max_n_q} codebooks, frames], "
                f"not {list(codes.shape)}; give those that its encode made"
            )
        low, high = torch.stack(codes.aminmax()).tolist()
        if low < 0 or high >= self.bins:
            raise UserError(
                f"codes run from {low} to {high}, but this codec has 0 to {self.bins - 1}; "
                "use the codec that they were made with"
            )

    @property
    def codebooks(self) -> torch.Tensor | None:
        """Vectors [K, bins, D] of the codebooks in use; None of a quantiser without."""
        return None

    @property
    def total_codebooks(self) -> int:
        """Number of codebooks there are."""
        return self.max_n_q

    @property
    def num_codebooks(self) -> int:
        """Number of codebooks in use."""
        return self.n_q

    def set_num_codebooks(self, n: int) -> None:
        """Use the first n codebooks from now on. Raises UserError if there are fewer."""
        if not 1 <= n <= self.max_n_q:
            raise UserError(f"{n} codebooks asked for, but this codec has {self.max_n_q}; choose 1 to {self.max_n_q}")
        self.n_q = n


def sum_of_vectors(codebooks: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Latents [B, D, F] of codes [B, K, F] in codebooks [K, card, D]."""
    return torch.stack([book[code] for book, code in zip(codebooks, codes.unbind(1))]).sum(0).transpose(1, 2)


class DummyQuantizer(BaseQuantizer):
    """No quantisation (`quantizer: no_quant`): the latents themselves are the codes, as float [B, 1, D, F]."""

    max_n_q = n_q = 1

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

    def set_num_codebooks(self, n: int) -> None:
        """Does nothing for n = 1; else raises UserError."""
        if n != 1:
            raise UserError(f"a codec without quantiser has 1 stream, not {n} codebooks; use rvq")
