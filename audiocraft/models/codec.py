"""What every audio codec offers."""

import typing as tp
from abc import ABC, abstractmethod

import torch
from torch import nn

from ..errors import UserError
from ..quantization.base import QuantizedResult


class StreamDecoder(tp.Protocol):
    """codes → wav on streams; holds no state of its own."""

    channels: int

    def start(self) -> tp.Any:
        """State of a new stream, made of dataclasses, lists and tensors with the clips first."""

    def push(self, state: tp.Any, codes: torch.Tensor, last: bool = False) -> torch.Tensor:
        """codes [B, K, f] (f may be 0) → the wav [B, C, t] that is final now."""
        ...


class CompressionModel(ABC, nn.Module):
    """A codec: wav [B, C, T] ↔ codes [B, K, F].

    Attributes: `channels`, `sample_rate` (Hz), `frame_rate` (frames per second), `hop_length` (samples per frame).
    """

    channels: int
    sample_rate: int
    frame_rate: int
    hop_length: int

    @abstractmethod
    def forward(self, x: torch.Tensor) -> QuantizedResult:
        """wav [B, C, T] → QuantizedResult: x the decoded wav [B, C, T], codes [B, K, F], bandwidth in kb/s, and what
        training needs."""

    @abstractmethod
    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """wav [B, C, T] → (codes [B, K, F] int64, scale [B, 1] or None), F = ceil(T / hop_length)."""

    @abstractmethod
    def decode(self, codes: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
        """codes [B, K, F] (and the scale that encode gave) → wav [B, C, F * hop_length]."""

    @abstractmethod
    def decode_latent(self, codes: torch.Tensor) -> torch.Tensor:
        """codes [B, K, F] → latents [B, D, F]."""

    @property
    @abstractmethod
    def cardinality(self) -> int:
        """Codes per codebook."""

    @property
    @abstractmethod
    def num_codebooks(self) -> int:
        """Codebooks in use, K."""

    @property
    @abstractmethod
    def total_codebooks(self) -> int:
        """Codebooks there are."""

    @abstractmethod
    def set_num_codebooks(self, n: int) -> None:
        """Use the first n codebooks from now on. Raises UserError if there are fewer."""

    @property
    def inner_rates(self) -> list[float]:
        """Hz at which decoding steps, the frame rate first: where a codec can hum."""
        return [self.sample_rate / self.hop_length]

    def encode_blocks(self, wavs: tp.Iterable[torch.Tensor]) -> tp.Iterator[torch.Tensor]:
        """Stream of wav [B, C, t], t of any size → stream of codes [B, K, f]; joined, they are the codes of the joined
        input. Raises UserError for an empty stream, a wrong shape, or a codec that must know the whole signal first."""
        raise UserError(f"a codec of type {type(self).__name__} cannot take streams; use encode() on whole files")

    def stream_decoder(self, half: bool = False) -> StreamDecoder:
        """Decodes streams with the weights as they are now; `half`: weights in float16 where that is faster.

        Raises:
            UserError: the codec must know the whole signal first.
        """
        raise UserError(f"a codec of type {type(self).__name__} cannot be streamed; use an EnCodec")

    @staticmethod
    def get_pretrained(name: str, device: torch.device | str = "cpu") -> "CompressionModel":
        """Load a trained codec; for what `name` can be see `loaders.load_compression_model`."""
        from . import loaders

        return loaders.load_compression_model(name, device=device)
