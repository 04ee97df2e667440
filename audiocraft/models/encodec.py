"""EnCodec (Défossez et al. 2022, "High Fidelity Neural Audio Compression"), on signals of any length.

Long ones are coded block by block, in bounded memory and with the result of the whole signal.
"""

import math
import typing as tp
from contextlib import nullcontext

import torch
from torch import nn

from ..errors import UserError
from ..modules.chunked import can_stream, plan
from ..quantization.base import BaseQuantizer, QuantizedResult
from ..utils.device import full_float32
from ..utils.left_out import missing
from .codec import CompressionModel

__all__ = ["CompressionModel", "EncodecModel"]

_WHOLE_SECONDS = 8.0  # so much audio (over the batch) is coded in one go; beyond it blocks are faster, near the caches
_ELEMENTS_PER_BLOCK = {"cpu": 2**22, "cuda": 2**26, "mps": 2**24}


class BlockEncoder:
    """wav → codes on streams. Weights are those at construction.

    Raises UserError for a codec that needs to know the whole signal first (time_group_norm).
    """

    def __init__(self, encoder: nn.Module, quantizer: BaseQuantizer):
        self.quantizer = quantizer
        self.stage = plan(encoder)

    def start(self) -> tp.Any:
        """State of a new stream."""
        return self.stage.start()

    @torch.no_grad()
    def push(self, state: tp.Any, wav: torch.Tensor, last: bool = False) -> torch.Tensor:
        """wav [B, C, t] (t may be 0) → the codes [B, K, f] that are final now, f may be 0."""
        with full_float32():
            return self.quantizer.encode(self.stage.push(state, wav, last))


class BlockDecoder:
    """codes → wav on streams. Weights are those at construction; errors as `BlockEncoder`.

    `half`: round the LSTM's recurrent weights to float16 (x86 only).
    """

    def __init__(self, decoder: nn.Module, quantizer: BaseQuantizer, channels: int, half: bool = False):
        self.quantizer = quantizer
        self.channels = channels
        self.stage = plan(decoder, half)

    def start(self) -> tp.Any:
        """State of a new stream."""
        return self.stage.start()

    @torch.no_grad()
    def push(self, state: tp.Any, codes: torch.Tensor, last: bool = False) -> torch.Tensor:
        """codes [B, K, f] (f may be 0) → the wav [B, C, t] that is final now."""
        with full_float32():
            return self.stage.push(state, self.quantizer.decode(codes), last)


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

    def block_samples(self, batch: int = 1) -> int:
        """Samples per block and clip, a multiple of the hop, at least one second: what keeps the widest activation near
        16 MiB on a CPU."""
        device = next(self.parameters()).device.type
        width = max(1, tp.cast(int, self.encoder.n_filters)) * batch
        samples = max(self.sample_rate, _ELEMENTS_PER_BLOCK.get(device, 2**22) // width)
        return samples // self.hop_length * self.hop_length

    def _needs_blocks(self, batch: int, samples: int) -> bool:
        """Whether clips of so many samples are coded in blocks: long ones, outside training and autograd."""
        if self.training or torch.is_grad_enabled() or batch * samples <= _WHOLE_SECONDS * self.sample_rate:
            return False
        return samples > self.block_samples(batch) and can_stream(self)

    def encode_blocks(self, wavs: tp.Iterable[torch.Tensor]) -> tp.Iterator[torch.Tensor]:
        """As CompressionModel.encode_blocks."""
        if self.renormalize:
            raise UserError("a codec with renormalize=true scales by the loudness of the whole file; use encode()")
        return self._encode_blocks(wavs, self.block_samples(), None)

    def _encode_blocks(
        self, wavs: tp.Iterable[torch.Tensor], size: int, scale: torch.Tensor | None
    ) -> tp.Iterator[torch.Tensor]:
        encoder = BlockEncoder(self.encoder, self.quantizer)
        state = encoder.start()
        for wav, last in _resize(wavs, size):
            self.check_wav(wav)
            codes = encoder.push(state, self.normalize(wav, scale), last)
            if codes.shape[-1]:
                yield codes

    def stream_decoder(self, half: bool = False) -> BlockDecoder:
        """As CompressionModel.stream_decoder."""
        return BlockDecoder(self.decoder, self.quantizer, self.channels, half)

    def decode_long(
        self, codes: torch.Tensor, decoder: BlockDecoder, scale: torch.Tensor | None = None
    ) -> torch.Tensor:
        """As `decode`, block by block with a `decoder` made before."""
        state = decoder.start()
        out = torch.empty(len(codes), self.channels, codes.shape[-1] * self.hop_length, device=codes.device)
        done = 0
        for block, last in _resize([codes], self.block_samples(len(codes)) // self.hop_length):
            wav = self.postprocess(decoder.push(state, block, last), scale)
            out[..., done : done + wav.shape[-1]] = wav
            done += wav.shape[-1]
        assert done == out.shape[-1]
        return out

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
        self.quantizer.check_codes(codes)
        if self._needs_blocks(len(codes), codes.shape[-1] * self.hop_length):
            return self.decode_long(codes, self.stream_decoder(), scale)
        with full_float32():
            return self.postprocess(self.decoder(self.decode_latent(codes)), scale)

    def decode_latent(self, codes: torch.Tensor) -> torch.Tensor:
        """codes [B, K, F] → latents [B, D, F], float32."""
        return self.quantizer.decode(codes)


__getattr__ = missing(__name__)
