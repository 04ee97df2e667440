"""Measure the numbers this project holds itself to, each in processes of its own.

    python scripts/bench.py                   from a shell prompt to sound: phases, models, engines, a figure
    python scripts/bench.py play --help       ... and what can be chosen there
    python scripts/bench.py import            import cost, beyond torch's own
    python scripts/bench.py material          making 10 minutes of jungle, CPU seconds of one core
    python scripts/bench.py long-file         coding a one-hour file: seconds and peak memory, encode and decode
    python scripts/bench.py boot MODEL        process start to the end of `generate` of 10 s of audio
    python scripts/bench.py memory MODEL      peak memory while 30 s and 10 minutes are made
    python scripts/bench.py divergence MODEL  how far 8-bit weights are from float32: KL of what comes next

`play` appends a line per process to OUT/play.jsonl and draws OUT/play.png from it; the others print a table and append
a line to outputs/bench.jsonl.
"""

import argparse
import sys
import typing as tp
from pathlib import Path

from benchmarks import house, positive
from benchmarks.engines import ENGINES
from benchmarks.process import ProcessFailed
from benchmarks.record import append, read, stamp

HOUSE_RECORD = Path("outputs/bench.jsonl")


def main(argv: tp.Sequence[str] | None = None) -> None:
    """Parse the command line, measure, print and append."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments.insert(0, "play")
    options = parse(arguments)
    try:
        if options.what == "play":
            play(options)
        else:
            measure_house(options)
    except ProcessFailed as error:
        sys.exit(f"error: {error}")


def parse(arguments: tp.Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)

    command = commands.add_parser("play", help="from a shell prompt to sound")
    models_help = "scales (micro, small, …), folders, hub ids"
    command.add_argument("--models", nargs="+", default=["micro", "small"], help=models_help)
    command.add_argument("--batches", nargs="+", type=positive(int), default=[1, 10], help="clips at once")
    engines_help = "the default is torch and player-int8, and torch-float32 for the fewest clips"
    command.add_argument("--engines", nargs="+", choices=ENGINES, help=engines_help)
    command.add_argument("--seconds", type=positive(float), default=10.0, help="length of a clip")
    runs_help = "runs of one clip; larger models and batches get fewer"
    command.add_argument("--runs", type=positive(int), default=5, help=runs_help)
    command.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N, or mps (which was never tried)")
    weights_help = "published weights, random ones of the same shapes, or what there is"
    command.add_argument("--weights", choices=("auto", "hub", "random"), default="auto", help=weights_help)
    command.add_argument("--out", type=Path, default=Path("outputs/bench"), help="folder of record, figure, weights")
    command.add_argument("--draw-only", action="store_true", help="measure nothing, draw what OUT/play.jsonl holds")

    command = commands.add_parser("import", help="import cost, beyond torch's own")
    command.add_argument("--runs", type=positive(int), default=5, help="processes to take the median of")
    command = commands.add_parser("material", help="making jungle")
    command.add_argument("--minutes", type=positive(float), default=10)
    command = commands.add_parser("long-file", help="coding a one-hour file")
    command.add_argument("--codec", default="//pretrained/spectral_32khz")
    command.add_argument("--minutes", type=positive(float), default=60, help="length of the file")
    command = commands.add_parser("boot", help="the whole `generate` command")
    command.add_argument("model", help="a model folder, such as outputs/demo/model")
    command.add_argument("--runs", type=positive(int), default=5, help="processes to take the median of")
    command.add_argument("--seconds", type=positive(float), default=10.0, help="length of the clip")
    command = commands.add_parser("memory", help="peak memory by length")
    command.add_argument("model", help="a model folder, such as outputs/demo/model")
    command.add_argument("--seconds", nargs="+", type=positive(float), default=[30.0, 600.0], help="lengths")
    command = commands.add_parser("divergence", help="8-bit weights against float32")
    command.add_argument("model", help="a model folder, or a scale such as micro: random weights")
    command.add_argument("--seconds", type=positive(float), default=10.0, help="length of each of two takes")
    return parser.parse_args(arguments)


def play(options: argparse.Namespace) -> None:
    """Measure (unless only drawing), print the table, draw the figure."""
    from benchmarks.play import Plan, measure
    from benchmarks.summary import peer_rows, summarise, table

    record = options.out / "play.jsonl"
    if not options.draw_only:
        chosen = ("models", "batches", "engines", "seconds", "runs", "device", "weights", "out")
        measure(Plan(**{name: getattr(options, name) for name in chosen}))
    summary = summarise(read(record))
    measured = {(row.model, row.batch, row.seconds) for row in summary.rows}
    peers = [row for row in peer_rows() if (row.model, row.batch, row.seconds) in measured]
    print(table([*summary.rows, *peers]))
    from benchmarks.figure import draw  # matplotlib, which a measuring process has no use for

    figure = options.out / "play.png"
    draw(summary, peers, figure)
    print(f"drew {figure}")


def measure_house(options: argparse.Namespace) -> None:
    """One of the older measurements."""
    figures = {
        "import": lambda: house.bench_import(options.runs),
        "material": lambda: house.bench_material(options.minutes),
        "long-file": lambda: house.bench_long_file(options.codec, options.minutes),
        "boot": lambda: house.bench_boot(options.model, options.runs, options.seconds),
        "memory": lambda: house.bench_memory(options.model, options.seconds),
        "divergence": lambda: house.bench_divergence(options.model, options.seconds),
    }[options.what]()
    line = {**stamp(), "what": options.what, "runs": getattr(options, "runs", 1), "figures": figures}
    append(HOUSE_RECORD, line)
    for name, value in figures.items():
        print(f"{name:58} {value}")
    print(f"appended to {HOUSE_RECORD}")


if __name__ == "__main__":
    main()
