"""Files that are either whole or not there."""

import errno
import glob
import json
import os
import shutil
import tempfile
import typing as tp
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ..errors import UserError

Writer = tp.Callable[[Path], object]  # writes the file of that path


@contextmanager
def atomic_path(path: str | Path) -> tp.Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` on success, remove it on any failure.

    The parent folder is made if it is missing. The suffix is kept, so writers that look at it still work. What a
    process that was killed left beside `path` is removed.

    Raises:
        UserError: the disk is full or there can be no such file; a former file at `path` is left as it was.
    """
    path = Path(path)
    temporary: Path | None = None
    held: int | None = None
    try:
        with disk_told(f"the disk is full, {path} was not written; free some space and run it again"):
            path.parent.mkdir(parents=True, exist_ok=True)
            held, temporary = _make_beside(path)
            yield temporary
            # mkstemp makes private files, as do writers that put their own there; give what a plain open() would.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
    except OSError as error:
        # Before there is a temporary file, and when it gets its name, it is the place that is wrong: a folder of that
        # name, a file where a folder should be. Other errors are those of the code inside the context.
        place = temporary is None or str(error.filename) == str(temporary)
        if place or error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UserError(f"{path} cannot be written ({error.strerror}); choose another place") from error
        raise
    finally:
        if held is not None:
            os.close(held)
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _make_beside(path: Path) -> tuple[int, Path]:
    """A temporary file beside `path`, and a handle that holds it for as long as it is open.

    Such files that nobody holds belonged to processes that were killed, and are removed.
    """
    mark = f".{path.stem}.~"
    for left in path.parent.glob(f"{glob.escape(mark)}????????{glob.escape(path.suffix)}"):
        with suppress(OSError), left.open("r+b") as file:
            if _hold(file.fileno(), wait=False):
                left.unlink()
    while True:
        handle, name = tempfile.mkstemp(prefix=mark, suffix=path.suffix, dir=path.parent)
        _hold(handle, wait=True)
        if Path(name).exists():
            return handle, Path(name)
        os.close(handle)  # another process saw it before it was held


def _hold(handle: int, wait: bool) -> bool:
    """Lock an open file until it is closed or its process ends; False where another has it, or there are no locks."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):  # Windows; a network disk
        return False
    return True


def check_place(folder: Path) -> None:
    """See whether files can be put into a folder, or it can be made where it is missing; which it stays.

    It is tried in the nearest folder that is there, as permissions alone tell little: root has them all.

    Raises:
        OSError: they cannot.
    """
    while True:
        try:
            folder.lstat()
            break
        except FileNotFoundError:
            folder = folder.parent
    with tempfile.TemporaryFile(dir=folder):  # has no name where the system can do without
        pass


def read_json(path: Path) -> tp.Any:
    """What a JSON file holds.

    Raises:
        OSError, ValueError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def write_text(path: str | Path, text: str) -> None:
    """Write a text whole or not at all. Raises UserError as `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: tp.Any, indent: int = 2) -> None:
    """Write plain values as JSON, as `write_text` does. Raises ValueError for NaN and infinity, which it has not."""
    write_text(path, json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def write_files(files: tp.Mapping[Path, Writer]) -> Path:
    """Write all files before the first takes the place of a former one.

    Returns:
        The path of the first.
    """
    with ExitStack() as ready:
        for path, write in files.items():
            write(ready.enter_context(atomic_path(path)))
    return next(iter(files))


def is_disk_full(error: BaseException) -> bool:
    """Whether `error` says that no space (or quota) is left."""
    if isinstance(error, RuntimeError):
        # torch's own file writer passes no errno on: on a full disk it finds itself at an "unexpected pos".
        return any(sign in str(error) for sign in ("inline_container", "PytorchStreamWriter", "file write failed"))
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def disk_told(full: str, place: str | Path | None = None) -> tp.Iterator[None]:
    """Context that writes files: what the system says of the disk becomes one line.

    Args:
        full: what is said where the disk is full.
        place: what cannot be written where anything else is wrong; None leaves such errors as they are.
    Raises:
        UserError: the disk is full, or the place cannot be written.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, RuntimeError) as error:
        if is_disk_full(error):
            raise UserError(full) from error
        if place is None or isinstance(error, RuntimeError):
            raise
        raise UserError(f"{place} cannot be written ({error.strerror}); choose another place") from error


def free_bytes(path: str | Path) -> int:
    """Bytes free on the disk that holds `path`, or its nearest existing parent."""
    path = Path(path).resolve()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
