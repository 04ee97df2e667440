#!/usr/bin/env python
"""Write a licence-free jungle/breakbeat set, made by synthesis alone; or a broad one, to train codecs on.

Tracks of 45 to 95 seconds at 160 to 175 BPM go to OUT as 44.1 kHz stereo WAV, each with a JSON beside it (bpm, key,
description, keywords, sections). With --mode broad they are 20 to 60 seconds of drones, plucks, bells, speech-like
sounds, noises, sparse percussion, sweeps and pads, alone and mixed, from very quiet to limited hard; their JSON holds
kind, key, description, keywords and layers. The last track is shortened so that the set is about --minutes long. Track
i of a seed and tempo is always the same, sample for sample; tracks that are already in OUT are kept, so the same
command continues where it was stopped.
"""

import argparse
import math
import sys
from pathlib import Path

# Run as a script, this folder (`material`) is on the path; the project's own (`audiocraft`) need not be.
ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0, such as 10 or 0.5")
    return value


def _bpm(text: str) -> float:
    if not (text.replace(".", "", 1).isdigit() and 100 <= float(text) <= 250):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 100 to 250, such as 160")
    return float(text)


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on, such as 7")
    return int(text)


class _Parser(argparse.ArgumentParser):
    """One line for a mistake, not the whole usage."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; mistakes exit with 2 and one line."""
    text, _, rest = (__doc__ or "").partition("\n\n")
    parser = _Parser(description=text, epilog=rest)
    parser.add_argument("out", metavar="OUT", type=Path, help="folder for the tracks; made if it is not there")
    parser.add_argument("--minutes", type=_minutes, default=10.0, help="audio in all, more than 0 (default: 10)")
    parser.add_argument("--seed", type=_seed, default=0, help="which set, a whole number from 0 on (default: 0)")
    parser.add_argument("--mode", choices=("jungle", "broad"), default="jungle", help="what to make (default: jungle)")
    parser.add_argument("--bpm", type=_bpm, help="one tempo for all jungle (default: 160 to 175, as each track has it)")
    args = parser.parse_args(arguments)
    if args.bpm is not None and args.mode != "jungle":
        parser.error("--bpm is for jungle; leave it out, or --mode")
    return args


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    args = parse(arguments)
    from material import library
    from tqdm import tqdm

    from audiocraft.errors import UserError

    try:
        library.check_place(args.out, args.minutes)
        plans = list(library.plan_set(args.seed, args.minutes, args.mode, args.bpm))
        missing = [plan for plan in plans if not library.is_there(args.out, plan)]
        with tqdm(total=len(missing), desc=f"Making {args.mode}", unit="track") as bar:
            for plan in missing:
                bar.set_postfix_str(f"{plan.name}: {plan.caption}")
                library.write_track(args.out, plan)
                bar.update()
    except UserError as error:
        print(f"make_jungle.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("make_jungle.py: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    minutes = sum(plan.seconds for plan in plans) / 60.0
    kept = len(plans) - len(missing)
    print(
        f"{len(plans)} tracks, {minutes:.1f} minutes in {args.out}" + (f" ({kept} were there already)" if kept else "")
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
