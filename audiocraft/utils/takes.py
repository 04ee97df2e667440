"""What all ways to play have in common: the sampler's knobs, sound in 16 bits, files under names that nobody has.

A player's folder gets a copy: besides Python it needs numpy alone, and that only once there is sound.
"""

import contextlib
import errno
import json
import math
import os
import re
import stat
import struct
import sys
import tempfile
import typing as tp
from dataclasses import dataclass, field, fields
from pathlib import Path

if tp.TYPE_CHECKING:
    import numpy as np

# Codecs give peaks beyond full scale; above this they are rounded off.
KNEE = 0.95
_LARGEST_WAV = 0xFFFFFFFF
_HEADER = 44
# Frames that `repetition` looks back: a second of the codecs that ship.
RECENT = 50
WARMEST, MOST_NATS = 10, 1000
_NUMBER = re.compile(r"^take_(\d+)\.")


def _knob(default: tp.Any, help: str) -> tp.Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Sampling:
    """How a code is chosen.

    The order: `repetition` is taken off the logits of the first codebook, all are divided by the codebook's temperature
    (temperature * cool^k for codebook k, the first is 0), and of that distribution a code is drawn that passes both
    `min_p` and one of the others: `top_p` where it is above 0, else `top_k`. Each filter looks at the whole
    distribution, so their order makes no difference, and the likeliest code passes them all.

    `min_p`: arXiv 2407.01082. `repetition`: nats that a code loses in proportion to its share of the first codebook's
    last `RECENT` frames, as far as the window in progress goes, its context or prompt included: one that was held all
    the time loses all of it, one that came once next to nothing. A held tone may go on for a while, and what is stuck
    comes loose. Below 0 it wins as much: sounds stay.

    Raises:
        ValueError: a value out of range.
    """

    temperature: float = _knob(1.0, "Above 1 wilder, below 1 tamer.")
    top_k: int = _knob(250, "Choose among the k likeliest codes; 0: all.")
    top_p: float = _knob(0.0, "Above 0: the likeliest codes up to this probability.")
    min_p: float = _knob(0.0, "Above 0: only codes at least so likely, as a share of the likeliest one's probability.")
    cool: float = _knob(
        1.0, "Each further codebook's temperature is this times that of the one before: below 1 cooler, above 1 hotter."
    )
    repetition: float = _knob(
        0.0, "Above 0: leaves what it has dwelt on for a second, 5 is much; below 0: stays there."
    )
    greedy: bool = _knob(False, "Always the likeliest code; every take is the same.")

    def __post_init__(self) -> None:
        if not self.greedy and not 0 < self.temperature < math.inf:
            raise ValueError(
                f"temperature {self.temperature:g} is not above 0; use a small one, or the likeliest codes "
                "(--greedy, use_sampling=False)"
            )
        if self.top_k < 0 or not 0 <= self.top_p <= 1:
            raise ValueError(
                f"top_k {self.top_k} and top_p {self.top_p:g} do not work; top_k is 0 or more, top_p between 0 and 1"
            )
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p {self.min_p:g} does not work; it must lie in 0 (off) .. 1")
        if not 0 < self.cool <= WARMEST:
            raise ValueError(f"cool {self.cool:g} does not work; it must be above 0, up to {WARMEST} (1 is off)")
        if not abs(self.repetition) <= MOST_NATS:
            raise ValueError(
                f"repetition {self.repetition:g} does not work; it must lie in -{MOST_NATS} .. {MOST_NATS} (0 is off)"
            )


# What a model may say of itself: all but `greedy`, with which every take would be the same.
KNOBS = {knob.name: knob for knob in fields(Sampling) if knob.name != "greedy"}


def own_knobs(told: tp.Any) -> tuple[dict[str, tp.Any], list[str]]:
    """The knobs a model comes with, out of what its config or its player.json says under `sampling`.

    Returns:
        Name → value of those that work, and for each other one what is wrong with it. None stands for nothing said.
    """
    good: dict[str, tp.Any] = {}
    wrong = []
    for name, value in told.items() if hasattr(told, "items") else [] if told is None else [("", told)]:
        if value is None:
            continue
        try:
            if name not in KNOBS:
                raise ValueError(f"known are {', '.join(KNOBS)}")
            exact: tp.Any = (int if name == "top_k" else float)(value)
            if isinstance(value, (bool, str)) or exact != value:
                raise ValueError(f"not {'a whole' if name == 'top_k' else 'a'} number")
            Sampling(**{name: exact})
            good[name] = exact
        except (TypeError, ValueError, OverflowError) as error:
            wrong.append(f"sampling{'.' if name else ''}{name} is {value!r:.60} ({error})")
    return good, wrong


def chosen(given: tp.Mapping[str, tp.Any], own: tp.Mapping[str, tp.Any]) -> Sampling:
    """Which knobs a model is played with: what is given and not None; else what it comes with (`own_knobs`); else the
    defaults of `Sampling`. A `top_k` that is given counts: the model's own `top_p` would rule it out, and gives way.

    Raises:
        ValueError: a value out of range.
    """
    given = {name: value for name, value in given.items() if value is not None}
    ruled_out = {"top_p"} if "top_k" in given else set()
    return Sampling(**{name: value for name, value in own.items() if name not in ruled_out} | given)


def most_seconds(rate: int, channels: int) -> int:
    """How much sound a WAV file holds."""
    return (_LARGEST_WAV - _HEADER) // (2 * channels * rate)


def wav_header(rate: int, channels: int, samples: int) -> bytes:
    """The start of a WAV of 16-bit samples (RIFF, one `fmt ` and one `data` chunk); of one that is longer than a file
    can be, which players then take for one without end."""
    block = 2 * channels
    data = min(block * samples, _LARGEST_WAV)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, rate, block * rate, block, 16)
    riff = struct.pack("<4sI4s", b"RIFF", min(data + _HEADER - 8, _LARGEST_WAV), b"WAVE")
    return riff + form + struct.pack("<4sI", b"data", data)


def round_peaks(wav: "np.ndarray", knee: float = KNEE) -> "np.ndarray":
    """Samples within full scale: what is above the knee is rounded off, sample by sample, and nothing else."""
    import numpy as np

    level = np.abs(wav)
    if not level.size or level.max() <= knee:
        return wav
    rounded = knee + (1 - knee) * np.tanh((level - knee) / (1 - knee))
    return np.copysign(np.where(level > knee, rounded, level), wav)


def to_pcm(wav: "np.ndarray") -> bytes:
    """float32 [C, t] → 16-bit samples, little-endian, channels in turn, peaks rounded off."""
    return (round_peaks(wav).T * 32767).round().astype("<i2").tobytes()


@contextlib.contextmanager
def open_sound(target: str) -> tp.Iterator[tp.BinaryIO]:
    """What sound is written to while it is made: stdout (`-`), a pipe or device, or a new file, which gets its name at
    the end. What fails leaves no file.

    Raises:
        OSError: it cannot be written, or there is a file of that name already.
    """
    path = Path(target)
    if target == "-":
        yield sys.stdout.buffer
    elif path.exists() and not stat.S_ISREG(path.stat().st_mode):
        with open(path, "wb") as sink:
            yield sink
    else:
        if path.exists():
            raise FileExistsError(errno.EEXIST, "it is there already; give another name", target)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".take_", dir=path.parent) as folder:
            temporary = Path(folder) / path.name
            with open(temporary, "wb") as sink:
                yield sink
            if not _publish(temporary, path):
                raise FileExistsError(errno.EEXIST, "it has come into being meanwhile; give another name", target)


def publish_take(audio: Path, folder: Path, record: dict[str, tp.Any]) -> Path:
    """Give a finished sound the next free `take_NNNN` of a folder, and a JSON beside it.

    Several processes may do so at once.

    Args:
        audio: a file on the same disk, alone in a folder that goes away.
        folder: of the takes.
        record: what the JSON says, plain values; the file's name is added.
    Returns:
        The sound's new path.
    """
    numbers = (_NUMBER.match(path.name) for path in folder.iterdir())
    number = 1 + max((int(match[1]) for match in numbers if match), default=0)
    while True:
        path = folder / f"take_{number:04d}{audio.suffix}"
        notes = audio.with_suffix(".json")
        text = json.dumps({"file": path.name, **record}, indent=2, ensure_ascii=False)
        notes.write_text(text + "\n", encoding="utf-8")
        # The JSON claims the number for every format; the sound follows.
        if _publish(notes, path.with_suffix(".json")):
            if _publish(audio, path):
                return path
            path.with_suffix(".json").unlink()
        number += 1


def _publish(source: Path, target: Path) -> bool:
    """Move a finished file to a name that nobody has; False if somebody has it."""
    try:
        os.link(source, target)  # fails where the name is taken, unlike a rename
        source.unlink()
    except FileExistsError:
        return False
    except OSError:  # a disk without hard links
        try:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        source.replace(target)
    return True


def drop_stdout() -> None:
    """Let what stdout does not take vanish: Python tries once more when it ends, and complains."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
