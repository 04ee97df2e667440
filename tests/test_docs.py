"""Documents name files that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {path.name for path in (ROOT / "audiocraft").iterdir() if path.is_dir() and not path.name.startswith("_")}


def named_paths(text: str) -> set[str]:
    """Paths in a text that begin in a folder of the repository or in a room of the package."""
    words = re.findall(r"(?<![\w/.~-])(?:[\w.-]+/)+[\w.-]*\w|(?<![\w/.~-])\w+/(?=[`| ])", text)
    return {word.rstrip("/.") for word in words}


@pytest.mark.parametrize("page", ["docs/ARCHITECTURE.md", "README.md"])
def test_files_that_a_page_names_are_there(page: str) -> None:
    begins = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")} | ROOMS
    begins -= {"outputs", "egs"}  # made by those who follow the page
    paths = {path for path in named_paths((ROOT / page).read_text(encoding="utf-8")) if path.split("/")[0] in begins}
    paths = {path for path in paths if "NAME" not in path}
    assert len(paths) > 10
    places = (ROOT, ROOT / "audiocraft")
    assert [path for path in sorted(paths) if not any((place / path).exists() for place in places)] == []


def test_the_architecture_is_short_and_names_every_room() -> None:
    lines = (ROOT / "docs/ARCHITECTURE.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    assert [room for room in sorted(ROOMS) if not any(f"`{room}/`" in line for line in lines)] == []
