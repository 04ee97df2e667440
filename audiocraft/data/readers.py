"""One way to read every audio file: its length, any stretch of it, and all of it in blocks agree to the sample."""

import math
import os
import stat
import typing as tp
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from .audio_utils import convert_audio
from .containers import Reader, Span, find_spans, is_something_else, starts_as

# Times full scale (80 dB above it): louder samples are no sound but bytes read wrongly, and one such file drowns all
# others in a mean or a gradient.
LOUDEST = 1e4
# Times full scale: samples above are integers written as floating point, or a mix gone wrong; they are scaled down.
_LOUD = 10.0
_NO_AUDIO = "it is not an audio file"
_RATES = (100, 12_288_000)  # Hz
_BLOCK = 1 << 18
_FLOATING = {"FLOAT", "DOUBLE"}
# Readers of files are kept, with the places of packets in them, for as many files.
_KEPT = 64
_MOST_LINKS = 10_000


class SoundReader(Reader):
    """Of a span that libsndfile reads."""

    def __init__(self, span: Span) -> None:
        import soundfile

        super().__init__(span)
        try:
            with span.open() as raw, soundfile.SoundFile(raw) as file:
                self.rate, self.channels, self.frames = file.samplerate, file.channels, file.frames
                self.floating = file.subtype in _FLOATING
                if file.subtype == "MPEG_LAYER_III" or not file.seekable():
                    raise ValueError(_NO_AUDIO)  # PyAV counts its frames, or goes through it from the start
        except (soundfile.LibsndfileError, OSError) as error:
            raise ValueError(sound_reason(error)) from error
        # Each sample takes a bit at least.
        if self.frames > 8 * (span.end - span.begin + len(span.head)):
            raise ValueError("its header promises more samples than the file can hold")

    def parts(self, first: int, last: int) -> tp.Iterator[np.ndarray]:
        import soundfile

        place = first
        try:
            with self.span.open() as raw, soundfile.SoundFile(raw) as file:
                file.seek(first)
                while place < last:
                    # libsndfile scales integers of any depth to [-1, 1).
                    block = file.read(min(_BLOCK, last - place), dtype="float32", always_2d=True)
                    if not len(block):
                        break
                    place += len(block)
                    yield block.T
        except (soundfile.LibsndfileError, OSError) as error:
            if place == first == 0:
                raise ValueError(sound_reason(error)) from error
        if place < last:
            self.damage.add(place / self.rate)
        while place < last:
            yield np.zeros((self.channels, min(_BLOCK, last - place)), np.float32)
            place += _BLOCK


class AudioFile:
    """A file as one stream of `frames` samples at `rate` Hz on `channels`: those of its first link."""

    def __init__(self, path: str, links: list[tuple[Span, Reader]]) -> None:
        self.path = path
        self._links = links
        self.rate, self.channels = links[0][1].rate, links[0][1].channels
        self.floating = any(reader.floating for _, reader in links)
        self._lengths = [reader.frames * self.rate // reader.rate for _, reader in links]
        self.frames = sum(self._lengths)
        self._gain: float | None = None
        if any(reader.channels > self.channels > 1 or 1 < reader.channels < self.channels for _, reader in links):
            raise ValueError("it is a chain of files of different numbers of channels")

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.frames / self.rate

    def notes(self) -> list[str]:
        """What a listener should know: fewer or more samples than promised, damage that was met, samples that are
        scaled."""
        out = []
        for (span, reader), length in zip(self._links, self._lengths):
            there = length / self.rate
            promised = there * span.promised if reader.promised is None else reader.promised / reader.rate
            if not promised and there:
                out.append(f"its header names no length; all {there:.2f} s that are there are read")
            elif promised > there:
                out.append(f"its header promises {promised:.2f} s, {there:.2f} s are there")
            elif promised < there:
                out.append(f"its header promises {promised:.2f} s; all {there:.2f} s that are there are read")
            if span.note:
                out.append(span.note)
            if reader.damage:
                places = f"{len(reader.damage)} places, the first" if len(reader.damage) > 1 else "one place,"
                out.append(
                    f"it is damaged in {places} at {min(reader.damage):.2f} s; what cannot be decoded is left silent"
                )
            out += reader.remarks
        if len({(reader.rate, reader.channels) for _, reader in self._links}) > 1:
            out.append(f"its parts differ; all is read at {self.rate} Hz with {self.channels} channels")
        if self.gain != 1:
            out.append(f"its samples reach {1 / self.gain:.4g} times full scale; they are scaled to fit it")
        return list(dict.fromkeys(out))

    @property
    def gain(self) -> float:
        """What samples are multiplied with."""
        if self._gain is None:
            peak = 0.0
            if self.floating:
                for block in self._raw(0, self.frames):
                    peak = max(peak, float(np.abs(block, where=np.isfinite(block), out=np.zeros_like(block)).max()))
            self._gain = 1 / peak if _LOUD < peak <= LOUDEST else 1.0
        return self._gain

    def parts(self, first: int, last: int) -> tp.Iterator[torch.Tensor]:
        """Blocks [C, t] float32 that joined are the samples `first` to `last`, as far as the file goes.

        Raises:
            ValueError: the file cannot be read any more; the message is the reason.
        """
        for block in self._raw(first, min(last, self.frames)):
            yield torch.from_numpy(block * np.float32(self.gain) if self.gain != 1 else block)

    def read(self, first: int, last: int) -> torch.Tensor:
        """The samples `first` to `last` [C, T], as far as the file goes."""
        return torch.cat([torch.zeros(self.channels, 0), *self.parts(first, last)], dim=1)

    def _raw(self, first: int, last: int) -> tp.Iterator[np.ndarray]:
        for (_, reader), length in zip(self._links, self._lengths):
            begin, end = max(0, first), min(length, last)
            if begin < end and (reader.rate, reader.channels) == (self.rate, self.channels):
                yield from reader.parts(begin, end)
            elif begin < end:
                whole = torch.from_numpy(np.concatenate(list(reader.parts(0, reader.frames)), axis=1))
                yield convert_audio(whole, reader.rate, self.rate, self.channels)[:, begin:end].numpy()
            first, last = first - length, last - length


def open_audio(path: str | Path) -> AudioFile:
    """The reader of a file; kept, as long as the file does not change.

    Raises:
        ValueError: it has no audio that libsndfile or PyAV reads; the message is the reason.
        OSError: it cannot be read at all.
    """
    state = Path(path).stat()
    if not stat.S_ISREG(state.st_mode):
        raise ValueError("it is a folder" if stat.S_ISDIR(state.st_mode) else "it is no ordinary file")
    if not os.access(path, os.R_OK):
        raise ValueError("permission denied")
    if not state.st_size:
        raise ValueError("the file is empty")
    return _open(str(Path(path).absolute()), (state.st_size, state.st_mtime_ns, state.st_ino))


@lru_cache(maxsize=_KEPT)
def _open(path: str, state: tuple[int, int, int]) -> AudioFile:
    with open(path, "rb") as file:
        head = file.read(4096)
    if is_something_else(head):
        raise ValueError(_NO_AUDIO)
    links: list[tuple[Span, Reader]] = []
    spans = find_spans(path)[::-1]
    while spans:
        span = spans.pop()
        try:
            reader = _reader(span)
        except ValueError as error:
            if not links:
                raise
            seconds = sum(reader.frames / reader.rate for _, reader in links)
            last, reader = links.pop()
            links.append((replace(last, note=f"a part after {seconds:.2f} s is not read: {error}"), reader))
            continue
        links.append((span, reader))
        if len(links) > _MOST_LINKS:
            raise ValueError("it is no stream of one kind")
        spans += [Span(path, place, span.end) for place in reader.breaks]
    return AudioFile(path, links)


def _reader(span: Span) -> Reader:
    with span.open() as file:
        head = file.read(4096)
    reasons = []
    for name in starts_as(head):
        try:
            reader = SoundReader(span) if name == "soundfile" else _av_reader(span)
            if not _RATES[0] <= reader.rate <= _RATES[1]:
                raise ValueError(f"its sample rate is {reader.rate} Hz")
            return reader
        except ValueError as error:
            reasons.append(str(error))
    if head[4:8] == b"ftyp" and set(reasons) == {_NO_AUDIO}:
        raise ValueError("it is not whole: its index is missing")
    raise ValueError(next((reason for reason in reasons if reason != _NO_AUDIO), _NO_AUDIO))


def _av_reader(span: Span) -> Reader:
    from .av_audio import AvReader

    return AvReader(span)


def sound_reason(error: Exception) -> str:
    """libsndfile's message in our words."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    unknown = ("not recognised", "not a regular file", "internal error", "malformed", "end of file")
    return _NO_AUDIO if any(word in text.lower() for word in unknown) else text.lower()


def check_samples(wav: torch.Tensor) -> None:
    """Raises ValueError where samples [C, T] cannot be meant as sound."""
    if not wav.numel():
        return
    # In the order they lie in memory, which for libsndfile's blocks is the other one, it is sixty times as fast.
    low, high = (wav if wav.is_contiguous() else wav.T).aminmax()
    peak = max(-low.item(), high.item())
    if not math.isfinite(peak):
        raise ValueError("it holds NaN or infinite samples")
    if peak > LOUDEST:
        raise ValueError(f"its samples reach {peak:.1e} times full scale")
