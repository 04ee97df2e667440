"""Manifests: one line of JSON per audio file, in `data.jsonl` or `data.jsonl.gz`."""

import gzip
import json
import shlex
import typing as tp
import zlib
from pathlib import Path

from ..errors import UserError
from ..utils.files import atomic_path
from ..utils.segments import AudioMeta

MANIFEST_NAMES = ("data.jsonl", "data.jsonl.gz")
# Seconds; thirty years. JSON knows Infinity too.
_LONGEST = 1e9


def save_audio_meta(path: str | Path, meta: tp.Iterable[AudioMeta]) -> None:
    """Write a manifest, gzipped if its name ends in `.gz`. It is whole or not there.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    data = "".join(json.dumps(item.to_dict()) + "\n" for item in meta).encode()
    with atomic_path(path) as temporary:
        # mtime 0: the same files give the same bytes.
        temporary.write_bytes(gzip.compress(data, mtime=0) if str(path).endswith(".gz") else data)


def load_audio_meta(path: str | Path, resolve: bool = True, fast: bool = True) -> list[AudioMeta]:
    """Read a manifest.

    Args:
        path: a `.jsonl` or `.jsonl.gz` file.
        resolve: make relative paths absolute: a file is looked for from the folder the command started in, then from
            the manifest's folder.
        fast: False also follows symbolic links to the real files.

    Raises:
        UserError: no such manifest, a line that is not a record (named by its number), no records, or none of its files
            exist.
    """
    path = Path(path)
    meta = [_parse(line, number, path) for number, line in enumerate(_lines(path), start=1) if line.strip()]
    if not meta:
        raise UserError(f"the manifest {path} lists no files; make it anew with {_remedy(path)}")
    if resolve:
        _resolve(meta, path, follow_links=not fast)
    return meta


def find_manifest(root: str | Path) -> Path:
    """The manifest meant by `root`: itself if it is a file, else `data.jsonl` or `data.jsonl.gz` in it.

    Raises:
        UserError: there is none.
    """
    root = Path(root)
    if root.is_dir():
        for name in MANIFEST_NAMES:
            if (root / name).is_file():
                return root / name
        raise UserError(f"there is no manifest data.jsonl in {root}; make it with {_remedy(root / MANIFEST_NAMES[0])}")
    if not root.is_file():
        wanted = root if root.name.endswith((".jsonl", ".jsonl.gz")) else root / MANIFEST_NAMES[0]
        raise UserError(f"there is no manifest {wanted}; make it with {_remedy(wanted)}")
    return root


def _remedy(manifest: Path) -> str:
    return f"python -m audiocraft.data.audio_dataset FOLDER {shlex.quote(str(manifest))}"


def _lines(path: Path) -> list[str]:
    path = find_manifest(path)
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode(
            "utf-8-sig"
        )  # some editors leave a mark
        return text.split("\n")  # splitlines also cuts at characters that a path may hold
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"the manifest {path} is damaged ({error}); make it anew with {_remedy(path)}") from error


def _parse(line: str, number: int, path: Path) -> AudioMeta:
    try:
        item = AudioMeta.from_dict(json.loads(line))
        item.duration, item.sample_rate = float(item.duration), int(item.sample_rate)
        if not isinstance(item.info_path, str | None):
            raise ValueError("the info_path is no text")
        if not (isinstance(item.path, str) and 0 <= item.duration < _LONGEST and item.sample_rate > 0):
            raise ValueError("a value is out of its range")
        if item.weight is not None and not 0 <= float(item.weight) < float("inf"):
            raise ValueError("the weight is not a number from 0 up")
        return item
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(
            f"line {number} of {path} does not describe an audio file ({error});"
            f" remove the line or make the manifest anew with {_remedy(path)}"
        ) from error


def _resolve(meta: list[AudioMeta], manifest: Path, follow_links: bool) -> None:
    """Make the paths absolute, in place."""
    bases = [Path.cwd(), manifest.resolve().parent]
    found = 0
    for item in meta:
        if Path(item.path).is_absolute():
            # One file that exists is proof enough that the folder is there; looking at each costs time on network
            # disks.
            found = found or _is_there(Path(item.path))
        else:
            for base in bases:
                if _is_there(base / item.path):
                    item.path = str(base / item.path)
                    found = 1
                    # Files of a manifest live together: the next one is looked for here first.
                    bases.sort(key=lambda other: other != base)
                    break
            else:
                item.path = str(bases[0] / item.path)
        if item.info_path is not None and not Path(item.info_path).is_absolute():
            candidates = [base / item.info_path for base in bases]
            item.info_path = str(next((path for path in candidates if _is_there(path)), candidates[0]))
        if follow_links:
            item.path = str(Path(item.path).resolve())
    if not found:
        raise UserError(
            f"none of the {len(meta)} files listed in {manifest} exist (the first is {meta[0].path});"
            f" start in the folder it was made in, or make it anew with {_remedy(manifest)}"
        )


def _is_there(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # a name that no disk takes
        return False
