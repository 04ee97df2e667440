"""Audio that commands listen to, and files in which they say what they heard."""

import typing as tp
from contextlib import contextmanager
from pathlib import Path

import typer

from ..errors import UserError


def find_audio(place: Path, takes: bool = False) -> list[str]:
    """Absolute paths of the audio in a folder, in a manifest, or of a file. Takes are no material where they lie below
    a folder.

    Raises:
        UserError: there is none.
    """
    from ..data.manifest import load_audio_meta
    from ..data.scan import scan_folder
    from ..environment import AudioCraftEnvironment
    from .folder import without_own_work

    if not place.is_dir():
        if not place.exists():
            raise UserError(f"there is no file or folder {place}; give audio")
        if place.name.endswith((".jsonl", ".jsonl.gz")):
            return [item.path for item in load_audio_meta(place)]
        return [str(place.resolve())]
    report = scan_folder(place, workers=4, resolve=True, shortest=0)
    tell(report.skipped)
    if takes:
        return [item.path for item in report.meta]
    outputs = AudioCraftEnvironment.get_dora_dir().resolve()
    return [item.path for item in without_own_work(report.meta, place.resolve(), outputs)]


def check_file(path: Path | None, ending: str) -> None:
    """See whether a file of that ending can be written, before there is something to write.

    Raises:
        UserError: it cannot.
    """
    from .takes import check_folder

    if path is None:
        return
    if path.suffix.lower() != ending:
        raise UserError(f"{path} would be a {ending} file by another name; let it end in {ending}")
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the name of a file")
    check_folder(path.parent)


@contextmanager
def listening(seconds: float) -> tp.Iterator[tp.Callable[[float], None]]:
    """A progress bar over so many seconds of sound; what it gives is called with the seconds done."""
    from tqdm import tqdm

    whole = round(seconds)
    with tqdm(total=whole, desc="Listening", bar_format="{l_bar}{bar}| {elapsed}<{remaining}") as bar:

        def advance(done: float) -> None:
            bar.update(min(done, whole - bar.n))  # headers are a little off, and a bar that is too full complains

        yield advance


def tell(skipped: tp.Sequence[tuple[str, str]]) -> None:
    """Say which files were left out, and why."""
    for path, reason in dict(skipped).items():
        typer.echo(f"left out {path}: {reason}", err=True)


def write_record(path: Path, facts: dict[str, tp.Any]) -> None:
    """Write plain values as JSON, with the version that found them."""
    from .. import __version__
    from ..utils.files import write_json

    write_json(path, {"version": __version__, **facts}, indent=1)
