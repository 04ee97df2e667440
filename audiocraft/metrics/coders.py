"""What `codec_eval` measures: things that take a wave and give back what is left of it."""

import time
import typing as tp
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from ..data.audio_utils import convert_audio
from ..errors import UserError
from .opus import check_opus, opus_decode, opus_encode

if tp.TYPE_CHECKING:
    from ..models.codec import CompressionModel

OPUS_BIT_RATES = (6000, 12000)


@dataclass
class Coded:
    """A wave [C, T] as it came back; seconds that encoding and decoding took; the codes [1, K, F] of a codec, or the
    bits per second that were sent."""

    wav: torch.Tensor
    encode_seconds: float
    decode_seconds: float
    codes: torch.Tensor | None = None
    bits_per_second: float | None = None


class Coder(ABC):
    """`kind` is codec, codebooks (a codec with fewer of them) or opus; `bins` and `frame_rate` those of a codec.
    `inner_rates`: Hz at which its decoder steps, where it could hum: the frame rate, and those of its layers."""

    name: str
    kind: str
    bins: int | None = None
    frame_rate: float | None = None
    inner_rates: tp.Sequence[float] = ()

    @abstractmethod
    def code(self, wav: torch.Tensor, sample_rate: int) -> Coded:
        """Wave [C, T] at `sample_rate` Hz → what came back, of the same shape."""


class CodecCoder(Coder):
    """A codec with its first `codebooks` codebooks, or with those it has in use.

    A wave of another rate or other channels than the codec's is converted both ways; that takes no part in the times.
    """

    def __init__(self, codec: "CompressionModel", name: str, kind: str = "codec", codebooks: int | None = None) -> None:
        self.codec, self.name, self.kind = codec, name, kind
        self.bins = getattr(codec, "cardinality", None)
        if self.bins is None:
            raise UserError(f"the codec {name} has no codebooks to measure (quantizer no_quant); give one with rvq")
        self.codebooks = codebooks or codec.num_codebooks
        self.frame_rate = codec.sample_rate / codec.hop_length
        self.inner_rates = codec.inner_rates

    @torch.no_grad()
    def code(self, wav: torch.Tensor, sample_rate: int) -> Coded:
        """As `Coder.code`. Raises UserError where the codec gives NaN or infinite samples."""
        # Filled up by what a lower rate's last sample spans, so that rounding down loses nothing.
        beyond = 0 if sample_rate == self.codec.sample_rate else -(-sample_rate // self.codec.sample_rate)
        own = convert_audio(F.pad(wav, (0, beyond)), sample_rate, self.codec.sample_rate, self.codec.channels)
        with _codebooks_in_use(self.codec, self.codebooks):
            start = _now(wav.device)
            codes, scale = self.codec.encode(own[None])
            middle = _now(wav.device)
            decoded = self.codec.decode(codes, scale)[0, :, : own.shape[1]]
            end = _now(wav.device)
        if not torch.isfinite(decoded).all():
            raise UserError(f"the codec {self.name} decodes to NaN or infinite samples; its training has diverged")
        back = convert_audio(decoded, self.codec.sample_rate, sample_rate, wav.shape[0])
        return Coded(_as_long_as(back, wav), middle - start, end - middle, codes)


class OpusCoder(Coder):
    """Opus at a constant bit rate (bits per second), one thread of the CPU; the times include its resampling."""

    kind = "opus"

    def __init__(self, bit_rate: int) -> None:
        check_opus()
        self.bit_rate = bit_rate
        self.name = f"Opus {bit_rate / 1000:g} kb/s"

    def code(self, wav: torch.Tensor, sample_rate: int) -> Coded:
        """As `Coder.code`. Raises UserError for more than two channels."""
        start = time.perf_counter()
        stream = opus_encode(wav, sample_rate, self.bit_rate)
        middle = time.perf_counter()
        back = opus_decode(stream).to(wav.device)
        return Coded(back, middle - start, time.perf_counter() - middle, bits_per_second=stream.bits_per_second)


def with_references(
    codec: "CompressionModel", name: str, against: tp.Sequence[tuple["CompressionModel", str]] = (), opus: bool = True
) -> list[Coder]:
    """A codec, the others it is held `against`, itself with 1, 2 and 3 codebooks where it has more, and Opus.

    Raises:
        UserError: a codec without codebooks, or no libopus.
    """
    coders: list[Coder] = [CodecCoder(codec, name), *(CodecCoder(other, label) for other, label in against)]
    for k in range(1, min(4, codec.num_codebooks)):
        coders.append(CodecCoder(codec, f"{name}, {k} codebook{'s' if k > 1 else ''}", "codebooks", k))
    if opus:
        coders += [OpusCoder(bit_rate) for bit_rate in OPUS_BIT_RATES]
    return coders


@contextmanager
def _codebooks_in_use(codec: "CompressionModel", count: int) -> tp.Iterator[None]:
    before = codec.num_codebooks
    try:
        codec.set_num_codebooks(count)
        yield
    finally:
        codec.set_num_codebooks(before)


def _now(device: torch.device) -> float:
    """The time, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


def _as_long_as(wav: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Rates that do not divide lose up to a few samples on the way."""
    length = reference.shape[1]
    return F.pad(wav, (0, max(0, length - wav.shape[1])))[:, :length]
