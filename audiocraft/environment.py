"""Where things live: the config and assets folders, the outputs, the references."""

import os
from pathlib import Path

from .errors import UserError

PACKAGE_DIR = Path(__file__).resolve().parent


def resource_dir(kind: str) -> Path:
    """Folder of `config` or `assets`: at the root of a clone, inside the package when installed from a wheel.

    Raises:
        FileNotFoundError: neither is there; the installation is broken.
    """
    assert kind in ("config", "assets"), kind
    for folder in (PACKAGE_DIR / f"_{kind}", PACKAGE_DIR.parent / kind):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"the {kind} folder of micro-musicgen is missing beside {PACKAGE_DIR}; install it again")


def refuse_peer() -> None:
    """Stop where the peer's package is installed beside this one: both are imported as `audiocraft`.

    Raises:
        UserError: the distribution `audiocraft` is installed in this environment.
    """
    from importlib import metadata

    try:
        version = metadata.version("audiocraft")
    except metadata.PackageNotFoundError:
        return
    raise UserError(
        f"audiocraft {version} is installed in this environment and shares its import name with micro-musicgen; "
        "`pip uninstall audiocraft`, install micro-musicgen again, or use a virtual environment of its own"
    )


def share_cores() -> None:
    """Let torch's threads sleep while they wait for each other; must come before torch is imported.

    By default they spin. As soon as anything else runs on the machine, small models then crawl: on two cores with one
    busy neighbour the small codec took eight times as long to encode. Whoever sets OMP_WAIT_POLICY is not overruled.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


class AudioCraftEnvironment:
    """Folders that environment variables choose.

    - `AUDIOCRAFT_DORA_DIR`: where runs are kept; `outputs` in the working folder by default.
    - `AUDIOCRAFT_REFERENCE_DIR`: what `//reference/PATH` stands for.
    """

    @classmethod
    def get_dora_dir(cls) -> Path:
        """Folder of all runs (each in `xps/SIGNATURE`): that of the run in progress, if there is one."""
        from dora.xp import get_xp, is_xp

        if is_xp():
            return Path(get_xp().dora.dir)
        return Path(os.environ.get("AUDIOCRAFT_DORA_DIR") or "outputs").expanduser().absolute()

    @classmethod
    def get_reference_dir(cls) -> Path:
        """Folder that `//reference/` stands for.

        Raises:
            UserError: `AUDIOCRAFT_REFERENCE_DIR` is not set.
        """
        folder = os.environ.get("AUDIOCRAFT_REFERENCE_DIR")
        if not folder:
            raise UserError("//reference/... needs a folder: set AUDIOCRAFT_REFERENCE_DIR, or give a plain path")
        return Path(folder).expanduser().absolute()

    @classmethod
    def resolve_reference_path(cls, path: str | Path) -> Path:
        """`//reference/PATH` as a path below the reference folder; any other path as it is."""
        text = str(path)
        if text.startswith("//reference/"):
            return cls.get_reference_dir() / text.removeprefix("//reference/")
        return Path(text)
