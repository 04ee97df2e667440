"""Check and measure a GPU in ten minutes: correctness, steps against their floor, ten clips cold and warm, training.

    python scripts/bench_gpu.py [--device cuda] [--minutes 10] [--out outputs/bench_gpu]

Offline: it plays random weights of micro's shape. Writes OUT/gpu.json and OUT/gpu.png, which are what to send with a
report, and OUT/gpu.md to read; appends to OUT/gpu.jsonl and OUT/play.jsonl. What takes too long is left out.
`--device cpu --scale pico --seconds 1 --runs 1` runs the same without a GPU, to see that it works.
"""

import argparse
import json
import os
import sys
import time
import typing as tp
from pathlib import Path

from benchmarks import positive
from benchmarks.gpu import GpuPlan, last_session, measure, summary, wrong
from benchmarks.gpu_figure import draw
from benchmarks.process import end_at
from benchmarks.record import read
from benchmarks.weights import SCALES

from audiocraft.errors import UserError
from audiocraft.utils.device import resolve_device

_WRITING_SECONDS = 15.0


def main(argv: tp.Sequence[str] | None = None) -> int:
    """Parse the command line, measure, write. Returns the exit status: 1 if a check failed or a part is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, …")
    parser.add_argument("--scale", dest="models", nargs=1, choices=SCALES, default=["micro"])
    parser.add_argument(
        "--seconds", type=positive(float), default=10.0, help="length of a clip, and of a segment in training"
    )
    parser.add_argument("--batches", nargs="+", type=positive(int), default=[1, 10], help="clips at once")
    parser.add_argument("--runs", type=positive(int), default=3, help="cold starts of one clip; of more clips a third")
    parser.add_argument("--weights", choices=("auto", "hub", "random"), default="random")
    parser.add_argument("--train-batch", type=positive(int), default=8, help="segments in a training step")
    parser.add_argument("--minutes", type=positive(float), default=10.0, help="how long this may take")
    parser.add_argument("--out", type=Path, default=Path("outputs/bench_gpu"), help="folder of records and summary")
    parser.add_argument("--write-only", action="store_true", help="measure nothing, write OUT/gpu.md from the records")
    options = vars(parser.parse_args(argv))
    good = True
    if not options.pop("write_only"):
        try:
            resolve_device(options["device"])
        except UserError as error:
            sys.exit(f"error: {error}")
        if options["weights"] != "hub":
            os.environ["HF_HUB_OFFLINE"] = "1"
        end_at(time.monotonic() + 60 * options["minutes"] - _WRITING_SECONDS)
        good = measure(GpuPlan(engines=["torch", "torch-float32"], **options))
    out, play = options["out"], options["out"] / "play.jsonl"
    records = last_session(read(out / "gpu.jsonl"))
    # Of this time, not of one before.
    played = [one for one in (read(play) if play.is_file() else []) if one["session"] >= records[0]["session"]]
    text, found = summary(records, played), wrong(records)
    (out / "gpu.md").write_text(text, encoding="utf-8")
    content = {"wrong": found, "gpu": records, "play": played}
    (out / "gpu.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    draw(records, text.splitlines()[0].removeprefix("# "), found, out / "gpu.png")
    print(text, *found or ["Nothing is wrong."], f"To send: {out / 'gpu.json'}, {out / 'gpu.png'}", sep="\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
