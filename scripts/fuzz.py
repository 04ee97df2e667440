"""Feed damaged files to what the commands do with them, and see that nothing worse than a line comes of it.

    python scripts/fuzz.py --minutes 10 [--least 1000] [--seed 0] [--kind audio …] [--jobs 1] [--out outputs/fuzz.json]
    python scripts/fuzz.py --kind audio --replay 17 [--keep FOLDER]

Input i of a kind is made from the seed SEED + i alone: sound in all containers, manifests, configs and overrides,
weights (some of them pickles that would run code), JSON of takes and recipes. Each is given to the entry functions of
the package, in a process beside this one. A traceback, a crash, a hang, 3 GiB of memory, a changed file elsewhere, a
file that ran code or asked for the environment: each is a fault, and the exit status 1. `--replay` feeds one input
again and shows where it fails; `--keep` copies it.
"""

import contextlib
import itertools
import json
import select
import shutil
import signal
import subprocess
import sys
import threading
import typing as tp
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from reliability import Proof, room

KINDS = ("audio", "manifest", "config", "checkpoint", "take")
PATIENCE_S = 180.0  # by the clock; the process itself stops after some seconds of work


class Fed:
    """A process that is fed, and started anew where it died or hangs."""

    def __init__(self, good: Path, work: Path) -> None:
        self._command, self._log = room("entries", good, work), work.with_suffix(".txt")
        self._start()

    def _start(self) -> None:
        with self._log.open("w") as log:
            pipes: dict[str, tp.Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
            self._process = subprocess.Popen(**self._command, text=True, **pipes)
        if not self._answer():
            sys.exit(f"error: the process that is fed does not start: {self._log.read_text()[-2000:]}")

    def _answer(self) -> str:
        """Its next line; empty where it died or is silent."""
        out = tp.cast(tp.IO[str], self._process.stdout)
        return out.readline() if select.select([out], [], [], PATIENCE_S)[0] else ""

    def feed(self, kind: str, seed: int) -> dict[str, tp.Any]:
        """Outcome of one input."""
        print(kind, seed, file=self._process.stdin, flush=True)
        if answer := self._answer():
            return json.loads(answer)
        self.close()
        status = -self._process.returncode
        says = "it hangs" if status in (signal.SIGKILL, signal.SIGPROF) else f"the process died of signal {status}"
        found = {"outcome": "fault", "says": says, "trace": self._log.read_text(errors="replace")[-3000:]}
        self._start()
        return found

    def close(self) -> None:
        """End the process."""
        tp.cast(tp.IO[str], self._process.stdin).close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)  # its own way of dying tells more
        self._process.kill()
        self._process.wait()


def fuzz(
    kinds: tp.Sequence[str], seed: int, go_on: tp.Callable[[int], bool], work: Path, jobs: int = 1
) -> dict[str, tp.Any]:
    """Feed inputs of all kinds in turn, for as long as `go_on(seed)`; counts and faults."""
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    faults: list[dict[str, tp.Any]] = []
    turns = ((index, kind) for index in itertools.takewhile(go_on, itertools.count(seed)) for kind in kinds)
    lock = threading.Lock()

    def work_through(fed: Fed) -> None:
        while True:
            with lock:
                number, kind = next(turns, (0, ""))
            if not kind:
                return fed.close()
            found = fed.feed(kind, number)
            with lock:
                counts[kind][found["outcome"]] += 1
                if found["outcome"] == "fault":
                    faults.append({"kind": kind, "seed": number, **found})
                    print(f"FAULT {kind} {number}: {found['says']}", flush=True)

    fed = [Fed(work / "good", work / f"fed{index}") for index in range(jobs)]  # the first makes the good files
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(work_through, fed))
    return {"inputs": {kind: {"all": count.total(), **count} for kind, count in counts.items()}, "faults": faults}


def main(argv: tp.Sequence[str] | None = None) -> None:
    """Parse the command line, feed, print, record."""
    proof = Proof(__doc__, "fuzz")
    proof.parser.add_argument("--minutes", type=float, default=10.0)
    proof.parser.add_argument("--least", type=int, default=0, help="go on until there are so many inputs of each kind")
    proof.parser.add_argument("--kind", nargs="+", choices=KINDS, default=list(KINDS))
    proof.parser.add_argument("--replay", type=int, metavar="SEED", help="feed the input of that seed alone")
    proof.parser.add_argument("--keep", type=Path, help="with --replay: where to copy the input")
    options = proof.parser.parse_args(argv)
    with proof.folder() as work:
        if options.replay is not None:
            return replay(work, options.kind, options.replay, options.keep)

        def go_on(number: int) -> bool:
            return proof.seconds < 60 * options.minutes or number < options.seed + options.least

        found = fuzz(options.kind, options.seed, go_on, work, options.jobs)
    for kind, count in found["inputs"].items():
        print(f"{kind:11}", *(f"{number:6} {name}" for name, number in count.items()))
    proof.end(options.out, {"seed": options.seed, **found})


def replay(work: Path, kinds: tp.Sequence[str], seed: int, keep: Path | None) -> None:
    """Feed the inputs of one seed and show what comes of them."""
    fed = Fed(work / "good", work / "fed0")
    for kind in kinds:
        found = fed.feed(kind, seed)
        print(kind, seed, *(f"{key}: {value}" for key, value in found.items()), sep="\n  ")
    if keep:
        shutil.copytree(work / "fed0" / "place" / "input", keep)
    fed.close()


if __name__ == "__main__":
    main()
