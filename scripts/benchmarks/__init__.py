"""Rooms of the benchmarks: `bench.py`, `size.py` and `bench_gpu.py` beside this folder are their doors.

A number is measured in a process of its own (`process.measured`), appended to a JSONL (`record`), and every picture is
drawn from such a file alone. The process that measures others imports neither torch nor the package: it must not weigh
on them.
"""

import argparse
import typing as tp
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def positive(kind: type) -> tp.Callable[[str], tp.Any]:
    """A number above 0, for argparse."""

    def read_number(text: str) -> tp.Any:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    read_number.__name__ = kind.__name__  # argparse names it where the text is no number at all
    return read_number
