"""Records: a JSONL that is only ever appended to, one line per measurement, each with what its numbers hang on."""

import json
import os
import platform
import subprocess
import typing as tp
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from . import ROOT

Record = dict[str, tp.Any]
LIBRARIES = ("torch", "numpy", "onnxruntime", "transformers")  # those that decide about speed


def commit() -> str:
    """Short hash of the checked-out commit, with a mark for changes; 'unknown' outside git."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def machine() -> str:
    """The processor's name, and how many cores this process may use."""
    name, cpuinfo = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].split(":")[1].strip() if lines else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{name}, {cores} cores"


def stamp() -> Record:
    """What every line of a record starts with: date, commit, machine, and versions of Python and `LIBRARIES`."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"date": now, "commit": commit(), "machine": machine(), "versions": versions}


class Session:
    """Lines that are measured in one go, and so can be told from those of another time.

    Args:
        path: the record.
        facts: what all lines say besides the stamp.
    """

    def __init__(self, path: Path, **facts: tp.Any) -> None:
        self.path = path
        self.facts = {**stamp(), **facts}
        self.facts["session"] = self.facts["date"]

    def note(self, what: str, **facts: tp.Any) -> None:
        """Add one line."""
        append(self.path, {**self.facts, "what": what, **facts})


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
        try:
            record = json.loads(line or "{}")
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise SystemExit(f"error: line {number} of {path} is damaged; remove it")
        records += [record] if record else []
    return records


def newest(records: tp.Iterable[Record], *keys: str) -> list[Record]:
    """Of records that agree in `keys`, those of the newest session only (`session` is the time when it began)."""
    last: dict[tuple[str, ...], str] = {}
    cases = [(tuple(str(record.get(key)) for key in keys), record) for record in records]
    for case, record in cases:
        last[case] = max(last.get(case, ""), record["session"])
    return [record for case, record in cases if record["session"] == last[case]]
