#!/usr/bin/env python3
"""Plays the model in this folder, without torch: pip install numpy onnxruntime

    python player.py --duration 10 --num 4 --seed 7 --out takes     WAV files, each with a JSON that says what made it
    python player.py --duration 60 --stream | aplay                 sound while it is being made

`python -m audiocraft export MODEL --format onnx` wrote this file, and what it plays, into one folder. The same seed
gives the same sound every time (on one machine, with one version of onnxruntime), and chooses by the same random
numbers as the model does in torch.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
import typing as tp
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path

try:
    from engine import FORMAT, Player
    from generation import Clock, PlayerError
    from takes import Sampling, chosen, drop_stdout, open_sound, own_knobs, publish_take, to_pcm, wav_header
except ImportError as missing:
    sys.exit(f"error: {missing.name} is missing; pip install numpy onnxruntime")


@dataclass
class Progress:
    """How far it is, on a terminal as a line that changes, elsewhere every half minute."""

    total: float
    began: float = field(default_factory=time.perf_counter)
    shown: float = field(default_factory=time.perf_counter)

    def show(self, seconds: float) -> None:
        live, now = sys.stderr.isatty(), time.perf_counter()
        if now - self.shown < (0.1 if live else 30):
            return
        self.shown = now
        speed = seconds / (now - self.began)
        line = f"{seconds:.1f} of {self.total:g} s made, {speed:.1f} x real time"
        print(f"\r{line}" if live else line, end="" if live else "\n", file=sys.stderr, flush=True)

    def end(self) -> None:
        if sys.stderr.isatty():
            print("\r" + " " * 60, end="\r", file=sys.stderr, flush=True)


def make_takes(player: Player, args: argparse.Namespace, frames: int, sampling: Sampling) -> None:
    """Write `args.num` takes into the folder `args.out`, `args.batch_size` at once."""
    facts, seconds = player.facts, frames / player.facts["frame_rate"]
    settings = {"duration": seconds, **vars(sampling)}
    args.out.mkdir(parents=True, exist_ok=True)
    progress = Progress(args.num * seconds)
    with tempfile.TemporaryDirectory(prefix=".take_", dir=args.out) as temporary:
        staging = Path(temporary)
        for first in range(0, args.num, args.batch_size):
            clips = min(args.batch_size, args.num - first)
            paths = [staging / f"{i}.wav" for i in range(clips)]
            with contextlib.ExitStack() as stack:
                files = [stack.enter_context(open(path, "wb")) for path in paths]
                for file in files:
                    file.write(wav_header(facts["sample_rate"], facts["channels"], frames * facts["hop_length"]))
                done = 0
                for block in player.play(clips, frames, args.seed + first, sampling):
                    player.clock.mark("first_audio")
                    for file, wav in zip(files, block):
                        file.write(to_pcm(wav))
                    done += block.shape[-1]
                    progress.show(first * seconds + clips * done / facts["sample_rate"])
            progress.end()
            for i, path in enumerate(paths):
                record = {"seed": args.seed + first + i, "model": facts["model"], "settings": settings}
                record |= {"seconds": seconds, "sample_rate": facts["sample_rate"], "quantize": facts["quantize"]}
                record |= {"player": FORMAT, "made": datetime.now().astimezone().isoformat(timespec="seconds")}
                print(f"{publish_take(path, args.out, record)}  seed {args.seed + first + i}")


def stream(player: Player, target: str, frames: int, seed: int, sampling: Sampling, raw: bool) -> None:
    """Write one clip while it is made: to stdout (`-`), a pipe or device, or a file that gets its name at the end."""
    facts = player.facts
    progress = Progress(frames / facts["frame_rate"])
    header = b"" if raw else wav_header(facts["sample_rate"], facts["channels"], frames * facts["hop_length"])
    done = 0
    with open_sound(target) as sink:
        for block in player.play(1, frames, seed, sampling):
            sink.write(header + to_pcm(block[0]))
            sink.flush()
            player.clock.mark("first_audio")
            header = b""
            done += block.shape[-1]
            progress.show(done / facts["sample_rate"])
        progress.end()


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "player.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    here = Path(__file__).resolve().parent
    add("model", nargs="?", type=Path, default=here, help="model folder (default: the one this file is in)")
    add("--out", type=Path, help="folder for takes; earlier ones are kept (default: takes)")
    add("--num", type=int, default=1, help="how many takes (default: 1)")
    add("--duration", type=float, default=10.0, help="seconds of each (default: 10)")
    add("--seed", type=int, help="take i uses SEED + i; drawn if not given")
    for knob in fields(Sampling):
        option = f"--{knob.name.replace('_', '-')}"
        if isinstance(knob.default, bool):
            add(option, action="store_true", help=knob.metadata["help"])
        else:
            help = f"{knob.metadata['help']} (default: the model's own, else {knob.default:g})"
            add(option, type=type(knob.default), help=help)
    add("--stream", nargs="?", const="-", metavar="FILE", help="one take while it is made, to stdout or a file or pipe")
    add("--raw", action="store_true", help="stream samples alone (16 bit, little-endian), without a WAV header")
    add("--batch-size", type=int, help="takes made at once; changes no sound (default: 10)")
    add("--threads", type=int, help="default: one for each physical core")
    add("--timings", type=Path, metavar="FILE", help="write when each phase ended, in seconds from the start, as JSON")
    return parser.parse_args(arguments)


def check(args: argparse.Namespace) -> None:
    """What can be told before anything is loaded."""
    for name in ("num", "batch_size", "threads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise PlayerError(f"--{name.replace('_', '-')} {value} is nothing; give 1 or more")
    if args.seed is not None and not 0 <= args.seed <= 1 << 53:
        raise PlayerError(f"--seed {args.seed} is out of range; give 0 to {1 << 53}")
    if args.stream and args.num != 1:
        raise PlayerError(f"--stream plays one take, not {args.num}; leave --num out")
    for name in ("out", "batch_size"):
        if args.stream and getattr(args, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise PlayerError(f"{option} is for takes, and --stream makes none; leave {option} out")
    if args.raw and not args.stream:
        raise PlayerError("--raw goes with --stream; add it, or leave --raw out")
    if args.stream == "-" and sys.stdout is None:
        raise PlayerError("stdout is closed; pipe it into a player, or give --stream FILE")
    if args.stream == "-" and sys.stdout.isatty():
        raise PlayerError("the sound would go to the terminal; pipe it into a player, or give --stream FILE")
    knobs(args, {})


def knobs(args: argparse.Namespace, own: dict[str, tp.Any]) -> Sampling:
    """Those that were given, else the model's own."""
    try:
        return chosen({knob.name: getattr(args, knob.name) for knob in fields(Sampling)}, own)
    except ValueError as error:
        raise PlayerError(str(error)) from error


def check_writable(path: Path) -> None:
    """Raises OSError where there can be no file of that name. One that is missing stays so."""
    missing = not os.path.lexists(path)
    if not path.is_fifo():  # opening a pipe would wait for its reader
        open(path, "ab").close()
    if missing:
        path.unlink()


def run(arguments: list[str] | None, clock: Clock) -> None:
    args = parse(arguments)
    check(args)
    if args.timings:
        check_writable(args.timings)
    args.out = args.out or Path("takes")
    args.batch_size = args.batch_size or 10
    if args.seed is None:
        args.seed = int.from_bytes(os.urandom(4), "little") >> 1
    player = Player(args.model, args.threads, clock)
    frames = player.frames(args.duration)
    own, wrong = own_knobs(player.facts.get("sampling"))
    for each in wrong:
        print(f"warning: in player.json {each}; it is left out", file=sys.stderr)
    sampling = knobs(args, own)
    if args.stream:
        stream(player, args.stream, frames, args.seed, sampling, args.raw)
    else:
        make_takes(player, args, frames, sampling)
    if args.timings:
        args.timings.write_text(json.dumps(clock.report()) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code. A mistake ends in one line, never in a traceback."""
    clock = Clock()
    if sys.stderr is None:  # closed: what is meant for it must not go to stdout, into a stream
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")

    def stop(number: int, frame: tp.Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        run(arguments, clock)
        if sys.stdout is not None:
            sys.stdout.flush()  # else Python does when it ends, where nobody can catch what goes wrong
        return 0
    except KeyboardInterrupt:
        message, code = "stopped", 130
    except PlayerError as error:
        message, code = str(error), 2
    except BrokenPipeError:
        drop_stdout()
        message, code = "the stream was closed by its reader", 2
    except OSError as error:
        drop_stdout()
        message, code = f"{error.filename or 'the output'} cannot be written ({error.strerror})", 2
    except MemoryError:
        message, code = "not enough memory; give a smaller --batch-size or --duration", 2
    print(f"error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
