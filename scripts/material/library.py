"""A set of tracks as files: how many, how long, and each one whole or not there."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from audiocraft.errors import UserError
from audiocraft.utils.files import atomic_path, free_bytes, read_json, write_json

from . import broad, broad_mix, score, track
from .dsp import SR, Array

Plan = score.Plan | broad.Plan
MODES = ("jungle", "broad")
BYTES_PER_MINUTE = SR * 4 * 60


def plan_set(seed: int, minutes: float, mode: str = "jungle", bpm: float | None = None) -> Iterator[Plan]:
    """Plans of whole tracks of one of `MODES` until `minutes` are full.

    The last track is shortened to what is left (jungle: to the bar that fits best), or left out if too little of it
    would remain. A track's plan depends on the mode, the seed, its number and the tempo asked for alone, so a longer
    set begins with the tracks of a shorter one.
    """
    left, index = minutes * 60.0, 0
    while left > 0:
        plan: Plan = score.draw_plan(seed, index, bpm) if mode == "jungle" else broad.draw_plan(seed, index)
        kept = plan if plan.seconds <= left else plan.shortened(left)
        if kept:
            yield kept
        left, index = left - plan.seconds, index + 1


def sound(plan: Plan) -> Array:
    """A plan's track, [2, T]."""
    return broad_mix.render(plan) if isinstance(plan, broad.Plan) else track.render(plan)


def check_place(folder: Path, minutes: float) -> None:
    """Refuse a folder that cannot take the set, before any work is done.

    Raises:
        UserError: `folder` is a file, cannot be made, or its disk is too small for `minutes` of audio.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder to write the tracks to")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be made ({error.strerror}); choose another one") from error
    need, free = minutes * BYTES_PER_MINUTE, free_bytes(folder)
    if need > free:
        raise UserError(
            f"{minutes:g} minutes take {need / 1e9:.1f} GB and the disk of {folder} has {free / 1e9:.1f} GB left; "
            "ask for fewer minutes or choose another folder"
        )


def is_there(folder: Path, plan: Plan) -> bool:
    """Whether `folder` already holds this very track, or a longer take of it.

    Raises:
        UserError: a file of that name is there and was not made by this script.
    """
    path = folder / f"{plan.name}.wav"
    if not path.exists():
        return False
    try:
        known = read_json(path.with_suffix(".json"))
        made_by = known["generator"]["script"]
    except (OSError, ValueError, KeyError, TypeError):
        made_by = None
    wanted = plan.describe()
    if made_by != wanted["generator"]["script"]:
        raise UserError(f"{path} is there already and was not made by this script; choose another folder or move it")
    same = all(known.get(key) == wanted.get(key) for key in ("generator", "bpm"))
    return same and known.get("seconds", 0) >= wanted["seconds"]


def write_track(folder: Path, plan: Plan) -> Path:
    """Render `plan` into `folder` as a 16-bit WAV with a JSON beside it; the WAV comes last, so where it is, both are.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    path = folder / f"{plan.name}.wav"
    samples = np.round(sound(plan).T * 32767.0).astype(np.int16)
    # A shorter or older take of the same track must not stand beside a JSON that speaks of the new one.
    path.unlink(missing_ok=True)
    write_json(path.with_suffix(".json"), plan.describe())
    with atomic_path(path) as part:
        try:
            soundfile.write(part, samples, SR, "PCM_16", format="WAV")
        except soundfile.LibsndfileError as error:
            raise UserError(f"{path} could not be written ({error}); is the disk full?") from error
    return path
