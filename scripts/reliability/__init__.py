"""Rooms of the two proofs beside this folder: `torture.py` kills trainings, `fuzz.py` feeds damaged files."""

import json
import sys
import time
import typing as tp
from pathlib import Path

from benchmarks.process import own_tree
from benchmarks.record import stamp


def room(name: str, *arguments: object) -> dict[str, tp.Any]:
    """How `subprocess.Popen` starts a module of this folder as a program."""
    environment = {**own_tree(), "OMP_NUM_THREADS": "1"}
    environment.pop("AUDIOCRAFT_DORA_DIR", None)
    return {"args": [sys.executable, "-P", "-m", f"reliability.{name}", *map(str, arguments)], "env": environment}


def begin_record() -> tp.Callable[[Path, dict[str, tp.Any]], None]:
    """A function that writes to a file what was found since now, with commit, machine and date."""
    facts, began = stamp(), time.monotonic()

    def keep(out: Path, found: dict[str, tp.Any]) -> None:
        out.parent.mkdir(parents=True, exist_ok=True)
        record = {**facts, "seconds": round(time.monotonic() - began), **found}
        out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"record: {out}")

    return keep
