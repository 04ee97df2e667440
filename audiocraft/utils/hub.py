"""Files of the Hugging Face hub: from the cache, else over the net where it answers, else a clear no."""

import os
import re
import typing as tp
from pathlib import Path

from ..errors import UserError
from .files import atomic_path

_HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")
_PROBE_SECONDS = 5.0


def is_hub_id(name: str) -> bool:
    """Whether `name` could be a repository of the hub: two words around one slash."""
    return bool(_HUB_ID.match(name)) and not name.startswith(".")


def get_audiocraft_cache_dir() -> str | None:
    """Where downloaded weights go: `$AUDIOCRAFT_CACHE_DIR`, or None for the hub's own default."""
    return os.environ.get("AUDIOCRAFT_CACHE_DIR", None)


def cached_file(repo: str, file: str, cache_dir: str | None = None, commit: str | None = None) -> Path | None:
    """A file of a repository in the cache, as it is there; the net is not asked."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, file, cache_dir=cache_dir or get_audiocraft_cache_dir(), revision=commit)
    return Path(found) if isinstance(found, str) else None


def fetched_file(repo: str, file: str, cache_dir: str | None, ways_out: str, commit: str | None = None) -> Path | None:
    """A file of a repository, downloaded, of the newest commit where none is given; None where there is no such one.

    Raises:
        UserError: the hub refuses, or breaks off; `ways_out` ends the message.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(hf_hub_download(repo, file, cache_dir=cache_dir or get_audiocraft_cache_dir(), revision=commit))
    except LocalEntryNotFoundError as error:
        raise UserError(f"{file} of {repo} could not be downloaded from the hub; {ways_out}") from error
    except EntryNotFoundError:
        return None
    except RepositoryNotFoundError as error:
        raise UserError(
            f"there is no repository {repo} on the hub, or it is private (hf auth login); {ways_out}"
        ) from error
    except Exception as error:  # of the hub's client, of what it reads the net with, of the disk
        problem = f"{file} of {repo} cannot be fetched from the hub ({type(error).__name__})"
        raise UserError(f"{problem}; try again, or {ways_out}") from error


def check_reachable(repo: str, missing: tp.Sequence[str], cache_dir: str | None, ways_out: str) -> None:
    """Ask whether the hub can be reached, of which some files of a repository are needed.

    Raises:
        UserError: it cannot.
    """
    if is_reachable():
        return
    from huggingface_hub import constants

    folder = Path(cache_dir or get_audiocraft_cache_dir() or constants.HF_HUB_CACHE)
    some = any((folder / f"models--{repo.replace('/', '--')}" / "snapshots").glob("*/*"))
    where = f"is in the cache without {' or '.join(missing)}" if some else "is neither here nor in the cache"
    raise UserError(f"{repo} {where}, and the hub cannot be reached; {ways_out}")


def is_in_cache_of(path: Path, repo: str) -> bool:
    """Whether a file was downloaded from that repository; it is then in a folder named after the commit."""
    return is_hub_id(repo) and f"models--{repo.replace('/', '--')}" in path.parts


def fetch_again(path: Path) -> str | None:
    """How to have a file of the cache fetched anew; None for a file from elsewhere."""
    repositories = [parent for parent in path.parents if parent.name.startswith("models--")]
    return f"remove {repositories[0]} to have it fetched again" if repositories else None


def url_file(url: str, cache_dir: str | None, ways_out: str) -> Path:
    """Path of a file given by its address, downloaded once.

    Raises:
        UserError: it cannot be downloaded.
    """
    import hashlib
    from urllib.parse import urlsplit

    import torch

    folder = Path(cache_dir or get_audiocraft_cache_dir() or Path(torch.hub.get_dir()) / "checkpoints")
    # Files of one name from two addresses are two files.
    path = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{urlsplit(url).path.rsplit('/', 1)[-1]}"
    if not path.is_file():
        try:
            with atomic_path(path) as temporary:
                torch.hub.download_url_to_file(url, str(temporary))
        except OSError as error:  # urllib's errors are OSErrors
            raise UserError(f"{url} cannot be downloaded ({error}); {ways_out}") from error
    return path


def is_reachable() -> bool:
    """Whether the hub answers within a few seconds.

    One short request: its own client would try again for half a minute before it gives up.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=_PROBE_SECONDS)
    except Exception:  # requests, httpx and the hub's offline mode each have their own family
        return False
    return True
