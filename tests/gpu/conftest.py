"""Tests of GPUs share what lies beside them."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
for folder in (HERE, HERE.parent / "solvers"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
