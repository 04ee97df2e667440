"""Audio through PyAV (FFmpeg's libraries): MP3, AAC, Opus, FLAC, and whatever containers they and others come in.

Headers of such files tell lengths that are estimates, and seeking lands where a guess from the bit rate points. Both
are done here by counting packets, which needs no decoding where a packet says how many samples it holds. And decoders
carry state from packet to packet, some of it (noise that stands for noise) from the first one on. So that a stretch of
a file is the same to the bit whether it is read alone or with all the rest, decoding begins anew at fixed packets,
after a run-up. Codecs whose packets do not say what they hold are decoded from the first packet on, always.
"""

import typing as tp
from array import array
from collections import deque
from contextlib import contextmanager
from itertools import chain

import av
import numpy as np

from .containers import Reader, Span, codec_name
from .packets import contents, frames_promised, seconds_promised

# Seconds (about) that one decoder decodes, and packets decoded before them for its state: MP3 borrows up to 511 bytes
# from earlier frames, which at 8 kb/s is 30 of them; AAC and Vorbis overlap with the one before; Opus forgets within
# 80 ms.
_STRETCH, _RUN_UP = 10, 32
# What may be opened: nothing that makes sound of text or raw bytes, no pictures, no lists of other files.
_FORMATS = (
    "aac,ac3,eac3,ac4,dts,dtshd,truehd,mlp,loas,mp3,flac,ogg,wav,w64,aiff,au,caf,voc,matroska,webm,mov,mp4,3gp,3g2"
    ",asf,avi,flv,mpegts,mpeg,wv,ape,tta,tak,mpc,mpc8,amr,dsf,iff,rm,mxf,nut,oma,ircam,nistsphere,pvf,qcp,sox,wtv,shn"
    ",osq,wsd,avr,epaf,xwma,rso,dss,aa,act,swf,nsv,ivr,wve,paf,iamf,qoa,ty,gxf,dv"
)
# Packets that lie in the file as they are, with nothing around them.
_BARE = ("mp3", "aac")
# Formats that end with their last packet.
_PLAIN = ("tta", "wv", "dsf")
# Their packets hold what their time stamps say, and all but Vorbis decode without the ones before.
_STAMPED = ("alac", "tta", "wavpack", "vorbis")
_LOSSLESS = ("alac", "tta", "wavpack", "flac", "pcm")
_TRIAL, _MOST_CHANNELS = 8, 64
_DISCARD_ALL = 48  # FFmpeg's AVDISCARD_ALL
_NOWHERE = -1 << 62
_ERRORS = (av.FFmpegError, OverflowError, MemoryError)
# Seconds by which a header may be off without a word: encoders count their delay or do not, and time stamps are coarse.
_CLOSE, _CLOSE_STAMPS = 0.1, 0.15


class AvReader(Reader):
    """Of the default or first audio stream of what FFmpeg opens."""

    def __init__(self, span: Span) -> None:
        super().__init__(span)
        self._places: np.ndarray | None = None
        try:
            with self._open() as container:
                stream = _audio_stream(container, span)
                self._index, self._format = stream.index, container.format.name
                codec = stream.codec_context
                self.rate, self.channels = stream.rate, stream.channels
                # Lossy decoders put out floating point as well, but near full scale.
                self.floating = codec.name.startswith(("pcm_f", "wavpack")) and codec.format.name[:3] in ("flt", "dbl")
                promised, close = self._count(container, stream)
        except _ERRORS as error:
            raise ValueError(_reason(error)) from error
        if promised is not None and abs(promised - self.frames) > close * self.rate:
            self.promised = promised

    def parts(self, first: int, last: int) -> tp.Iterator[np.ndarray]:
        reached = first
        try:
            for place, block in self._from_start() if self._places is None else self._from_near(first, last):
                begin, end = max(0, first - place), min(block.shape[1], last - place)
                if begin < end:
                    reached += end - begin
                    yield block[:, begin:end]
                if reached >= last:
                    return
        except _ERRORS as error:
            raise ValueError(_reason(error)) from error
        if reached < last:
            self._damaged(reached)
            yield np.zeros((self.channels, last - reached), np.float32)

    @contextmanager
    def _open(self, begin: int | None = None) -> tp.Iterator[tp.Any]:
        """The container, or a bare stream from a packet on."""
        span = self.span if begin is None else Span(self.span.path, begin, self.span.end)
        form = None if begin is None else self._format
        options = {"format_whitelist": _FORMATS, "protocol_whitelist": "none"}
        with (
            span.open() as file,
            av.open(file, format=form, container_options=options, metadata_errors="replace") as container,
        ):
            yield container

    # Counting

    def _count(self, container: tp.Any, stream: tp.Any) -> tuple[int | None, float]:
        """Fill in `frames`, and where each packet's samples lie if packets say it. Returns what the header promises, in
        samples, and how many seconds it may be off."""
        trial = self._trial()
        codec = stream.codec_context.name
        stamped = codec in _STAMPED and stream.time_base * self.rate == 1
        counts, keys = array("q"), array("q")
        countable, kind, packet, begin, stop = any(trial), None, None, 0, 0
        for number, packet in enumerate(self._packets(container, stream) if countable else ()):
            # A negative duration is kept without its sign.
            duration = ((packet.duration or 0) + (1 << 31)) % (1 << 32) - (1 << 31)
            held = (duration, None) if stamped else contents(codec, memoryview(packet), self.channels)
            # Those left out at the start are the encoder's delay; others are edits.
            countable = held is not None and not (packet.is_discard and number >= _TRIAL)
            if held is None or not countable:
                break
            if held[1] is not None and kind is not None and held[1] != kind and self._format in _BARE:
                self.breaks.append(self.span.begin + packet.pos - len(self.span.head))
                break
            kind = held[1] or kind
            skipped, cut = _skips(packet)
            begin, stop = skipped if number == 0 else begin, stop + cut
            counts.append(held[0])
            keys.extend(_NOWHERE if at is None else at for at in (packet.pts, packet.pos, packet.size))
        self._held = np.array(counts, dtype=np.int64)
        self._keys = np.array(keys, dtype=np.int64).reshape(-1, 3)
        if self._format in _BARE:
            self._check_bare()
        if codec.startswith(_LOSSLESS) and packet is not None and len(counts):
            # Stamps of the last packet may be those of a full one.
            last = sum(frame.samples for frame in _try(self._decoder(container), packet))
            self._held[-1] = min(self._held[-1], last or self._held[-1])
        if codec == "vorbis" and len(counts):
            # The first packet only begins an overlap, and stamps take into account what is cut at the end; in a file of
            # one page they begin late by that packet, and the last one may then seem to end before it begins.
            self._held[-1] += self._held[0] if self._held[-1] <= 0 else 0
            self._held[0] = begin = stop = 0
        if countable and len(counts):
            unit = max(trial) if codec == "aac" else 1
            ends = np.cumsum(self._held) * unit
            length = max(0, int(ends[-1]) - begin - stop)
            promised, close = self._promise(container, stream, begin, stop)
            if (
                self._format.startswith(("mov", "caf"))
                and promised
                and 0 <= length - promised < 2 * unit * self._held.max()
            ):
                # The last frame of an AAC file is longer than the music; without the cut a loop would not close.
                length = promised
            if (missing := stream.frames - len(counts)) > 0 and codec == "aac":
                promised = max(promised or 0, length + missing * unit)  # an edit list leaves some out
            places = np.clip(np.concatenate([[0], ends]) - begin, 0, length)
            wanted = np.diff(places[: len(trial) + 1])
            if all(got == want or not want for got, want in zip(trial, wanted)) or len(trial) == len(counts):
                self._places, self.frames = places, length
                self._stateless = codec.startswith(_LOSSLESS)
                self._stretch = max(_RUN_UP, _STRETCH * self.rate // max(1, int(np.median(np.diff(places)))))
                self._check_end(int(self._keys[-1, 1:].sum()))
                return promised, close
        self.frames = sum(block.shape[1] for _, block in self._from_start())
        return self._promise(container, stream, 0, 0)[0], _CLOSE_STAMPS

    def _trial(self) -> list[int]:
        """Samples that come of each of the first packets, whose rate and channels count (an AAC header may know half
        of either)."""
        counts = []
        with self._open() as container:
            decoder = self._decoder(container)
            for packet, _ in zip(self._packets(container, container.streams[self._index]), range(_TRIAL)):
                frames = _try(decoder, packet)
                counts.append(sum(frame.samples for frame in frames))
                for frame in frames:
                    self.rate, self.channels = frame.sample_rate, frame.layout.nb_channels
        return counts

    def _check_bare(self) -> None:
        """Raises ValueError where a bare stream is none: among enough bytes some look like the start of a frame."""
        audio = self._held > 0
        if audio.sum() < 2 or 2 * (audio[1:] & audio[:-1]).sum() < audio.sum():
            raise ValueError("it is not an audio file")
        first = int(self._keys[0, 1])
        with self.span.open() as file:
            head = file.read(2)
        if first > 0 and head != b"ID" and head[0] != 0xFF:
            self._remark(f"it begins with {first} bytes that are no audio: what came before them may be missing")

    def _check_end(self, place: int) -> None:
        """Take note of what follows the last packet, where nothing should but tags."""
        if self._format not in _PLAIN:
            return
        with self.span.open() as file:
            rest = file.seek(0, 2) - place
            file.seek(place)
            head = file.read(16)
            if head.startswith(b"APETAGEX"):
                rest -= 32 + int.from_bytes(head[12:], "little")
            if rest > 128:
                self._remark(f"{rest} bytes after its samples are not read")

    def _promise(self, container: tp.Any, stream: tp.Any, skipped: int, cut: int) -> tuple[int | None, float]:
        if self._format == "mp3":
            first = int(self._keys[0, 1])
            with self.span.open() as file:
                file.seek(max(0, first - 2048))
                frames = frames_promised(file.read(min(2048, first)))
            return None if frames is None else frames * int(self._held.max()) - skipped - cut, _CLOSE
        if self._format == "flac" and not stream.duration:
            return 0, _CLOSE
        if self._format == "asf":
            with self.span.open() as file:
                seconds = seconds_promised(file.read(1 << 16))
            return None if seconds is None else round(seconds * self.rate), _CLOSE_STAMPS
        exact = self._format.startswith(("mov", "flac", "tta", "wv"))
        if exact or self._format.startswith(("ape", "wav", "aiff", "caf")):
            known = stream.duration and round(stream.duration * stream.time_base * self.rate)
            return known or None, _CLOSE if exact else _CLOSE_STAMPS
        if self._format.startswith("matroska") and len(container.streams) == 1 and container.duration:
            return round(container.duration * self.rate / 1_000_000), _CLOSE
        if self._format == "ogg" and stream.duration:
            return round(stream.duration * stream.time_base * self.rate) - skipped, _CLOSE
        return None, _CLOSE

    # Decoding

    def _decoder(self, container: tp.Any) -> tp.Any:
        """A decoder in its first state."""
        known = container.streams[self._index].codec_context
        new: tp.Any = av.CodecContext.create(known.name, "r")
        if known.extradata:
            new.extradata = known.extradata
        new.sample_rate, new.layout = known.sample_rate, known.layout
        return new

    def _from_start(self) -> tp.Iterator[tuple[int, np.ndarray]]:
        """All blocks with their places, by one decoder."""
        place = good = bad = 0
        with self._open() as container:
            stream = container.streams[self._index]
            for packet in chain(self._packets(container, stream), [None]):
                try:
                    frames = stream.codec_context.decode(packet)
                except _ERRORS:
                    bad += 1
                    self._damaged(place)
                    continue
                good += 1
                for frame in frames:
                    yield place, (block := self._block(frame))
                    place += block.shape[1]
        if bad > good or not place:
            raise ValueError("it is damaged: nothing of it can be decoded" if bad else "it holds no samples")

    def _from_near(self, first: int, last: int) -> tp.Iterator[tuple[int, np.ndarray]]:
        """Blocks with their places that hold the samples `first` to `last`, by decoders begun anew."""
        assert self._places is not None
        places = self._places
        begin = max(0, int(np.searchsorted(places, first, "right")) - 1)
        run_up = 0 if self._stateless else _RUN_UP
        begin = begin if self._stateless else begin // self._stretch * self._stretch
        recent: deque[tp.Any] = deque(maxlen=run_up)
        decoder: tp.Any = None
        for number, packet, container in self._packets_from(max(0, begin - run_up)):
            if number >= len(self._held) or places[number] >= last:
                return
            if number == begin or (number > begin and number % self._stretch == 0):
                decoder = self._decoder(container)
                for earlier in recent:
                    _try(decoder, earlier)
            if number and not self._held[number]:
                continue  # a tag or rubbish between frames, at which a decoder would stumble
            recent.append(packet)
            if decoder is not None:
                yield int(places[number]), self._decoded(decoder, packet, int(places[number]), int(places[number + 1]))

    def _decoded(self, decoder: tp.Any, packet: tp.Any, begin: int, end: int) -> np.ndarray:
        """What a packet decodes to, for its places `begin` to `end`."""
        blocks = [self._block(frame) for frame in _try(decoder, packet)]
        block = np.concatenate([np.zeros((self.channels, 0), np.float32), *blocks], axis=1)
        if block.shape[1] < end - begin:
            self._damaged(begin)
            block = np.pad(block, ((0, 0), (0, end - begin - block.shape[1])))
        return block[:, : end - begin]

    def _packets_from(self, wanted: int) -> tp.Iterator[tuple[int, tp.Any, tp.Any]]:
        """Packets from number `wanted` on, with their numbers and their container."""
        for near in (True, False):
            bare = near and wanted > 0 and self._format in _BARE
            begin = self.span.begin - len(self.span.head) + int(self._keys[wanted, 1]) if bare else None
            with self._open(begin) as container:
                stream = container.streams.audio[0] if bare else container.streams[self._index]
                packets = self._packets(container, stream)
                number = 0
                if near and wanted:
                    try:
                        if not bare and self._keys[wanted, 0] != _NOWHERE:
                            container.seek(int(self._keys[wanted, 0]), stream=stream)
                        landed = next(packets, None)
                    except _ERRORS:
                        continue
                    # Seeking lands somewhere: a packet is known by its time stamp, place and size, or it is counted up
                    # to it from the start.
                    number = self._number(landed, wanted, bare)
                    if not 0 <= number <= wanted:
                        continue
                    packets = chain([landed], packets)
                yield from ((n, packet, container) for n, packet in enumerate(packets, number) if n >= wanted)
                return

    def _packets(self, container: tp.Any, stream: tp.Any) -> tp.Iterator[tp.Any]:
        """Packets with something in them, as far as the container can be followed."""
        try:
            yield from (packet for packet in container.demux(stream) if packet.size)
        except _ERRORS:
            self._remark("it is damaged, and what follows the damage cannot be reached")

    def _number(self, packet: tp.Any, wanted: int, bare: bool) -> int:
        if packet is None:
            return -1
        if bare:
            return wanted if (packet.pos, packet.size) == (0, self._keys[wanted, 2]) else -1
        found = np.flatnonzero(self._keys[: wanted + 1, 0] == (_NOWHERE if packet.pts is None else packet.pts))
        same = [n for n in found if tuple(self._keys[n, 1:]) == (packet.pos, packet.size)]
        return int(same[0]) if len(same) == 1 else -1

    def _block(self, frame: tp.Any) -> np.ndarray:
        """A decoded frame as float32 [C, t]."""
        if frame.sample_rate != self.rate or frame.layout.nb_channels != self.channels:
            raise ValueError("its sample rate or its number of channels changes on the way")
        samples = frame.to_ndarray()
        if not frame.format.is_planar:
            samples = samples.reshape(-1, self.channels).T
        if samples.dtype == np.uint8:
            samples = (samples.astype(np.float32) - 128) / 128
        elif samples.dtype.kind == "i":
            samples = samples.astype(np.float32) / np.float32(2.0 ** (8 * samples.dtype.itemsize - 1))
        return np.ascontiguousarray(samples, dtype=np.float32)

    def _remark(self, text: str) -> None:
        if text not in self.remarks:
            self.remarks.append(text)

    def _damaged(self, place: int) -> None:
        self.damage.add(place / self.rate)


def _audio_stream(container: tp.Any, span: Span) -> tp.Any:
    """The default audio stream or the first, of those that can be decoded."""
    streams = container.streams.audio
    if not streams:
        raise ValueError("it has no audio stream")
    known = [stream for stream in streams if stream.codec_context is not None]
    if not known:
        raise ValueError(f"no decoder for {codec_name(span)}")
    stream = next((stream for stream in known if int(stream.disposition) & 1), known[0])
    if not stream.rate or not stream.channels or stream.codec_context.format is None:
        raise ValueError("its audio stream is damaged, or names no sample rate")
    if stream.channels > _MOST_CHANNELS:
        raise ValueError(f"it has {stream.channels} channels")
    for other in container.streams:
        if other.index != stream.index:
            other.discard = _DISCARD_ALL
    return stream


def _skips(packet: tp.Any) -> tuple[int, int]:
    """Samples to be dropped at the start and at the end of what a packet holds (FFmpeg's AV_PKT_DATA_SKIP_SAMPLES)."""
    data = bytes(packet.get_sidedata("skip_samples")) if packet.has_sidedata("skip_samples") else b""
    return int.from_bytes(data[:4], "little"), int.from_bytes(data[4:8], "little")


def _try(decoder: tp.Any, packet: tp.Any) -> list[tp.Any]:
    """What a packet decodes to; nothing where it does not."""
    try:
        return list(decoder.decode(packet))
    except _ERRORS:
        return []


def _reason(error: Exception) -> str:
    text = (getattr(error, "strerror", None) or str(error)).lower()
    return "it is not an audio file" if "invalid" in text or text == "end of file" else text
