"""EnCodec (Défossez et al. 2022, "High Fidelity Neural Audio Compression"), on signals of any length.

Long ones are coded block by block, in bounded memory and with the result of the whole signal.
"""

import math
import typing as tp
from contextlib import nullcontext

import torch
from torch import nn

from ..errors import UserError
from ..modules.chunked import Pieces, StreamState, can_stream
from ..modules.seanet import SEANetDecoder, SEANetEncoder
from ..quantization.base import BaseQuantizer, QuantizedResult, sum_of_vectors
from ..utils.device import full_float32
from ..utils.left_out import missing
from .codec import CompressionModel, StreamDecoder, read_through

__all__ = ["CompressionModel", "EncodecModel"]

_WHOLE_SECONDS = 8.0  # so much audio (over the batch) is coded in one go; beyond it blocks are faster, near the caches
# On a GPU three such tensors and the working space of its kernels must fit what `generate.check_room` leaves.
_ELEMENTS_PER_BLOCK = {"cpu": 2**22, "cuda": 2**23, "mps": 2**23}


class EncodecDecoder(StreamDecoder):
    """The decoder of an `EncodecModel`. Raises UserError for one that needs to know the whole signal first
    (time_group_norm)."""

    def __init__(self, codec: "EncodecModel", half: bool = False):
        self.channels, self.hop_length = codec.channels, codec.hop_length
        self._codec = codec
        if codec.device.type != "cpu":
            self.clips = max(1, codec.block_elements // (codec.width * codec.sample_rate))
        self._pieces = Pieces(tp.cast(SEANetDecoder, codec.decoder), half)

    def block(self, batch: int) -> int:
        """As StreamDecoder.block."""
        return self._codec.block_samples(batch) // self.hop_length

    @torch.no_grad()
    def push(self, state: StreamState, codes: torch.Tensor, last: bool = False) -> torch.Tensor:
        """As StreamDecoder.push."""
        with full_float32():
            latents = self._codec.decode_latent(codes.to(self._codec.device))
            return self._pieces.push(state, latents, last).to(codes.device)


class _BentQuantizer(BaseQuantizer):
    """Reads codes in `tables` [K, codes, D] without checking them."""

    def __init__(self, tables: torch.Tensor):
        super().__init__()
        # A row of zeros at the end, so that HOLE, as Python's -1, finds silence.
        silent = torch.cat([tables, torch.zeros_like(tables[:, :1])], dim=1)
        self.register_buffer("tables", silent, persistent=False)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Bent codes [B, K, F] → latents [B, D, F]."""
        return sum_of_vectors(tp.cast(torch.Tensor, self.tables), codes)

    def check_codes(self, codes: torch.Tensor) -> None:
        """Nothing."""


def _resize(blocks: tp.Iterable[torch.Tensor], size: int) -> tp.Iterator[tuple[torch.Tensor, bool]]:
    """Cut blocks [..., t] to at most `size`, drop empty ones, and mark the last. Raises UserError if there is none."""
    held: torch.Tensor | None = None
    for block in blocks:
        for part in block.split(size, dim=-1):
            if part.shape[-1] == 0:
                continue
            if held is not None:
                yield held, False
            held = part
    if held is None:
        raise UserError("there is nothing to code: the stream is empty; give at least one sample or frame")
    yield held, True


class EncodecModel(CompressionModel):
    """EnCodec: convolutional encoder and decoder around a residual vector quantiser.

    `encode`, `decode`, and `forward` in evaluation mode compute float32 in full, see `full_float32`; training leaves
    TF32 as torch sets it.

    Args:
        encoder, decoder: wav [B, C, T] → latents [B, D, F] and back.
        frame_rate: latents per second. sample_rate: Hz. channels: C.
        causal: whether encoder and decoder are.
        renormalize: code each clip at unit RMS and pass its scale along.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        quantizer: BaseQuantizer,
        frame_rate: int,
        sample_rate: int,
        channels: int,
        causal: bool = False,
        renormalize: bool = False,
    ):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.quantizer = quantizer
        self.frame_rate = frame_rate
        self.sample_rate = sample_rate
        self.channels = channels
        self.causal = causal
        self.renormalize = renormalize
        self.hop_length = tp.cast(int, encoder.hop_length)

    @property
    def inner_rates(self) -> list[float]:
        """As CompressionModel.inner_rates: the frame rate, and the rate after each of the decoder's upsamplings."""
        ratios = tp.cast(list[int], self.decoder.ratios)
        return [self.sample_rate / self.hop_length * math.prod(ratios[:i]) for i in range(len(ratios))]

    def block_samples(self, batch: int = 1) -> int:
        """Samples per block and clip, a multiple of the hop, at least one second: what keeps the widest activation near
        16 MiB on a CPU, 32 MiB on a GPU."""
        samples = max(self.sample_rate, self.block_elements // (self.width * batch))
        return samples // self.hop_length * self.hop_length

    @property
    def width(self) -> int:
        """Channels at the sample rate, inside."""
        return max(1, tp.cast(int, self.encoder.n_filters))

    @property
    def block_elements(self) -> int:
        """Numbers that the widest activation of a block should have."""
        return _ELEMENTS_PER_BLOCK.get(self.device.type, 2**22)

    @property
    def can_stream(self) -> bool:
        """As CompressionModel.can_stream."""
        return can_stream(self)

    def _needs_blocks(self, batch: int, samples: int) -> bool:
        """Whether clips of so many samples are coded in blocks: long ones, outside training and autograd."""
        if self.training or torch.is_grad_enabled() or batch * samples <= _WHOLE_SECONDS * self.sample_rate:
            return False
        return samples > self.block_samples(batch) and self.can_stream

    def encode_blocks(self, wavs: tp.Iterable[torch.Tensor]) -> tp.Iterator[torch.Tensor]:
        """As CompressionModel.encode_blocks."""
        if self.renormalize:
            raise UserError("a codec with renormalize=true scales by the loudness of the whole file; use encode()")
        return self._encode_blocks(wavs, self.block_samples(), None)

    @torch.no_grad()
    def _encode_blocks(
        self, wavs: tp.Iterable[torch.Tensor], size: int, scale: torch.Tensor | None
    ) -> tp.Iterator[torch.Tensor]:
        pieces, state = Pieces(tp.cast(SEANetEncoder, self.encoder)), StreamState()
        for wav, last in _resize(wavs, size):
            self.check_wav(wav)
            with full_float32():
                codes = self.quantizer.encode(pieces.push(state, self.normalize(wav, scale), last))
            if codes.shape[-1]:
                yield codes

    def stream_decoder(self, half: bool = False) -> EncodecDecoder:
        """As CompressionModel.stream_decoder."""
        return EncodecDecoder(self, half)

    def bent_decoder(
        self, others: tp.Sequence[tuple[str, CompressionModel]] = (), buzz: bool = False
    ) -> "EncodecModel":
        """As CompressionModel.bent_decoder."""
        if buzz:
            raise UserError(
                "--buzz goes with spectral codecs, whose phases are free; leave it out, or give another --codec"
            )
        tables = [_bendable(self, "the codec")]
        for name, other in others:
            found = _bendable(other, name)
            if found.shape[2] != tables[0].shape[2]:
                raise UserError(
                    f"{name} has code vectors {found.shape[2]} wide, the codec {tables[0].shape[2]}; look codes up in "
                    "a codec of the same width (seanet.dimension)"
                )
            tables.append(read_through(tables[0], found))
        quantizer = _BentQuantizer(torch.cat(tables, dim=1))
        settings = {
            key: getattr(self, key) for key in ("frame_rate", "sample_rate", "channels", "causal", "renormalize")
        }
        return EncodecModel(self.encoder, self.decoder, quantizer, **settings).eval()

    def preprocess(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """wav [B, C, T] → (wav to code, its scale [B, 1] or None)."""
        scale = self.measure_scale(x)
        return self.normalize(x, scale), scale

    def measure_scale(self, x: torch.Tensor) -> torch.Tensor | None:
        """RMS [B, 1] of the mix of x [B, C, T], for a codec that renormalizes; summed by the second to spare memory."""
        if not self.renormalize:
            return None
        seconds = [part.mean(dim=1).pow(2).sum(dim=1) for part in x.split(self.sample_rate, dim=2)]
        return (1e-8 + (torch.stack(seconds).sum(dim=0) / x.shape[-1]).sqrt()).view(-1, 1)

    def normalize(self, x: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
        """x [B, C, T] at unit scale."""
        return x if scale is None else x / scale.view(-1, 1, 1)

    def postprocess(self, x: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
        """Undo `preprocess` on a decoded wav [B, C, T]."""
        return x if scale is None else x * scale.view(-1, 1, 1)

    def forward(self, x: torch.Tensor) -> QuantizedResult:
        """wav [B, C, T] → QuantizedResult whose x is the decoded wav [B, C, T], of the input's length.

        Raises UserError for a wrong shape, NaN or infinities.
        """
        self.check_wav(x)
        length = x.shape[-1]
        if self._needs_blocks(len(x), length):
            codes, scale = self.encode(x)
            wav = self.decode(codes, scale)[..., :length]
            bandwidth = self.quantizer.bandwidth(codes, self.frame_rate)
            return QuantizedResult(wav, codes, bandwidth, penalty=torch.zeros((), device=x.device))
        x, scale = self.preprocess(x)
        with nullcontext() if self.training else full_float32():
            result = self.quantizer(self.encoder(x), self.frame_rate)
            result.x = self.postprocess(self.decoder(result.x)[..., :length], scale)
        return result

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """As CompressionModel.encode, long input in blocks. Raises UserError for a wrong shape, NaN or infinities."""
        self.check_wav(x)
        if self._needs_blocks(len(x), x.shape[-1]):
            scale = self.measure_scale(x)
            return torch.cat(list(self._encode_blocks([x], self.block_samples(len(x)), scale)), dim=-1), scale
        x, scale = self.preprocess(x)
        with full_float32():
            return self.quantizer.encode(self.encoder(x)), scale

    def decode(self, codes: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
        """As CompressionModel.decode, long input in blocks. Raises UserError for a wrong shape or codes that do not
        exist."""
        self.check_codes(codes)
        if self._needs_blocks(len(codes), codes.shape[-1] * self.hop_length):
            return self.stream_decoder().decode(codes, scale)
        with full_float32():
            return self.postprocess(self.decoder(self.decode_latent(codes)), scale)

    def decode_latent(self, codes: torch.Tensor) -> torch.Tensor:
        """codes [B, K, F] → latents [B, D, F], float32."""
        return self.quantizer.decode(codes)


def _bendable(codec: CompressionModel, name: str) -> torch.Tensor:
    if codec.codebooks is None:
        raise UserError(f"{name} has no codebooks that could be bent; take a codec with quantizer=rvq")
    return codec.codebooks


__getattr__ = missing(__name__)
