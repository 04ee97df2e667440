"""A language model and a codec, ready to play: made when they are first needed, and again when their weights change."""

import typing as tp

import torch
from torch import Tensor

from ..modules.sampling import SamplingParams
from .codec import CompressionModel, StreamDecoder
from .fast import FastLM, resolve_precision, versions
from .generate import TokenDecoder, check_result, check_room
from .lm import LMModel
from .stream import Streamer
from .windows import SongDecoder


class Playback:
    """What a generating model plays with.

    Args:
        lm, codec: the models; they are not changed.
        precision: see `resolve_precision`; with int8 the codec's recurrent weights are rounded to float16, too.
        device: where the language model plays.
    """

    def __init__(self, lm: LMModel, codec: CompressionModel, precision: str, device: torch.device) -> None:
        self._lm, self._codec, self._device = lm, codec, device
        self.precision = resolve_precision(precision, device)
        self._fast: FastLM | None = None
        self._decoder: StreamDecoder | None = None
        self._decoder_versions: tp.Any = None

    def __getstate__(self) -> dict[str, tp.Any]:
        # What is made of the models is made again: packed weights can be neither copied nor pickled.
        return {**vars(self), "_fast": None, "_decoder": None, "_decoder_versions": None}

    def is_of(self, lm: LMModel, codec: CompressionModel) -> bool:
        """Whether these are the models that are played."""
        return self._lm is lm and self._codec is codec

    @property
    def lm(self) -> FastLM:
        """The language model as its weights are now."""
        if self._fast is None or not self._fast.is_current(self._lm):
            self._fast = FastLM(self._lm, self.precision, self._device)
        return self._fast

    @property
    def codec(self) -> StreamDecoder:
        """The codec's decoder as its weights are now, for streams.

        Raises:
            UserError: it has to know the whole signal first.
        """
        current = versions(self._codec)
        if self._decoder is None or self._decoder_versions != current:
            self._decoder = self._codec.stream_decoder(half=self.precision == "int8")
            self._decoder_versions = current
        return self._decoder

    def songs(self, params: SamplingParams, cfg_coef: float | None, window: int, stride: int) -> SongDecoder:
        """Draws codes; `window` and `stride` in frames."""
        return SongDecoder(TokenDecoder(self.lm, params, cfg_coef), window, stride)

    def streamer(self, songs: SongDecoder, chunk: float) -> Streamer:
        """Draws and decodes in chunks of so many seconds."""
        return Streamer(songs, self.codec, self._codec.frame_rate, chunk)

    def check_size(self, batch: int, frames: int) -> None:
        """Raises UserError where the sound of so many frames would not fit into memory, or that of a GPU."""
        clip = frames * self._codec.hop_length * self._codec.channels * 4
        check_result(batch * clip)
        check_room(self._device, clip, batch)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, K, F] → wav [B, C, T].

        Raises:
            UserError: codes that do not exist.
        """
        if not self._codec.can_stream:
            return self._codec.decode(codes.to(self._codec.device), None)
        self._codec.check_codes(codes)
        return self.codec.decode(codes)
