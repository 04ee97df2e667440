"""Rooms of the benchmarks: `bench.py`, `size.py` and `bench_gpu.py` beside this folder are their doors.

A number is measured in a process of its own, appended to a JSONL, and every picture is drawn from such a file alone.
The process that measures others imports neither torch nor the package: it must not weigh on them.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
