"""What the bytes of a file say before a decoder sees them: whether it may be audio, whether it is several files in a
row, and where the sizes in its header are wrong.

Recorders that crash and programs that write into a pipe leave sizes of 0 or of 2^32 - 1, copying cuts files off, and
radio recordings are chains of streams; decoders believe the header, or stop after the first link of a chain.
"""

import io
import mmap
import re
import struct
import typing as tp
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

# Where a stream of its own begins: the magic numbers of FLAC (with its first block), Matroska and WebM, and ASF.
_STARTS = (
    (b"fLaC", re.compile(rb"fLaC[\0\x80]\0\0\x22")),
    (b"\x1aE\xdf\xa3", re.compile(rb"\x1aE\xdf\xa3.{1,40}?\x42\x82.(?:webm|matroska)", re.DOTALL)),
    (bytes.fromhex("3026b2758e66cf11"), re.compile(re.escape(bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")))),
)
_LARGEST_CHUNK = 1 << 16
# RIFF formats of plain samples; for others the chunk `fact` counts.
_PLAIN_FORMATS = {1, 3, 6, 7, 0xFFFE}
_W64_FMT = b"fmt " + bytes.fromhex("f3acd3118cd100c04f8edb8a")
_W64_DATA = b"data" + bytes.fromhex("f3acd3118cd100c04f8edb8a")
# Pictures, documents, archives (weights among them), arrays, programs, databases, MIDI; safetensors begin with a length
# and JSON.
_OTHERS = (
    *(b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"%PDF", b"PK\3\4", b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!"),
    *(b"\x93NUMPY", b"\x7fELF", b"MZ", b"SQLite", b"MThd"),
)
# What may follow the samples and is no chunk: tags that players append.
_TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICS")


@dataclass(frozen=True)
class Span:
    """A file that is whole in itself: `head`, then the bytes `begin` to `end` of the file at `path`.

    `promised` is what its header says of its length, as a multiple of what there is; 0 where it does not say.
    `note` is a sentence on what else is odd about it.
    """

    path: str
    begin: int
    end: int
    head: bytes = b""
    promised: float = 1.0
    note: str = ""

    def open(self) -> "SpanFile":
        """The bytes, as an object to read and seek in. A decoder that is given them learns no name, so neither a colon
        nor an ending nor a percent sign in it means anything."""
        return SpanFile(self)


class SpanFile(io.RawIOBase):
    """Bytes of a `Span`."""

    def __init__(self, span: Span) -> None:
        self._file: tp.BinaryIO = open(span.path, "rb")  # noqa: SIM115 - closed in close()
        self._span = span
        self._place = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place in the bytes."""
        length = len(self._span.head) + self._span.end - self._span.begin
        place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: length}[whence]
        # Broken headers send readers to places that no disk has.
        self._place = min(max(0, place), length)
        return self._place

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill the buffer as far as bytes are left; how many there were."""
        head, view = self._span.head, memoryview(buffer).cast("B")
        data = head[self._place : self._place + len(view)]
        if len(data) < len(view):
            begin = self._span.begin + max(0, self._place - len(head))
            self._file.seek(begin)
            data += self._file.read(max(0, min(len(view) - len(data), self._span.end - begin)))
        view[: len(data)] = data
        self._place += len(data)
        return len(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


class Reader(ABC):
    """What reads the sound of one span: `frames` samples at `rate` Hz on `channels`.

    `floating` says whether samples are stored as floating point; `promised` is the length (samples) that a header
    states, None where it says nothing or the same; `breaks` are places (bytes) where the stream becomes one of another
    rate or channel count and another reader must go on; `damage` are places (seconds) that could not be decoded,
    `remarks` what else is odd.

    Raises:
        ValueError: there is nothing that can be decoded; the message is the reason.
    """

    rate: int
    channels: int
    frames: int
    floating: bool

    def __init__(self, span: Span) -> None:
        self.span = span
        self.promised: int | None = None
        self.breaks: list[int] = []
        self.damage: set[float] = set()
        self.remarks: list[str] = []

    @abstractmethod
    def parts(self, first: int, last: int) -> tp.Iterator[np.ndarray]:
        """Blocks [C, t] float32 that joined are the samples `first` to `last`. What cannot be decoded is silence.

        Raises:
            ValueError: the file cannot be read any more.
        """


def is_something_else(head: bytes) -> bool:
    """Whether the first bytes of a file are those of text, which some decoders make sound of or follow the addresses
    in, or of what often lies beside audio and takes FFmpeg long to tell: pictures, archives, arrays, programs."""
    return head.startswith(_OTHERS) or head[8:10] == b'{"' or not re.search(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]", head)


def find_spans(path: str) -> list[Span]:
    """The files that the file at `path` is made of: mostly one, the whole; more where files were joined.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        end = len(data)
        if kind := _chunk_kind(data, 0):
            return _chunk_spans(path, data, kind)
        head = data[: 1 << 16]
        for magic, pattern in _STARTS:
            if head.startswith(magic) or (magic == b"fLaC" and head.startswith(b"ID3")):
                starts = [match.start() for match in pattern.finditer(data)] if magic in head else []
                return _joined(path, starts, end)
        if head.startswith(b"OggS"):
            return _joined(path, *_ogg_starts(data))
        if head[4:8] == b"ftyp":
            return _joined(path, _movie_starts(data), end)
        return [Span(path, 0, end)]


def _joined(path: str, starts: list[int], end: int, note: str = "") -> list[Span]:
    edges = [0, *starts[1:], end]
    return [Span(path, begin, stop, note=note if stop == end else "") for begin, stop in pairwise(edges)]


def _ogg_starts(data: mmap.mmap) -> tuple[list[int], int, str]:
    """Where links of a chain begin, where the last ends, and what is wrong with the pages (RFC 3533)."""
    starts: list[int] = []
    place, flags, lost = 0, 0, 0
    while 0 <= place < len(data):
        if data[place : place + 4] != b"OggS" or place + 27 > len(data):
            following = data.find(b"OggS", place + 1)
            following = len(data) if following < 0 else following
            lost, place = lost + following - place, following
            continue
        # Streams that run side by side begin together.
        if data[place + 5] & 2 and not flags & 2:
            starts.append(place)
        flags = data[place + 5]
        segments = data[place + 27 : place + 27 + data[place + 26]]
        place += 27 + len(segments) + sum(segments)
    if lost:
        return starts, len(data), f"it is damaged: {lost} bytes in it belong to no page"
    return starts, len(data), "" if flags & 4 and place == len(data) else "it was cut off: its end mark is missing"


def _movie_starts(data: mmap.mmap) -> list[int]:
    """Places of `ftyp` among the outermost boxes of MP4."""
    starts, place = [], 0
    while place + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, place)
        if name == b"ftyp":
            starts.append(place)
        if size == 1 and place + 16 <= len(data):
            size = struct.unpack_from(">Q", data, place + 8)[0]
        if size < 8:
            break
        place += size
    return starts


class _Kind(tp.NamedTuple):
    """A format made of chunks: where they begin, how long their names are, how sizes are written, whether those count
    the chunk's own header, to how many bytes chunks are filled up, the name of the chunk of samples, and how many bytes
    of it come before them."""

    begin: int
    name: int
    size: str
    counted: bool
    align: int
    data: bytes
    before: int


_RIFF = _Kind(12, 4, "<I", False, 2, b"data", 0)
_AIFF = _Kind(12, 4, ">I", False, 2, b"SSND", 8)
_CAF = _Kind(8, 4, ">Q", False, 1, b"data", 4)
_W64 = _Kind(40, 16, "<Q", True, 8, _W64_DATA, 0)
_AU = _Kind(0, 4, ">I", False, 1, b".snd", 0)


def _chunk_kind(data: mmap.mmap, at: int) -> _Kind | None:
    head = data[at : at + 40]
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return _RIFF
    if head[:4] == b"RIFX" and head[8:12] == b"WAVE":
        return _RIFF._replace(size=">I")
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _AIFF
    if head[:4] == b"riff" and head[24:28] == b"wave":
        return _W64
    return {b"caff": _CAF, b".snd": _AU}.get(head[:4])


def _chunk_spans(path: str, data: mmap.mmap, kind: _Kind | None) -> list[Span]:
    spans: list[Span] = []
    begin = 0
    while kind is not None:
        span, begin = _chunk_span(path, data, begin, kind)
        spans.append(span)
        kind = _chunk_kind(data, begin)
    return spans


def _chunk_span(path: str, data: mmap.mmap, begin: int, kind: _Kind) -> tuple[Span, int]:
    """The file that begins at `begin`, and where it ends."""
    found = _samples(data, begin, kind)
    if found is None or found[2] >= len(data):
        return Span(path, begin, len(data)), len(data)
    kept, straight, body, promised = found
    room = len(data) - body
    # A chunk of (nearly) nothing was never finished, unless other chunks follow it.
    unknown = not 0 <= promised < min(1 << 48, (1 << 8 * struct.calcsize(kind.size)) - 2)
    unknown |= promised < 16 and _after(data, body + promised, kind)[1] > 0
    length = room if unknown else min(promised, room)
    end, unread = _after(data, body + length, kind)
    note = f"{unread} bytes after its samples are not read" if unread else ""
    odd = unknown or length != promised or not straight or end < len(data)
    if not odd and not begin and (kind is not _W64 or body + length == end):
        return Span(path, 0, end, note=note), end
    head = _header(data, begin, kind, kept, length)
    if head is None:
        return Span(path, begin, end, note=note), end
    share = 0.0 if unknown else promised / length if length else 1.0
    return Span(path, body, body + length, head, share, note), end


def _after(data: mmap.mmap, place: int, kind: _Kind) -> tuple[int, int]:
    """Where a file ends whose samples end at `place`, and how many bytes are left that belong to nothing."""
    while place < len(data):
        following = [place + gap for gap in range(9) if _chunk_kind(data, place + gap)]
        if following:
            return following[0], 0
        chunks = [end for gap in range(kind.align) if (end := _chunks(data, place + gap, kind))]
        if not chunks:
            break
        place = chunks[0]
    rest = len(data) - place
    known = data[place : place + 8].startswith(_TAGS) or not data[place : place + 4096].strip(b"\0")
    return len(data), 0 if known or rest < 8 else rest


def _chunks(data: mmap.mmap, place: int, kind: _Kind) -> int:
    """Where the chunk at `place` ends; 0 where there is none that fits."""
    header = kind.name + struct.calcsize(kind.size)
    if place + header > len(data) or not re.fullmatch(rb"[ -~]{4}", data[place : place + 4]):
        return 0
    size = struct.unpack_from(kind.size, data, place + kind.name)[0]
    stop = place + size + (0 if kind.counted else header)
    if stop <= place or stop > len(data):
        return 0
    return min(len(data), stop + -size % kind.align)


def _samples(data: mmap.mmap, begin: int, kind: _Kind) -> tuple[dict[bytes, bytes], bool, int, int] | None:
    """Chunks before the samples, whether all lie where they should, where the samples begin, and how many bytes of them
    the header promises. None where there are none."""
    kept: dict[bytes, bytes] = {}
    straight = True
    if kind is _AU:
        body, size = struct.unpack_from(">II", data, begin + 4) if begin + 24 <= len(data) else (len(data), 0)
        return kept, straight, begin + body, size
    header = kind.name + struct.calcsize(kind.size)
    place, large = begin + kind.begin, None
    while place + header <= len(data):
        name = data[place : place + kind.name]
        size = struct.unpack_from(kind.size, data, place + kind.name)[0] - (header if kind.counted else 0)
        body = place + header
        if name == kind.data:
            if large is not None and size >= 0xFFFFFFFF:
                size = large
            unset = size <= 0 or size >= (1 << 8 * struct.calcsize(kind.size)) - 1 - kind.before
            return kept, straight, body + kind.before, size if unset else size - kind.before
        if size < 0:
            return None
        if size <= _LARGEST_CHUNK:
            kept[name] = data[body : body + size]
        if name == b"ds64" and size >= 16:
            large = struct.unpack_from("<Q", data, body + 8)[0]
        place = body + size + -size % kind.align
        unfilled = body + size
        if place != unfilled and not _is_name(data, place, kind) and _is_name(data, unfilled, kind):
            place, straight = unfilled, False  # some writers forget to fill chunks up
    return None


def _is_name(data: mmap.mmap, place: int, kind: _Kind) -> bool:
    name = data[place : place + kind.name]
    return name == kind.data or bool(re.fullmatch(rb"[A-Za-z0-9_ ]{4}", name[:4]) and _chunks(data, place, kind))


def _header(data: mmap.mmap, begin: int, kind: _Kind, kept: dict[bytes, bytes], length: int) -> bytes | None:
    """A header that promises `length` bytes of samples; None where its parts are missing."""
    if kind is _AU:
        # The size does not count what a reader must skip, so the header shrinks to its fixed part.
        return struct.pack(">4sII", b".snd", 24, min(length, 0xFFFFFFFF)) + data[begin + 12 : begin + 24]
    if kind is _W64:
        return _wave_header("<", kept.get(_W64_FMT), None, length)
    if kind.data == b"data" and kind.begin == 12:
        return _wave_header(kind.size[0], kept.get(b"fmt "), kept.get(b"fact"), length)
    if kind is _CAF:
        parts = [(name, kept[name]) for name in (b"desc", b"kuki", b"chan") if name in kept]
        chunks = b"".join(struct.pack(">4sQ", name, len(part)) + part for name, part in parts)
        return data[begin : begin + 8] + chunks + struct.pack(">4sQI", b"data", length + 4, 0) if parts else None
    common = kept.get(b"COMM", b"")
    if len(common) < 18:
        return None
    channels, _, bits = struct.unpack_from(">hIh", common)
    size = max(1, channels) * max(1, -(-bits // 8))
    if common[18:22] in (b"", b"NONE", b"sowt", b"twos", b"fl32", b"FL32", b"fl64", b"FL64"):
        common = common[:2] + struct.pack(">I", min(length // size, 0xFFFFFFFF)) + common[6:]
    common += b"\0" * (len(common) % 2)
    samples = struct.pack(">4sIII", b"SSND", min(length + 8, 0xFFFFFFFF), 0, 0)
    rest = data[begin + 8 : begin + 12] + struct.pack(">4sI", b"COMM", len(common)) + common + samples
    return struct.pack(">4sI", b"FORM", min(len(rest) + length, 0xFFFFFFFF)) + rest


def _wave_header(order: str, form: bytes | None, fact: bytes | None, length: int) -> bytes | None:
    if form is None or len(form) < 16:
        return None
    chunks = struct.pack(order + "4sI", b"fmt ", len(form)) + form + b"\0" * (len(form) % 2)
    if fact and struct.unpack_from(order + "H", form)[0] not in _PLAIN_FORMATS:
        chunks += struct.pack(order + "4sI", b"fact", len(fact)) + fact
    if length < 0xFFFFF000:
        rest = b"WAVE" + chunks + struct.pack(order + "4sI", b"data", length)
        return (b"RIFF" if order == "<" else b"RIFX") + struct.pack(order + "I", len(rest) + length) + rest
    chunks += struct.pack("<4sI", b"data", 0xFFFFFFFF)
    sizes = struct.pack("<4sIQQQI", b"ds64", 28, length + len(chunks) + 40, length, 0, 0)
    return b"RF64" + struct.pack("<I", 0xFFFFFFFF) + b"WAVE" + sizes + chunks


def codec_name(span: Span) -> str:
    """What a container calls its sound, for a codec that no decoder knows: PyAV does not tell."""
    names = rb"hdlr.{8}soun.*?stsd.{12}([ -~]{4})|(A_[A-Z0-9/_]{2,})"
    with span.open() as file:
        for whence in (io.SEEK_SET, io.SEEK_END):
            file.seek(-min(1 << 20, file.seek(0, io.SEEK_END)) if whence else 0, whence)
            if found := re.search(names, file.read(1 << 20), re.DOTALL):
                return (found[1] or found[2]).decode().strip()
    return "its codec"


def starts_as(head: bytes) -> tuple[str, ...]:
    """Which readers may know a file that begins like this, the best first: 'soundfile', 'av'."""
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"caff", b".snd", b"riff"):
        return "soundfile", "av"
    # libsndfile takes anything with a few bits set for MP3, and talks about it on the terminal.
    return ("av",) if head.startswith((b"ID3", b"\xff", b"OggS", b"fLaC")) else ("av", "soundfile")
