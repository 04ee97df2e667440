"""How many samples a coded packet holds, read from its first bytes, without decoding it."""

import re

# (ISO 11172-3, 13818-3) Hz by index, for MPEG 1; MPEG 2 halves and 2.5 quarters them.
_MPEG_RATES = (44100, 48000, 32000)
# (RFC 6716, table 2) samples at 48 kHz of one frame by configuration.
_OPUS = [
    (480, 960, 1920, 2880)[c & 3] if c < 12 else (480, 960)[c & 1] if c < 16 else 120 << (c & 3) for c in range(32)
]
_COUNT = re.compile(rb"(Xing|Info)...[\x01\x03\x05\x07\x09\x0b\x0d\x0f](....)|VBRI.{10}(....)", re.DOTALL)

Contents = tuple[int, tuple[int, ...] | None]


def contents(codec: str, data: memoryview, channels: int) -> Contents | None:
    """Samples that a packet holds (0 for one that is none), and what must not change from packet to packet: rate and
    channels, where it says. Of AAC, frames are counted instead of samples. None where only decoding can tell.
    """
    if codec.startswith(("mp3", "mp2", "mp1")):
        return _mpeg(data)
    if codec == "aac":
        adts = len(data) > 6 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0
        return (1 + (data[6] & 3), (data[2] >> 2 & 15, data[2] << 2 & 4 | data[3] >> 6)) if adts else (1, None)
    if codec in ("opus", "libopus"):
        return _opus(data), None
    if codec == "flac":
        return _flac(data), None
    if bits := re.match(r"pcm_[sfu](8|16|24|32|64)(le|be)?$", codec):
        return len(data) // (channels * int(bits[1]) // 8), None
    return None


def _mpeg(data: memoryview) -> Contents:
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE0 != 0xE0:
        return 0, None
    version, layer, rate = data[1] >> 3 & 3, 4 - (data[1] >> 1 & 3), data[2] >> 2 & 3
    if version == 1 or layer == 4 or rate == 3 or data[2] >> 4 == 15:
        return 0, None
    samples = 384 if layer == 1 else 1152 if layer == 2 or version == 3 else 576
    if samples and layer == 3 and _COUNT.search(bytes(data[4:60])):
        return 0, None  # no sound, but the header of what follows: files were joined
    return samples, (_MPEG_RATES[rate] >> (3 - version if version else 2), 1 if data[3] >> 6 == 3 else 2)


def _opus(data: memoryview) -> int:
    if not len(data):
        return 0
    code = data[0] & 3
    frames = (1, 2, 2, data[1] & 63 if len(data) > 1 else 0)[code]
    return frames * _OPUS[data[0] >> 3]


def _flac(data: memoryview) -> int:
    """(RFC 9639, 9.1)"""
    if len(data) < 7 or data[0] != 0xFF or data[1] & 0xFE != 0xF8:
        return 0
    code = data[2] >> 4
    if code in (6, 7):
        number = data[4]  # of the frame, 1 to 7 bytes, as in UTF-8
        place = 5 if number < 0x80 else 4 + format(number, "08b").index("0")
        size = data[place : place + code - 5]
        return int.from_bytes(size, "big") + 1 if len(size) == code - 5 else 0
    return 192 if code == 1 else 576 << code - 2 if 2 <= code <= 5 else 256 << code - 8 if code >= 8 else 0


def frames_promised(head: bytes) -> int | None:
    """How many frames an MP3 file says that it has (Xing, Info and VBRI headers); `head` ends where its first frame
    begins."""
    found = _COUNT.search(head)
    return int.from_bytes(found[2] or found[3], "big") if found else None


def seconds_promised(head: bytes) -> float | None:
    """How long a WMA file says that it plays, from its File Properties Object (ASF specification, 3.2)."""
    place = head.find(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))
    if place < 0 or place + 92 > len(head) or head[place + 88] & 1:  # a broadcast says nothing
        return None
    return int.from_bytes(head[place + 64 : place + 72], "little") / 1e7 - (
        int.from_bytes(head[place + 80 : place + 88], "little") / 1e3
    )
