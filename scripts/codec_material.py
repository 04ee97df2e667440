"""Write what a codec of all kinds of sound is trained on: crops varied in pitch, level and mixture.

    python scripts/codec_material.py OUT [--recordings DIR] [--soundfont FluidR3_GM.sf2]
    python -m audiocraft codec train OUT/train --from nothing --kind spectral

The crops come from generated jungle and broad tracks, from a folder of single sounds (as they are, and as loops played
on them) and from General MIDI phrases played with a soundfont. What `codec_held_out.py` measures on is left out:
recordings, programs, kits and seeds. Two of a hundred crops go to OUT/valid. The same seed and sources give the same
crops; those that are there already are kept.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from codec_held_out import KITS, PROGRAMS, RATE, SEEDS, drumming, is_held_out, loop, mono, phrase, read_sounds, render
from material import library
from told import tell
from tqdm import tqdm

from audiocraft.data.audio_utils import convert_audio
from audiocraft.utils.files import atomic_path

SECONDS = 4.0
SHARES = {"jungle": 0.25, "broad": 0.25, "recordings": 0.2, "soundfont": 0.3}
SEMITONES = 5.0  # a crop is played up to so much higher or lower
QUIETEST = -30.0  # dB, of a crop's peak
MIXED = 0.3  # share of the crops that are two sounds at once
DRUM_KITS = (0, 16, 24, 32, 40, 48)  # programs of the drum channel that General MIDI soundfonts share
STYLES = ("melody", "chords", "held")
LOOPS = 40

Source = Callable[[], list[np.ndarray]]


def generated(mode: str, seed: int, minutes: float) -> list[np.ndarray]:
    """Tracks of a generator as mono sounds [T] at `RATE`."""
    plans = list(library.plan_set(seed, minutes, mode))
    return [mono(library.sound(plan)) for plan in tqdm(plans, desc=f"Making {mode}", unit="track")]


def recorded(folder: Path, seed: int) -> list[np.ndarray]:
    """The recordings that are not held out, and loops played on them."""
    sounds = read_sounds(folder, lambda name: not is_held_out(name))
    dice = np.random.default_rng([seed, 1])
    chosen = [dice.permutation(len(sounds))[: int(dice.integers(3, 6))] for _ in range(LOOPS)]
    return sounds + [loop([sounds[i] for i in few], 1000 + number) for number, few in enumerate(chosen)]


def played(soundfont: Path, seed: int) -> list[np.ndarray]:
    """A phrase of every General MIDI program and beats of every kit that is not held out."""
    dice = np.random.default_rng([seed, 2])
    programs = [program for program in range(128) if program not in PROGRAMS]
    scores = [phrase(program, STYLES[int(dice.integers(3))], seed + program) for program in programs]
    scores += [drumming(kit, seed + number) for kit in DRUM_KITS if kit not in KITS for number in range(4)]
    bar = tqdm(scores, desc="Playing the soundfont", unit="phrase")
    return [render(score, soundfont, bool(dice.integers(2))) for score in bar]


def varied(sounds: list[np.ndarray], dice: np.random.Generator) -> np.ndarray:
    """A crop of one of the sounds [T], at another pitch, its peak at 1."""
    sound = sounds[int(dice.integers(len(sounds)))]
    # Rates in steps of 800 Hz: the ratio stays small, as resampling needs.
    played_at = 800 * round(RATE / 800 * 2 ** (float(dice.uniform(-SEMITONES, SEMITONES)) / 12))
    count = round(SECONDS * RATE)
    needed = -(-count * played_at // RATE)
    start = int(dice.integers(max(1, len(sound) - needed + 1)))
    crop = convert_audio(torch.from_numpy(sound[None, start : start + needed].copy()), played_at, RATE, 1)[0].numpy()
    crop = np.pad(crop, (0, max(0, count - len(crop))))[:count]
    return crop / max(1e-4, float(np.abs(crop).max()))


def crop(groups: dict[str, list[np.ndarray]], seed: int, number: int) -> np.ndarray:
    """Crop `number` of a set [T]."""
    dice = np.random.default_rng([seed, 3, number])
    shares = np.array([SHARES[name] for name in groups])
    names = dice.choice(list(groups), 2, p=shares / shares.sum())
    wave = varied(groups[names[0]], dice)
    if dice.random() < MIXED:
        wave = wave + 10 ** (-float(dice.uniform(0, 12)) / 20) * varied(groups[names[1]], dice)
    level = 10 ** (float(dice.uniform(QUIETEST, -0.5)) / 20)
    return (level * wave / max(1e-9, float(np.abs(wave).max()))).astype(np.float32)


def make(out: Path, minutes: float, seed: int, recordings: Path | None, soundfont: Path | None) -> list[str]:
    """Write the crops; returns lines that say how many are there.

    Raises:
        UserError: no fluidsynth, no such soundfont, too few recordings, a full disk.
    """
    count = round(60 * minutes / SECONDS)
    places = [out / ("valid" if n % 50 == 0 else "train") / f"crop_{n:05d}.wav" for n in range(count)]
    missing = [number for number, place in enumerate(places) if not place.is_file()]
    said = [f"{out}: {count} crops of {SECONDS:g} s"]
    if not missing:
        return said
    sources: dict[str, Source] = {
        "jungle": lambda: generated("jungle", seed, minutes / 6),
        "broad": lambda: generated("broad", seed, minutes / 4),
    }
    if recordings is not None:
        sources["recordings"] = lambda: recorded(recordings, seed)
    if soundfont is not None:
        sources["soundfont"] = lambda: played(soundfont, seed)
    groups = {name: source() for name, source in sources.items()}
    for number in tqdm(missing, desc="Writing crops", unit="crop"):
        with atomic_path(places[number]) as part:
            soundfile.write(part, crop(groups, seed, number), RATE, "PCM_16", format="WAV")
    return said


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, make; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for train/ and valid/")
    parser.add_argument("--minutes", type=float, default=104, help="of crops in all (default: 104)")
    parser.add_argument("--seed", type=int, default=11, help="of the generators and the crops (default: 11)")
    parser.add_argument("--recordings", type=Path, help="folder of single sounds; about every fifth is left out")
    parser.add_argument("--soundfont", type=Path, help="General MIDI soundfont, played by fluidsynth")
    options = parser.parse_args(argv)
    if options.seed in SEEDS.values():
        parser.error(f"seed {options.seed} is held out for measuring; take another one")
    return tell(lambda: make(options.out, options.minutes, options.seed, options.recordings, options.soundfont))


if __name__ == "__main__":
    sys.exit(main())
