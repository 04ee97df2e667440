"""How large models are: parameters of language model and codec, files per format, memory while ten clips are made.

    python scripts/size.py [--out outputs/bench] [--scales micro small …] [--draw-only]

Small scales are built with random weights, their files weighed, and ten clips of ten seconds are made with each engine,
each in a process of its own. Of the others only shapes are known, and sizes of files are computed from these. Prints a
table, appends to OUT/size.jsonl and draws OUT/size.png from it.
"""

import argparse
import sys
import typing as tp
from pathlib import Path

from benchmarks.process import ProcessFailed
from benchmarks.record import read
from benchmarks.sizes import BUILT_SCALES, measure
from benchmarks.weights import SCALES


def main(argv: tp.Sequence[str] | None = None) -> None:
    """Parse the command line, measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scales", nargs="+", choices=SCALES, default=list(SCALES))
    built_help = "scales to build and to play; the default is all up to small"
    parser.add_argument("--built", nargs="*", choices=SCALES, default=list(BUILT_SCALES), help=built_help)
    parser.add_argument("--out", type=Path, default=Path("outputs/bench"), help="folder of record, figure and weights")
    parser.add_argument("--draw-only", action="store_true", help="measure nothing, draw what OUT/size.jsonl holds")
    options = parser.parse_args(argv)
    try:
        record = options.out / "size.jsonl"
        if not options.draw_only:
            measure(options.scales, options.built, options.out)
        from benchmarks.size_figure import Sizes, draw, table  # matplotlib, for which measuring has no use

        sizes = Sizes(read(record))
        print(table(sizes))
        draw(sizes, options.out / "size.png")
        print(f"drew {options.out / 'size.png'}")
    except ProcessFailed as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
