"""Records: a JSONL that is only ever appended to, one line per measurement."""

import json
import typing as tp
from pathlib import Path

Record = dict[str, tp.Any]


def append(path: Path, record: Record) -> None:
    """Add one line; the folder is made if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, ensure_ascii=False) + "\n")


def read(path: Path) -> list[Record]:
    """All lines.

    Raises:
        SystemExit: there is no such file, or a line of it is damaged.
    """
    if not path.is_file():
        raise SystemExit(f"error: there is no record {path}; measure first, or give the folder that holds it")
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise SystemExit(f"error: line {number} of {path} is damaged; remove it")
        records.append(record)
    return records


def newest(records: tp.Iterable[Record], *keys: str) -> list[Record]:
    """Of records that agree in `keys`, those of the newest session only (`session` is the time when it began)."""
    last: dict[tuple[tp.Any, ...], str] = {}
    kept = list(records)
    for record in kept:
        case = tuple(str(record.get(key)) for key in keys)
        last[case] = max(last.get(case, ""), record["session"])
    return [record for record in kept if record["session"] == last[tuple(str(record.get(key)) for key in keys)]]
