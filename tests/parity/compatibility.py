"""The tables of docs/COMPATIBILITY.md: what is deliberately not as in the peer, for the tests that find differences."""

import fnmatch
import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "COMPATIBILITY.md"


@dataclass(frozen=True)
class Row:
    """One row: what stands in backticks in its first cell, and all cells as they are."""

    names: tuple[str, ...]
    cells: tuple[str, ...]


def rows(heading: str) -> list[Row]:
    """The rows of the table under a heading of the page."""
    text = PAGE.read_text(encoding="utf-8")
    section = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"{PAGE.name} has no heading {heading!r}"
    lines = [line for line in section[1].splitlines() if line.startswith("|")]
    found = []
    for line in lines[2:]:  # the head and the rule below it
        cells = tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
        found.append(Row(tuple(re.findall(r"`([^`]+)`", cells[0])), cells))
    assert found, f"{PAGE.name} has no table under {heading!r}"
    for row in found:
        assert row.names and all(row.cells), f"a name or a reason is missing in {row}"
    return found


def covers(pattern: str, name: str) -> bool:
    """Whether a name of a table (which may end in `.*`) means `name`, or something `name` belongs to."""
    return fnmatch.fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")
