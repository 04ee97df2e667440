"""Where things live: the config and assets folders, the outputs, the references."""

from pathlib import Path

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
