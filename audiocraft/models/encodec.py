"""Audio codecs: what every one offers, and EnCodec (Défossez et al. 2022, "High Fidelity Neural Audio Compression")."""

import math
import typing as tp
from abc import ABC, abstractmethod
from contextlib import nullcontext

import torch
from torch import nn

from ..errors import UserError
from ..quantization.base import BaseQuantizer, QuantizedResult
from ..utils.device import full_float32
from ..utils.left_out import missing
from .codec_blocks import BlockDecoder, decode_blocks, decode_long, encode_blocks, encode_long, needs_blocks

__all__ = ["CompressionModel", "EncodecModel", "decode_blocks", "encode_blocks"]


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
    def cardinality(self) -> int:
        """Codes per codebook."""
        return tp.cast(int, self.quantizer.bins)

    @property
    def num_codebooks(self) -> int:
        """Codebooks in use, K."""
        return self.quantizer.num_codebooks

    @property
    def total_codebooks(self) -> int:
        """Codebooks there are."""
        return self.quantizer.total_codebooks

    def set_num_codebooks(self, n: int) -> None:
        """As CompressionModel.set_num_codebooks."""
        self.quantizer.set_num_codebooks(n)

    @property
    def inner_rates(self) -> list[float]:
        """As CompressionModel.inner_rates: the frame rate, and the rate after each of the decoder's upsamplings."""
        ratios = tp.cast(list[int], self.decoder.ratios)
        return [self.sample_rate / self.hop_length * math.prod(ratios[:i]) for i in range(len(ratios))]

    def encode_blocks(self, wavs: tp.Iterable[torch.Tensor]) -> tp.Iterator[torch.Tensor]:
        """As CompressionModel.encode_blocks."""
        return encode_blocks(self, wavs)

    def stream_decoder(self, half: bool = False) -> BlockDecoder:
        """As CompressionModel.stream_decoder."""
        return BlockDecoder(self, half)

    def check_wav(self, x: torch.Tensor) -> None:
        """Raises UserError unless x is [B, channels, T] with at least one sample, and, but for training, all finite."""
        if x.dim() != 3 or x.shape[1] != self.channels or x.shape[2] == 0:
            raise UserError(
                f"the codec takes audio of shape [batch, {self.channels}, samples], not {list(x.shape)}; "
                "convert it with audiocraft.data.audio_utils.convert_audio"
            )
        # In training the loss shows it, and nothing waits for a GPU. Codes of NaN would look like any others.
        if not self.training and not torch.stack(x.aminmax()).isfinite().all():
            raise UserError("the audio holds NaN or infinite samples; clean it, e.g. with torch.nan_to_num")

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
        if needs_blocks(self, len(x), length):
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
        if needs_blocks(self, len(x), x.shape[-1]):
            scale = self.measure_scale(x)
            return encode_long(self, x, scale), scale
        x, scale = self.preprocess(x)
        with full_float32():
            return self.quantizer.encode(self.encoder(x)), scale

    def decode(self, codes: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
        """As CompressionModel.decode, long input in blocks. Raises UserError for a wrong shape or codes that do not
        exist."""
        self.quantizer.check_codes(codes)
        if needs_blocks(self, len(codes), codes.shape[-1] * self.hop_length):
            return decode_long(self, codes, scale)
        with full_float32():
            return self.postprocess(self.decoder(self.decode_latent(codes)), scale)

    def decode_latent(self, codes: torch.Tensor) -> torch.Tensor:
        """codes [B, K, F] → latents [B, D, F], float32."""
        return self.quantizer.decode(codes)


__getattr__ = missing(__name__)
