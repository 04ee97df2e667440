"""Checkpoint files: their names, reading, writing, and which to keep."""

import pickle
import re
import typing as tp
import warnings
import zipfile
from pathlib import Path

import torch

from ..environment import AudioCraftEnvironment
from ..errors import UserError
from ..utils.files import atomic_path
from ..utils.hub import fetch_again

_NUMBERED = re.compile(r"checkpoint_(\d+)\.th$")


def checkpoint_name(name: str | int | None = None) -> str:
    """`checkpoint.th`, or `checkpoint_NAME.th`; the name of a numbered checkpoint is its epoch."""
    return "checkpoint.th" if name is None else f"checkpoint_{name}.th"


def numbered_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """(epoch, path) of the checkpoints in `folder` that carry an epoch, oldest first."""
    found = [(_NUMBERED.search(path.name), path) for path in folder.glob("checkpoint_*.th")]
    return sorted((int(match[1]), path) for match, path in found if match)


def resolve_checkpoint_path(sig_or_path: str | Path, name: str | int | None = None) -> Path | None:
    """Path of the checkpoint that a path, a run's folder, a signature or `//sig/SIGNATURE` stands for.

    Args:
        name: None for the last checkpoint, or the epoch of a numbered one (for runs and folders).

    Returns:
        None if there is no such file.
    """
    text = str(sig_or_path)
    if text.startswith("//sig/"):
        path = AudioCraftEnvironment.get_dora_dir() / "xps" / text.removeprefix("//sig/").strip("/")
    else:
        path = AudioCraftEnvironment.resolve_reference_path(Path(text).expanduser())
        if not path.exists() and re.fullmatch(r"[0-9a-f]{8}", text):
            path = AudioCraftEnvironment.get_dora_dir() / "xps" / text
    if path.is_dir():
        path = path / checkpoint_name(name)
    return path if path.is_file() else None


def load_checkpoint(checkpoint_path: str | Path) -> tp.Any:
    """Read a checkpoint or an export to the CPU: tensors, numbers, strings, lists and dicts only.

    Tensors stay on disk (memory-mapped) until they are used.

    Raises:
        UserError: the file is missing, damaged, or holds pickled objects (as training checkpoints of the peer do).
    """
    path = Path(checkpoint_path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}; check the path")
    try:
        is_zip = zipfile.is_zipfile(path)
        if is_zip:
            _check_sums(path)
        # Mapped, a tensor is read when it is used; only the zip layout (every torch since 1.6) can be.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about pickles that it then refuses
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except PermissionError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); change its permissions") from error
    except Exception as error:  # what a reader of pickles stumbles over in other bytes has any type: IndexError, …
        if isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(path):
            raise UserError(
                f"{path} holds pickled objects, which are not read here; if it is a training checkpoint of audiocraft, "
                "export it there (audiocraft.utils.export) and give the exported file"
            ) from error
        objects = ", or holds pickled objects, which are not read" if isinstance(error, pickle.UnpicklingError) else ""
        raise UserError(f"{path} is damaged or no checkpoint{objects}{_way_out(path)}") from error


def _check_sums(path: Path) -> None:
    """Raise BadZipFile where the bytes are not those that were written: torch does not look, and plays them as noise.

    Costs one reading of the file, which the mapped tensors then find in memory.
    """
    with zipfile.ZipFile(path) as archive:
        if broken := archive.testzip():
            raise zipfile.BadZipFile(broken)


def _way_out(path: Path) -> str:
    """Which other checkpoint beside `path` to go back to, if it is one of a run; else the folder is somebody's own."""
    if advice := fetch_again(path):
        return f"; {advice}"
    if path.name != checkpoint_name() and not _NUMBERED.fullmatch(path.name):
        return "; check the path, or copy the file again"
    # A numbered checkpoint may be the same file under a second name, and then is as damaged.
    others = [other for _, other in numbered_checkpoints(path.parent) if not other.samefile(path)]
    if not others:
        return f"; no earlier one is beside it: remove {path.parent} to start anew"
    return f"; go back to the one before: cp {others[-1]} {path.parent / checkpoint_name()}"


def save_checkpoint(state: tp.Any, checkpoint_path: str | Path) -> None:
    """Write a checkpoint whole or not at all.

    Raises:
        UserError: the disk is full; a former file of that name is left as it was.
    """
    path = Path(checkpoint_path)
    try:
        with atomic_path(path) as temporary:
            torch.save(state, temporary)
    except UserError as error:
        raise UserError(f"{error} (the same command resumes from the last checkpoint)") from error


def flush_stale_checkpoints(checkpoint_path: str | Path, keep_last: int | None = None) -> None:
    """Remove all but the `keep_last` newest numbered checkpoints beside `checkpoint_path`; None keeps all."""
    if keep_last is None:
        return
    kept = max(0, keep_last)
    numbered = numbered_checkpoints(Path(checkpoint_path).parent)
    for _, path in numbered[: len(numbered) - kept]:
        path.unlink(missing_ok=True)
