"""Sound written while it is being made: 16-bit samples, to a new file, a pipe, or the standard output."""

import struct
import sys
import typing as tp
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from ..errors import UserError
from ..utils.files import atomic_path, drop_stdout, is_disk_full

# A WAV header names the size before it is known; players take this one for "until it ends".
_UNKNOWN_SIZE = 0xFFFFFFFF
_HEADER = 44
# Codecs give peaks beyond full scale; above this they are rounded off, sample by sample, as nobody knows what follows.
_KNEE = 0.95


class WavStream:
    """A place for samples; use it in a `with`.

    A new file has its name only once it is whole, and a header that is true; what fails leaves nothing. Pipes and
    devices are written to as they are.

    Args:
        out: a file that is not there yet, a pipe or device, or `-` for the standard output.
        sample_rate, channels: of the sound.
        raw: samples alone, without a WAV header.
        seconds: how much will come.
    Raises:
        UserError: more than a WAV file holds; later, in the `with`: whoever reads has gone, a full disk, samples that
            are no numbers.
    """

    def __init__(self, out: Path, sample_rate: int, channels: int, raw: bool, seconds: float) -> None:
        self._out, self._raw = out, raw
        self._sample_rate, self._channels = sample_rate, channels
        self._new_file = str(out) != "-" and not out.exists()
        most = (_UNKNOWN_SIZE - _HEADER) // (2 * channels * sample_rate)
        if self._new_file and not raw and seconds > most:
            raise UserError(f"a WAV file holds at most {most} s of this sound; ask for less, or give --raw")

    def __enter__(self) -> "WavStream":
        self._written = 0
        with ExitStack() as stack:
            if self._new_file:
                self._file: tp.BinaryIO = stack.enter_context(open(stack.enter_context(atomic_path(self._out)), "wb"))
            else:
                piped = str(self._out) == "-"
                stack.enter_context(_reader(self._out))
                self._file = sys.stdout.buffer if piped else stack.enter_context(open(self._out, "wb"))
            if not self._raw:
                self._file.write(_wav_header(self._sample_rate, self._channels, _UNKNOWN_SIZE))
            self._stack = stack.pop_all()
        return self

    def write(self, wav: torch.Tensor) -> None:
        """Write wav [C, t]."""
        self._written += self._file.write(_pcm16(wav))
        self._file.flush()

    def __exit__(self, *error: tp.Any) -> bool | None:
        if error[0] is None and self._new_file and not self._raw:
            self._file.seek(0)
            self._file.write(_wav_header(self._sample_rate, self._channels, self._written))
        return self._stack.__exit__(*error)


@contextmanager
def _reader(out: Path) -> tp.Iterator[None]:
    """Whoever reads what is written to `out` inside may go, and a disk may be full; then it ends in one line."""
    piped = str(out) == "-"
    try:
        yield
        if piped:
            sys.stdout.flush()
    except OSError as error:
        gone = isinstance(error, BrokenPipeError)
        if not gone and not is_disk_full(error):
            raise
        drop_stdout()
        if gone:
            raise UserError("the player has closed the pipe; the rest was not made") from error
        place = "behind the standard output" if piped else f"of {out}"
        raise UserError(f"the disk {place} is full; free some space, the rest was not made") from error


def _pcm16(wav: torch.Tensor) -> bytes:
    """wav [C, t] → interleaved little-endian 16-bit samples; peaks near full scale and beyond are rounded off."""
    wav = wav.cpu()
    if wav.isnan().any():
        raise UserError("the model makes no numbers any more (NaN); try another precision or another model")
    level = wav.abs()
    rounded = _KNEE + (1 - _KNEE) * ((level - _KNEE) / (1 - _KNEE)).tanh()
    samples = rounded.where(level > _KNEE, level).copysign(wav).t().contiguous().numpy()
    return (samples * 32767).round().astype("<i2").tobytes()


def _wav_header(sample_rate: int, channels: int, data_bytes: int) -> bytes:
    """Header of a WAV file of 16-bit samples (RIFF, one `fmt ` and one `data` chunk)."""
    block = 2 * channels
    riff = min(data_bytes + _HEADER - 8, _UNKNOWN_SIZE)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, sample_rate, sample_rate * block, block, 16)
    return struct.pack("<4sI4s", b"RIFF", riff, b"WAVE") + form + struct.pack("<4sI", b"data", data_bytes)
