"""Audio out of containers that libsndfile cannot read (m4a, aac, video, …), through PyAV (FFmpeg's libraries)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

# Lossy decoders need a run-up after a seek until their output is what it would be in one go: an AAC frame overlaps with
# the one before, MP3 borrows bits from earlier frames, Opus asks for 80 ms.
_RUN_UP = 0.3
# Containers without an index: FFmpeg guesses positions from the bit rate there, so a seek would land anywhere.
_NO_INDEX = {"aac", "mp3", "ac3", "eac3", "dts", "loas"}


def av_info(path: str | Path) -> tuple[int, float, int]:
    """Sample rate [Hz], duration [s] and channels of the first audio stream.

    Raises:
        ValueError: the file has no audio that FFmpeg can decode; the message is the reason.
    """
    import av

    try:
        with av.open(str(path)) as container:
            stream = _audio_stream(container)
            return stream.rate, _duration(container, stream), stream.channels
    except (av.FFmpegError, OverflowError) as error:
        raise ValueError(_reason(error)) from error


def av_read(path: str | Path, seek_time: float = 0.0, duration: float = -1.0) -> tuple[np.ndarray, int]:
    """Decode [C, T] float32 from `seek_time` on, `duration` seconds of it unless the file ends before; negative: all.

    Exact to the sample where the container keeps fine time stamps (mp4, m4a); Matroska and WebM place it within 1 ms.

    Raises:
        ValueError: as `av_info`.
    """
    import av

    try:
        with av.open(str(path)) as container:
            stream = _audio_stream(container)
            first = int(seek_time * stream.rate)
            last = None if duration < 0 else first + int(duration * stream.rate)
            blocks = list(_decode(container, stream, first, last))
            empty = np.zeros((stream.channels, 0), dtype=np.float32)
            return np.concatenate(blocks, axis=1) if blocks else empty, stream.rate
    except (av.FFmpegError, OverflowError) as error:
        raise ValueError(_reason(error)) from error


def av_blocks(path: str | Path) -> tuple[Iterator[np.ndarray], int]:
    """The whole file as consecutive blocks [C, t] float32 of the codec's own size, and the sample rate.

    Raises:
        ValueError: as `av_info`; also while the blocks are read.
    """
    import av

    try:
        container = av.open(str(path))
        stream = _audio_stream(container)
    except (av.FFmpegError, OverflowError) as error:
        raise ValueError(_reason(error)) from error

    def blocks() -> Iterator[np.ndarray]:
        try:
            with container:
                yield from _decode(container, stream, 0, None)
        except (av.FFmpegError, OverflowError) as error:
            raise ValueError(_reason(error)) from error

    return blocks(), stream.rate


def _audio_stream(container: Any) -> Any:
    if not container.streams.audio:
        raise ValueError("it has no audio stream")
    stream = container.streams.audio[0]
    if not stream.rate or not stream.channels:
        raise ValueError("its audio stream names no sample rate")
    return stream


def _duration(container: Any, stream: Any) -> float:
    if not _NO_INDEX.intersection(container.format.name.split(",")):
        if stream.duration is not None:
            return float(stream.duration * stream.time_base)
        if container.duration is not None:
            return container.duration / 1_000_000
    # Not written anywhere: add up the packets, which needs no decoding.
    ticks = sum(packet.duration or 0 for packet in container.demux(stream))
    return float(ticks * stream.time_base)


def _decode(container: Any, stream: Any, first: int, last: int | None) -> Iterator[np.ndarray]:
    """Blocks [C, T] that joined are the samples first..last of the stream."""
    import av

    rate, base = stream.rate, stream.time_base
    start = stream.start_time or 0
    indexed = not _NO_INDEX.intersection(container.format.name.split(","))
    if stream.duration and indexed:
        # The last frame of an AAC file is longer than the music; without the cut a loop would not close.
        length = round(stream.duration * base * rate)
        last = length if last is None else min(last, length)
    if first > 0 and indexed:
        container.seek(max(start, start + int((first / rate - _RUN_UP) / base)), stream=stream)
    to_float = av.AudioResampler(format="fltp")
    position: int | None = None
    for frame in container.decode(stream):
        if position is None:
            # Time stamps place the first frame after a seek; from there on samples are counted, stamps being too
            # coarse.
            seeked = first > 0 and indexed and frame.pts is not None
            position = round((frame.pts - start) * base * rate) if seeked else 0
        for part in to_float.resample(frame):
            block = part.to_ndarray()
            begin = max(0, first - position)
            end = block.shape[1] if last is None else min(block.shape[1], last - position)
            position += block.shape[1]
            if begin < end:
                yield block[:, begin:end]
        if last is not None and position >= last:
            return


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()
