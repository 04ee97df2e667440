"""Numbers and tables for people to read."""

import typing as tp

Rows = tp.Iterable[tp.Sequence[str]]


def cell(value: float | None, decimals: int = 2, unit: str = "", none: str = "–") -> str:
    """A number with so many decimals and a unit; `none` where there is none."""
    return none if value is None else f"{value:.{decimals}f}{unit}"


def text_table(head: tp.Sequence[str], rows: Rows, left: tp.Container[int] = (0,), least: int = 0, gap: int = 2) -> str:
    """Columns of text, as wide as their widest cell, at least `least`, and set right, but for those that are to stand
    `left`."""
    columns = []
    for index, cells in enumerate(zip(head, *rows)):
        width = max(least, *map(len, cells))
        columns.append([cell.ljust(width) if index in left else cell.rjust(width) for cell in cells])
    return "\n".join((" " * gap).join(cells).rstrip() for cells in zip(*columns))


def markdown(head: tp.Sequence[str], rows: Rows) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))
