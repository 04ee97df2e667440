"""Takes: generated audio under numbers that are never used twice, each with a JSON that says what made it."""

import json
import os
import re
import shutil
import tempfile
import typing as tp
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import torch

from .. import __version__
from ..data.audio import audio_write
from ..errors import UserError
from ..utils.files import atomic_path, check_place, is_disk_full, read_json

# Where `tame` begins to round peaks off.
_KNEE = 0.8
# How far beyond the rest the loudest thousandth must be.
_STICKS_OUT = 1.1
_BLOCK = 1 << 20
_NUMBER = re.compile(r"^take_(\d+)\.")


def check_folder(folder: str | Path) -> None:
    """See whether takes can be written to a folder, before they are made. One that is missing stays so.

    Raises:
        UserError: they cannot.
    """
    with _place_told(folder):
        check_place(Path(folder))


def save_take(
    folder: str | Path, wav: torch.Tensor, sample_rate: int, facts: dict[str, tp.Any], format: str = "wav"
) -> Path:
    """Write one take as the next free `take_NNNN` of a folder, audio and JSON.

    Audio that exceeds full scale is brought within it by `tame`; other audio keeps its level. Several processes may
    write to one folder.

    Args:
        folder: where to; made if it is missing.
        wav: [C, T].
        sample_rate: Hz.
        facts: what made it (model, seed, settings, ...), plain values; file, length, version and date are added.
        format: wav, flac, ogg or mp3.
    Returns:
        The audio file's path.
    Raises:
        UserError: unknown format, NaN samples, a folder that cannot be written, a full disk.
    """
    folder = Path(folder)
    staging = _staging_folder(folder)
    try:
        audio = audio_write(
            staging / "take", tame(wav), sample_rate, format, normalize=False, strategy="peak", log_clipping=False
        )
        number = _last_number(folder) + 1
        while True:
            path = folder / f"take_{number:04d}{audio.suffix}"
            record = {
                "file": path.name,
                **facts,
                "seconds": wav.shape[-1] / sample_rate,
                "sample_rate": sample_rate,
                "version": __version__,
                "made": datetime.now().astimezone().isoformat(timespec="seconds"),
            }
            notes = staging / "take.json"
            with atomic_path(notes) as temporary:
                temporary.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            # The JSON claims the number for every format; the audio follows.
            if _publish(notes, path.with_suffix(".json")):
                if _publish(audio, path):
                    return path
                path.with_suffix(".json").unlink()
            number += 1
    except OSError as error:
        if is_disk_full(error):
            raise UserError(
                f"the disk is full, no take was written to {folder}; free some space and try again"
            ) from error
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def tame(wav: torch.Tensor) -> torch.Tensor:
    """Audio within full scale, where it was not.

    Codecs give single samples far beyond the rest, bent codes more of them. To turn everything down for their sake
    would cost 9 dB and more, so the loudest thousandth is rounded off, and only what is louder still turns it down.
    Where that thousandth does not stick out, all is turned down and nothing rounded.
    """
    low, high = wav.aminmax()
    peak = torch.maximum(-low, high)
    if peak <= 1:
        return wav
    loudest = _loudest(wav)
    if peak <= _STICKS_OUT * loudest:
        return wav / peak
    wav = wav / max(loudest, 1)
    for block in wav.split(_BLOCK, dim=-1):
        level = block.abs()
        rounded = _KNEE + (1 - _KNEE) * ((level - _KNEE) / (1 - _KNEE)).tanh()
        block.copy_(block.sign() * rounded.where(level > _KNEE, level))
    return wav


def _loudest(wav: torch.Tensor) -> float:
    """The level that one in a thousand samples reaches."""
    flat = wav.flatten()
    keep = flat.numel() - max(0, int(flat.numel() * 0.999) - 1)
    loudest = flat[:0]
    for block in flat.split(_BLOCK):  # a long take should not be held many times
        both = torch.cat([loudest, block.abs()])
        loudest = both.topk(min(keep, both.numel())).values
    return float(loudest[-1])


def load_takes(folder: str | Path) -> list[tuple[Path, dict[str, tp.Any]]]:
    """All takes of a folder in order: audio path and what its JSON says. Broken ones are left out."""
    takes = []
    for notes in sorted(Path(folder).glob("take_*.json")):
        try:
            record = read_json(notes)
            audio = notes.with_name(record["file"])
            if audio.is_file():
                takes.append((audio, record))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return takes


def _staging_folder(folder: Path) -> Path:
    with _place_told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=".take_", dir=folder))


@contextmanager
def _place_told(folder: str | Path) -> tp.Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}); choose another folder") from error


def _last_number(folder: Path) -> int:
    numbers = (_NUMBER.match(path.name) for path in folder.iterdir())
    return max((int(match[1]) for match in numbers if match), default=0)


def _publish(source: Path, target: Path) -> bool:
    """Move a finished file to a name that nobody has; False if somebody has it."""
    try:
        os.link(source, target)  # fails where the name is taken, unlike a rename
    except FileExistsError:
        return False
    except OSError:  # a disk without hard links
        try:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        source.replace(target)
    return True
