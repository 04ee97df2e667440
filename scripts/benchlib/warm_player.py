"""A second call of the ONNX player in one process; `player.py` as a program makes one only.

    python -m benchlib.warm_player FOLDER BATCH SECONDS

Prints a JSON line: seconds of the language model, of the codec, and in all. The first call is a short one.
"""

import importlib.util
import json
import sys
import time
import typing as tp
from pathlib import Path

FIRST_SECONDS = 1.0


def measure(folder: Path, batch: int, seconds: float) -> dict[str, float]:
    """Play twice, and time the second time."""
    spec = importlib.util.spec_from_file_location("player", folder / "player.py")
    assert spec is not None and spec.loader is not None
    module: tp.Any = importlib.util.module_from_spec(spec)
    sys.modules["player"] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    player = module.Player(folder)
    for _ in player.play(batch, player.frames(min(seconds, FIRST_SECONDS)), 0, module.Sampling()):
        pass
    before, began = dict(player.clock.spent), time.perf_counter()
    for _ in player.play(batch, player.frames(seconds), 1000, module.Sampling()):
        pass
    total = time.perf_counter() - began
    return {phase: round(spent - before[phase], 4) for phase, spent in player.clock.spent.items()} | {
        "total": round(total, 4)
    }


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))))
