"""Processes that are measured: seconds from before their start, processor time, peak memory."""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import typing as tp
from dataclasses import dataclass

from . import ROOT

# The clock of the parent just before a process starts; `time.monotonic` is one clock for the whole system.
START_VARIABLE = "MICRO_MUSICGEN_BENCH_START"
_end = math.inf


class ProcessFailed(Exception):
    """A measured process ended with an error; the message is its last line."""


@dataclass
class Finished:
    """What one process printed and cost: seconds from before its start to its end, of processors, and MiB."""

    printed: str
    wall_s: float
    cpu_s: float
    peak_mib: float


def end_at(moment: float) -> None:
    """From `moment` of `time.monotonic` on no process is started, and one that runs is killed."""
    global _end
    _end = moment


def own_tree() -> dict[str, str]:
    """The environment in which Python imports from this tree, not from another that may be installed."""
    paths = [str(ROOT), str(ROOT / "scripts"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def run(command: tp.Sequence[str], accepted: tp.Container[int] = (0,)) -> Finished:
    """Run one process to its end; what it writes to stderr is kept to itself.

    Args:
        command: the program and its arguments.
        accepted: exit statuses that are no failure.
    Raises:
        ProcessFailed: it ended with another exit status, or there is no time left, see `end_at`.
    """
    if (left := _end - time.monotonic()) <= 0:
        raise ProcessFailed("no time is left for it; give more --minutes")
    environment = own_tree()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as told:
        began = time.monotonic()
        environment[START_VARIABLE] = repr(began)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=told, env=environment, text=True)
        assert process.stdout is not None
        timer = threading.Timer(min(left, threading.TIMEOUT_MAX), process.kill)
        timer.start()
        try:
            printed = process.stdout.read()
            # wait4 tells what this one child has cost; Popen.wait does not.
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        finally:
            timer.cancel()
            process.stdout.close()
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in accepted:
            if time.monotonic() >= _end:
                raise ProcessFailed("it was not done in the time that was left; give more --minutes")
            told.seek(0)
            lines = told.read().strip().splitlines() or [f"exit status {process.returncode}"]
            raise ProcessFailed(lines[-1].removeprefix("error: "))
    # Linux counts in KiB, macOS in bytes.
    peak_mib = usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    return Finished(printed, wall, usage.ru_utime + usage.ru_stime, peak_mib)


def call(function: str, **arguments: tp.Any) -> Finished:
    """Call a function of this folder, 'MODULE.FUNCTION', in a process of its own.

    Args:
        arguments: numbers, texts, lists of them; paths are given as texts.
    Raises:
        ProcessFailed: it raised an error.
    """
    return run([sys.executable, "-P", "-m", "benchmarks", function, json.dumps(arguments, default=str)])


def measured(function: str, **arguments: tp.Any) -> tp.Any:
    """What a function returns that is called as `call` does."""
    return json.loads(call(function, **arguments).printed.strip().splitlines()[-1])


def audiocraft(*arguments: object) -> Finished:
    """Run `python -m audiocraft …`.

    Raises:
        ProcessFailed: it ended with an error.
    """
    return run([sys.executable, "-m", "audiocraft", *map(str, arguments)])


def spread(values: tp.Sequence[float], digits: int = 3) -> dict[str, float]:
    """Median, best and worst of some runs."""
    return {
        "median": round(statistics.median(values), digits),
        "best": round(min(values), digits),
        "worst": round(max(values), digits),
    }
