"""A codec of envelopes and partials: no network, no phases in its codes, a minute of training.

An envelope frame is 4 columns of 64 bands in log magnitudes; its codes are residual vectors in the space of its
principal components. One codebook is a partial's pitch and level. `audiocraft.modules.sines` makes sound of them.
"""

import math
import typing as tp

import numpy as np
import torch
from torch.nn import functional as F

from ..errors import UserError
from ..modules import partials, sines
from ..modules.chunked import StreamState
from ..quantization.base import QuantizedResult
from .codec import CompressionModel, StreamDecoder, read_through
from .spectral_quantizer import SpectralQuantizer

_PIECE = 512  # frames that are coded together
_COLUMN_REACH = (sines.WINDOW - sines.HOP) // 2  # samples that a column's window reaches beyond it


class SpectralModel(CompressionModel):
    """Mono at 32 kHz, 50 frames per second, K codebooks: an envelope, a partial, and K - 2 that refine the envelope.

    Args:
        quantizer: the codebooks; everything else is fixed.
    """

    quantizer: SpectralQuantizer
    pool: torch.Tensor

    def __init__(self, quantizer: SpectralQuantizer) -> None:
        super().__init__()
        self.channels, self.sample_rate = 1, sines.SAMPLE_RATE
        self.hop_length = sines.FRAME
        self.frame_rate = self.sample_rate // self.hop_length
        self.quantizer = quantizer
        self.register_buffer("pool", band_matrices()[0], persistent=False)

    @property
    def inner_rates(self) -> list[float]:
        """As CompressionModel.inner_rates: frames, and columns of 5 ms."""
        return [self.frame_rate, self.sample_rate / sines.HOP]

    def forward(self, x: torch.Tensor) -> QuantizedResult:
        """As CompressionModel.forward. In training mode nothing is decoded: x of the result are the coded envelopes
        [B, COLUMNS * BANDS, F], the codebooks follow those of the input, and nothing takes a gradient."""
        self.check_wav(x)
        if self.training:
            return self.quantizer(self.envelopes(x), self.frame_rate)
        codes, _ = self.encode(x)
        bandwidth = self.quantizer.bandwidth(codes, self.frame_rate)
        return QuantizedResult(self.decode(codes)[..., : x.shape[-1]], codes, bandwidth, penalty=x.new_zeros(()))

    def envelopes(self, x: torch.Tensor) -> torch.Tensor:
        """wav [B, 1, T] → its envelopes in log10 magnitudes, [B, COLUMNS * BANDS, F]."""
        beyond = -x.shape[-1] % self.hop_length
        wav = F.pad(x[:, 0].float(), (_COLUMN_REACH, _COLUMN_REACH + beyond))
        return envelope(wav, self.pool).transpose(1, 2)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        """As CompressionModel.encode, of any length, in pieces. Raises UserError for a wrong shape, NaN or
        infinities."""
        return torch.cat(list(self.encode_blocks(x.split(_PIECE * self.hop_length, dim=-1) or [x])), dim=-1), None

    @torch.no_grad()
    def encode_blocks(self, wavs: tp.Iterable[torch.Tensor]) -> tp.Iterator[torch.Tensor]:
        """As CompressionModel.encode_blocks."""
        reach, size = partials.REACH, _PIECE * self.hop_length
        held: torch.Tensor | None = None  # with `reach` samples before the next frame
        places: partials.PlacesState | None = None
        for wav in wavs:
            if wav.shape[-1] == 0:
                continue
            self.check_wav(wav)
            if held is None or places is None:
                held, places = wav.new_zeros(len(wav), reach), partials.start_places(len(wav))
            held = torch.cat([held, wav[:, 0].float()], dim=1)
            while held.shape[1] >= size + 2 * reach:
                yield self._codes(held[:, : size + 2 * reach], places)
                held = held[:, size:]
        if held is None or places is None:
            raise UserError("there is nothing to code: the stream is empty; give at least one sample or frame")
        while (left := held.shape[1] - reach) > 0:
            frames = min(_PIECE, -(-left // self.hop_length))
            end = frames * self.hop_length + 2 * reach
            yield self._codes(F.pad(held, (0, max(0, end - held.shape[1])))[:, :end], places)
            held = held[:, frames * self.hop_length :]

    def _codes(self, wav: torch.Tensor, places: partials.PlacesState) -> torch.Tensor:
        """Codes [B, K, F] of wav [B, F * FRAME], which has `partials.REACH` samples more on either side."""
        tones = partials.choose_partials(places, *partials.find_partials(wav)).to(wav.device)
        cut = partials.REACH - _COLUMN_REACH
        return self.quantizer.encode_envelope(envelope(wav[:, cut : wav.shape[1] - cut], self.pool), tones)

    @torch.no_grad()
    def decode(self, codes: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
        """As CompressionModel.decode, in pieces. Raises UserError for codes that do not exist."""
        self.quantizer.check_codes(codes)
        return SpectralDecoder(self).decode(codes)

    @property
    def can_stream(self) -> bool:
        """As CompressionModel.can_stream."""
        return True

    def stream_decoder(self, half: bool = False) -> "SpectralDecoder":
        """As CompressionModel.stream_decoder."""
        return SpectralDecoder(self)

    def bent_decoder(
        self, others: tp.Sequence[tuple[str, CompressionModel]] = (), buzz: bool = False
    ) -> "SpectralDecoder":
        """As CompressionModel.bent_decoder."""
        if strange := [name for name, other in others if not isinstance(other, SpectralModel)]:
            raise UserError(f"{strange[0]} codes no spectra, as the codec does; look codes up in a codec of its kind")
        return SpectralDecoder(self, [other for _, other in others if isinstance(other, SpectralModel)], buzz)

    def tables(self) -> dict[str, np.ndarray]:
        """What decoding needs beside `sines`: `mean`, `basis` and `books` of the quantiser, and `spread`."""
        quantizer = self.quantizer
        tables = {"mean": quantizer.mean, "basis": quantizer.basis, "books": quantizer.books}
        return {name: table.float().cpu().numpy() for name, table in {**tables, "spread": band_matrices()[1]}.items()}

    def decode_latent(self, codes: torch.Tensor) -> torch.Tensor:
        """codes [B, K, F] → latents [B, D, F], float32."""
        return self.quantizer.decode(codes)


def envelope(wav: torch.Tensor, pool: torch.Tensor) -> torch.Tensor:
    """wav [B, F * FRAME] with `_COLUMN_REACH` samples more on either side → log10 band magnitudes [B, F, COLUMNS *
    BANDS]."""
    window = torch.hann_window(sines.WINDOW, device=wav.device)
    spectrum = torch.stft(wav, sines.WINDOW, sines.HOP, window=window, center=False, return_complex=True)
    bands = torch.sqrt(spectrum.abs().square().transpose(1, 2) @ pool)
    return torch.log10(bands + sines.FLOOR).unflatten(1, (-1, sines.COLUMNS)).flatten(2)


def band_matrices() -> tuple[torch.Tensor, torch.Tensor]:
    """How powers of bins become those of bands, [BINS, BANDS]: weighted means around centres evenly spaced in mel from
    30 Hz on; and how magnitudes of bands become those of bins, [BANDS, BINS]: bins lie between bands."""
    low, high = _mel(30.0), _mel(sines.SAMPLE_RATE / 2)
    mel = torch.linspace(low, high, sines.BANDS + 2, dtype=torch.float64)
    edges = 700 * (10 ** (mel / 2595) - 1) * (sines.WINDOW / sines.SAMPLE_RATE)  # in bins
    k = torch.arange(sines.BINS, dtype=torch.float64)[:, None]
    rise, fall = (k - edges[:-2]) / (edges[1:-1] - edges[:-2]), (edges[2:] - k) / (edges[2:] - edges[1:-1])
    weight = torch.minimum(rise, fall).clamp(min=0)
    # Low bands are narrower than a bin: they take the two bins beside them.
    narrow = weight.sum(0) < 0.3
    weight[:, narrow] = (1 - (k - edges[1:-1][narrow]).abs()).clamp(min=0)
    spread = weight.T.clone()
    spread[:, 0], spread[0, 0] = 0, 1
    above = spread.sum(0) < 0.5 * (k[:, 0] > edges[-2])
    spread[-1, above] = 1
    return (weight / weight.sum(0)).float(), (spread / spread.sum(0).clamp(min=1e-6)).float()


def _mel(hz: float) -> float:
    return 2595 * math.log10(1 + hz / 700)


class SpectralDecoder(StreamDecoder):
    """codes → wav on streams, as the model's tables are when it is made; see `sines.SinesDecoder`.

    `others`: codecs whose codebooks codes beyond the model's own read, one after the other; modulo their number, and in
    the model's own codebook where they have none. `buzz`: clicks instead of tones and noise.
    """

    def __init__(self, model: SpectralModel, others: tp.Sequence[SpectralModel] = (), buzz: bool = False) -> None:
        own = model.quantizer.envelope_vectors()
        tables = [own, *(read_through(own, other.quantizer.envelope_vectors()) for other in others)]
        arrays = (model.quantizer.mean, torch.cat(tables, dim=1), band_matrices()[1])
        mean, books, spread = (array.detach().float().cpu().numpy() for array in arrays)
        self.channels, self.hop_length = model.channels, model.hop_length
        self._sines = sines.SinesDecoder(mean, books, spread, own.shape[1], buzz)

    def block(self, batch: int) -> int:
        """As StreamDecoder.block."""
        return _PIECE

    def push(self, state: StreamState, codes: torch.Tensor, last: bool = False) -> torch.Tensor:
        """As StreamDecoder.push. There is no scale."""
        inner = self._sines.start()
        for name, value in state.items():
            setattr(inner, name, value.cpu().numpy() if isinstance(value, torch.Tensor) else value)
        wav = self._sines.push(inner, codes.cpu().numpy(), last)
        for name, value in vars(inner).items():
            state[name] = torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value
        return torch.from_numpy(wav)[:, None].to(codes.device)
