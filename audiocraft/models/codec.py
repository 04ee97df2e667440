"""What every audio codec offers."""

import typing as tp
from abc import ABC, abstractmethod
from itertools import chain

import torch
from torch import nn

from ..errors import UserError
from ..modules.chunked import StreamState
from ..quantization.base import BaseQuantizer, QuantizedResult

HOLE = -1
"""A code of no codebook, in bent codes: the codebook is silent."""


class Decoder(tp.Protocol):
    """What makes sound of codes."""

    def decode(self, codes: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
        """As CompressionModel.decode."""
        ...


class StreamDecoder(ABC):
    """codes → wav on streams, with the codec's weights as they were when it was made; holds no state of its own.

    Attributes: `channels`, `hop_length` (samples per frame), `clips` that `decode` takes at once (None: all).
    """

    channels: int
    hop_length: int
    clips: int | None = None

    @abstractmethod
    def block(self, batch: int) -> int:
        """Frames of so many clips that `decode` takes at once."""

    @abstractmethod
    def push(self, state: StreamState, codes: torch.Tensor, last: bool = False) -> torch.Tensor:
        """codes [B, K, f] (f may be 0) → the wav [B, C, t] that is final now.

        Args:
            state: changed in place; {} for a new stream.
        """

    def decode(self, codes: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
        """As CompressionModel.decode, block by block; codes are not checked."""
        out = torch.empty(len(codes), self.channels, codes.shape[-1] * self.hop_length, device=codes.device)
        clips = self.clips or len(codes)
        for rows, part in zip(out.split(clips), codes.split(clips)):
            state: StreamState = {}
            blocks = part.split(self.block(len(part)), dim=-1)
            done = 0
            for i, block in enumerate(blocks):
                wav = self.push(state, block, last=i + 1 == len(blocks))
                rows[..., done : done + wav.shape[-1]] = wav
                done += wav.shape[-1]
        return out if scale is None else out.mul_(scale.view(-1, 1, 1))


class CompressionModel(ABC, nn.Module):
    """A codec: wav [B, C, T] ↔ codes [B, K, F].

    A codec is one such class, registered where a player is to be made of it (`onnx_player.codec`).

    Attributes: `channels`, `sample_rate` (Hz), `frame_rate` (frames per second), `hop_length` (samples per frame), and
    `quantizer`, which knows the codebooks; a codec without one says itself what they are. `check_values`: False has
    `check_wav` look at shapes alone.
    """

    channels: int
    sample_rate: int
    frame_rate: int
    hop_length: int
    quantizer: BaseQuantizer
    check_values = True

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
    def device(self) -> torch.device:
        """Where it computes, and takes its input."""
        return next(chain(self.parameters(), self.buffers())).device

    @property
    def cardinality(self) -> int:
        """Codes per codebook."""
        return self.quantizer.bins

    @property
    def num_codebooks(self) -> int:
        """Codebooks in use, K."""
        return self.quantizer.num_codebooks

    @property
    def total_codebooks(self) -> int:
        """Codebooks there are."""
        return self.quantizer.total_codebooks

    @property
    def codebooks(self) -> torch.Tensor | None:
        """Vectors [K, card, D] of the codebooks in use; a latent is the sum of one of each. None without codebooks."""
        return self.quantizer.codebooks

    def set_num_codebooks(self, n: int) -> None:
        """Use the first n codebooks from now on. Raises UserError if there are fewer."""
        self.quantizer.set_num_codebooks(n)

    def check_codes(self, codes: torch.Tensor) -> None:
        """Raises UserError unless `decode` can take the codes."""
        self.quantizer.check_codes(codes)

    def check_wav(self, x: torch.Tensor) -> None:
        """Raises UserError unless x is [B, channels, T] with at least one sample, and, but for training and without
        `check_values`, all finite."""
        if x.dim() != 3 or x.shape[1] != self.channels or x.shape[2] == 0:
            raise UserError(
                f"the codec takes audio of shape [batch, {self.channels}, samples], not {list(x.shape)}; "
                "convert it with audiocraft.data.audio_utils.convert_audio"
            )
        # In training the loss shows it, and nothing waits for a GPU. Codes of NaN would look like any others.
        if self.check_values and not self.training and not torch.stack(x.aminmax()).isfinite().all():
            raise UserError("the audio holds NaN or infinite samples; clean it, e.g. with torch.nan_to_num")

    @property
    def inner_rates(self) -> list[float]:
        """Hz at which decoding steps, the frame rate first: where a codec can hum."""
        return [self.sample_rate / self.hop_length]

    @property
    def can_stream(self) -> bool:
        """Whether `stream_decoder` and `encode_blocks` serve it; not one that must know the whole signal first."""
        return False

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

    def bent_decoder(self, others: tp.Sequence[tuple[str, "CompressionModel"]] = (), buzz: bool = False) -> Decoder:
        """Decodes bent codes, which are not checked: `HOLE` is silence, and code + i × cardinality reads `code` in the
        codebook of the i-th of the others: modulo its cardinality, and in this codec's where it has none.

        Args:
            others: names and codecs.
            buzz: sound as clicks once a frame, of codecs whose phases are free.
        Raises:
            UserError: one of the codecs has no codebooks, another's vectors are of another width or kind, or this one
                cannot buzz.
        """
        raise UserError(f"a codec of type {type(self).__name__} cannot be bent; take a codec with quantizer=rvq")

    @staticmethod
    def get_pretrained(name: str, device: torch.device | str = "cpu") -> "CompressionModel":
        """Load a trained codec; for what `name` can be see `loaders.load_compression_model`."""
        from . import loaders

        return loaders.load_compression_model(name, device=device)


def read_through(own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Codebooks [K, card, D] that read the codes of `own` in `other` [K', card', D]: modulo card', and in its own
    where the other has none."""
    read = torch.arange(own.shape[1]) % other.shape[1]
    return torch.cat([other[: len(own), read].to(own), own[len(other) :]])
