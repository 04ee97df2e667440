"""Takes: generated audio under numbers that are never used twice, each with a JSON that says what made it."""

import tempfile
import typing as tp
from datetime import datetime
from pathlib import Path

import torch

from .. import __version__
from ..data.audio import audio_write
from ..utils.files import check_place, disk_told, read_json
from ..utils.takes import publish_take, round_peaks

# Where `tame` begins to round peaks off: lower than in a stream, as a take that needs it has many of them.
_KNEE = 0.8
# How far beyond the rest the loudest thousandth must be.
_STICKS_OUT = 1.1
_BLOCK = 1 << 20


def check_folder(folder: str | Path) -> None:
    """See whether takes can be written to a folder, before they are made. One that is missing stays so.

    Raises:
        UserError: they cannot.
    """
    with disk_told(_full(folder), folder):
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
    facts |= {"seconds": wav.shape[-1] / sample_rate, "sample_rate": sample_rate, "version": __version__}
    with disk_told(_full(folder), folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".take_", dir=folder) as staging:
            stem = Path(staging) / "take"
            audio = audio_write(
                stem, tame(wav), sample_rate, format, normalize=False, strategy="peak", log_clipping=False
            )
            made = datetime.now().astimezone().isoformat(timespec="seconds")
            return publish_take(audio, folder, {**facts, "made": made})


def _full(folder: str | Path) -> str:
    return f"the disk is full, no take was written to {folder}; free some space and try again"


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
        block.copy_(torch.from_numpy(round_peaks(block.cpu().numpy(), _KNEE)))
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
