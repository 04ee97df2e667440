"""A second call of the ONNX player in one process; `player.py` as a program makes one only.

    python -m benchmarks.warm_player FOLDER BATCH SECONDS

Prints a JSON line: seconds of the language model, of the codec, and in all. The first call is a short one.
"""

import importlib
import json
import sys
import time
import typing as tp
from pathlib import Path

FIRST_SECONDS = 1.0


def measure(folder: Path, batch: int, seconds: float) -> dict[str, float]:
    """Play twice, and time the second time."""
    sys.path.insert(0, str(folder))  # where player.py finds its own parts
    engine: tp.Any = importlib.import_module("engine")
    generation: tp.Any = importlib.import_module("generation")
    player, sampling = engine.Player(folder), generation.Sampling()
    for _ in player.play(batch, player.frames(min(seconds, FIRST_SECONDS)), 0, sampling):
        pass
    before, began = dict(player.clock.spent), time.perf_counter()
    for _ in player.play(batch, player.frames(seconds), 1000, sampling):
        pass
    total = time.perf_counter() - began
    return {phase: round(spent - before[phase], 4) for phase, spent in player.clock.spent.items()} | {
        "total": round(total, 4)
    }


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))))
