"""Rooms of the two proofs beside this folder: `torture.py` kills trainings, `fuzz.py` feeds damaged files."""

import argparse
import contextlib
import json
import sys
import tempfile
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


class Proof:
    """What both proofs are: a command line, a folder to work in, and a record of what was found, by whom and when.

    Args:
        title: the script's docstring, which is its help.
        name: of the script.
    """

    def __init__(self, title: str | None, name: str) -> None:
        self.name, self._facts, self._began = name, stamp(), time.monotonic()
        form = argparse.RawDescriptionHelpFormatter
        self.parser = argparse.ArgumentParser(description=title, formatter_class=form)
        self.parser.add_argument("--seed", type=int, default=0, help="of what is drawn, as far as it can be given")
        self.parser.add_argument("--jobs", type=int, default=1, help="processes at once")
        self.parser.add_argument("--out", type=Path, default=Path(f"outputs/{name}.json"), help="the record")

    @contextlib.contextmanager
    def folder(self) -> tp.Iterator[Path]:
        """Context with a folder that is gone afterwards."""
        with tempfile.TemporaryDirectory(prefix=f"{self.name}_") as folder:
            yield Path(folder).resolve()

    @property
    def seconds(self) -> float:
        """How long it has been going on."""
        return time.monotonic() - self._began

    def end(self, out: Path, found: dict[str, tp.Any]) -> tp.NoReturn:
        """Write down what was found and exit, with status 1 where there are faults."""
        out.parent.mkdir(parents=True, exist_ok=True)
        record = {**self._facts, "seconds": round(self.seconds), **found}
        out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"record: {out}")
        sys.exit(1 if found["faults"] else 0)
