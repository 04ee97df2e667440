"""One process at a time trains in a run's folder."""

import os
import typing as tp
from contextlib import contextmanager
from pathlib import Path

from ..errors import UserError

LOCK_FILE = ".lock"


@contextmanager
def sole_use(folder: Path) -> tp.Iterator[None]:
    """Hold a run's folder while the context lasts; the system lets go of it however the process ends.

    Does nothing where the system or its disk has no locks.

    Raises:
        UserError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (folder / LOCK_FILE).open("a+") as file:
        try:
            # Not flock: processes that read the data would inherit it, and keep it when this one is killed.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            raise UserError(
                f"the run in {folder} is being trained already (process {file.read().strip() or 'unknown'}); wait for "
                "it, stop it, or give label=NAME for a run of its own"
            ) from None
        except OSError:  # a network disk without locks
            yield
            return
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
