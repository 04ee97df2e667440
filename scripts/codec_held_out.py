"""What a codec is measured on and never trained on, and which of several codecs is the best.

    python scripts/codec_held_out.py make OUT [--recordings DIR] [--soundfont FluidR3_GM.sf2]
    python -m audiocraft codec eval CODEC OUT/tones --out EVAL/CODEC/tones       # and OUT/rhythm, for every codec
    python scripts/codec_held_out.py rank EVAL/*

`make` writes OUT/tones and OUT/rhythm, 7.5 s each: phrases of the held-out General MIDI programs (fluidsynth and a free
soundfont), loops from the recordings held out of DIR, tracks of the generator seeds that no training takes.

Whoever trains a codec leaves out: PROGRAMS and KITS of any soundfont, the generators' SEEDS, and those recordings of a
folder for which `is_held_out` says so of the name without its ending: about every fifth.

Ranking: a codec that hums by more than 2 dB at its frame rate, on tones or on rhythm, comes after all that do not.
Then pitch kept on tones decides, then onsets, then log-mel distance, the last two as means of tones and rhythm.
"""

import argparse
import hashlib
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from material import score, track
from material.dsp import SR
from told import tell

from audiocraft.data.audio import audio_read
from audiocraft.data.audio_utils import convert_audio
from audiocraft.data.scan import scan_folder
from audiocraft.errors import UserError
from audiocraft.utils.files import atomic_path, read_json

SEEDS = {"jungle": 900, "broad": 901}  # of make_jungle.py
SECONDS, RATE = 7.5, 32000
HUM_ALLOWED = 2.0  # dB
# General MIDI programs from 0, each with how it is played; further programs of the same samples are held out with them.
PHRASES = {
    "piano": (0, "melody"),
    "piano_chords": (0, "chords"),
    "bright_piano": (1, "melody"),
    "glockenspiel": (9, "melody"),
    "tubular_bells": (14, "held"),
    "nylon_guitar": (24, "melody"),
    "steel_guitar_chords": (25, "chords"),
    "finger_bass": (33, "melody"),
    "picked_bass": (34, "melody"),
    "synth_bass": (38, "melody"),
    "violin": (40, "held"),
    "harp": (46, "melody"),
    "choir": (52, "held"),
    "choir_chords": (52, "chords"),
    "voice": (53, "melody"),
    "flute": (73, "melody"),
    "new_age_pad": (88, "chords"),
    "choir_pad": (91, "chords"),
    "bowed_glass": (92, "held"),
    "crystal": (98, "melody"),
}
PROGRAMS = frozenset({program for program, _ in PHRASES.values()} | {2, 3, 54})
KITS = (8, 25)  # room and TR-808, as programs of the drum channel
LOOPS = 8
LOWEST = {33: 28, 34: 28, 38: 28, 9: 60, 14: 60, 98: 60}  # MIDI keys; the others begin at 48


def is_held_out(name: str) -> bool:
    """Whether the recording of this name (without folder and ending) is for measuring alone."""
    return int(hashlib.sha1(name.encode()).hexdigest(), 16) % 5 == 0


def phrase(program: int, style: str, seed: int, channel: int = 0) -> list[tuple[float, bytes]]:
    """MIDI events (seconds, message) of `SECONDS` of notes in a scale: a `melody`, `chords`, or `held` notes."""
    dice = np.random.default_rng([seed, program])
    low = LOWEST.get(program, 48) + int(dice.integers(0, 8))
    scale = [low + octave + step for octave in (0, 12) for step in (0, 2, 3, 5, 7, 8, 10)]
    events = [(0.0, bytes([0xC0 | channel, program]))]
    time = 0.1
    while time < SECONDS - 0.3:
        length = float(dice.uniform(*{"melody": (0.15, 0.7), "chords": (0.5, 1.8), "held": (1.2, 3.0)}[style]))
        first, loud = int(dice.integers(len(scale) - 6)), int(dice.integers(55, 110))
        for key in scale[first : first + (7 if style == "chords" else 1) : 2]:
            events.append((time, bytes([0x90 | channel, key, loud])))
            events.append((time + length, bytes([0x80 | channel, key, 0])))
        time += length
    return events


def drumming(kit: int, seed: int) -> list[tuple[float, bytes]]:
    """MIDI events of `SECONDS` of a beat of sixteenths."""
    dice = np.random.default_rng([seed, kit])
    step = 60 / float(dice.uniform(80, 175)) / 4
    events = [(0.0, bytes([0xC9, kit]))]
    for key, density in ((36, 0.3), (38, 0.2), (42, 0.6), (46, 0.1), (45, 0.1), (50, 0.06), (39, 0.1), (56, 0.05)):
        hits = dice.random(16) < density
        for n in range(int((SECONDS - 0.2) / step)):
            if hits[n % 16]:
                loud = int(dice.integers(60, 120))
                events += [(0.1 + n * step, bytes([0x99, key, loud])), (0.2 + n * step, bytes([0x89, key, 0]))]
    return events


def midi_file(events: Iterable[tuple[float, bytes]]) -> bytes:
    """A Standard MIDI File of one track."""
    body, last = b"", 0
    for time, message in sorted(events, key=lambda event: event[0]):
        ticks = round(time * 960)  # 480 a quarter note, at the standard tempo of 120 quarters a minute
        delta, digits = ticks - last, b""
        while delta > 127:
            delta, digits = delta >> 7, bytes([delta & 127 | (128 if digits else 0)]) + digits
        body += bytes([delta | (128 if digits else 0)]) + digits + message
        last = ticks
    body += b"\0\xff\x2f\0"
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, 480) + b"MTrk" + struct.pack(">I", len(body)) + body


def render(events: Iterable[tuple[float, bytes]], soundfont: Path, room: bool) -> np.ndarray:
    """`SECONDS` of mono sound [T].

    Raises:
        UserError: fluidsynth is missing or fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        score, sound = Path(folder, "score.mid"), Path(folder, "sound.wav")
        score.write_bytes(midi_file(events))
        effects = str(int(room))
        command = ["fluidsynth", "-niq", "-R", effects, "-C", effects, "-r", str(RATE), "-F", str(sound)]
        try:
            subprocess.run([*command, str(soundfont), str(score)], check=True, capture_output=True)
            wave, _ = soundfile.read(sound, dtype="float32", always_2d=True)
        except (OSError, subprocess.CalledProcessError, soundfile.LibsndfileError) as error:
            raise UserError(
                f"fluidsynth cannot play {soundfont} ({error}); install it, or leave --soundfont out"
            ) from None
    return _fitted(wave.mean(1))


def loop(hits: list[np.ndarray], seed: int) -> np.ndarray:
    """`SECONDS` of a bar of sixteenths repeated, played on the given sounds [T]."""
    dice = np.random.default_rng([seed, 99])
    step = round(RATE * 60 / float(dice.uniform(80, 175)) / 4)
    longest = round(1.5 * RATE)
    out = np.zeros(round(SECONDS * RATE) + longest, np.float32)
    for hit in hits:
        beats = dice.random(16) < float(dice.choice([0.12, 0.2, 0.35]))
        beats[4 * int(dice.integers(4))] = True
        hit = hit[:longest] / max(1e-9, float(np.abs(hit).max()))
        hit = hit * np.minimum(1, np.arange(len(hit), 0, -1) / 400)
        for n, start in enumerate(range(0, len(out) - longest, step)):
            if beats[n % 16]:
                out[start : start + len(hit)] += float(dice.uniform(0.4, 1.0)) * hit
    return _fitted(out)


def make(out: Path, recordings: Path | None, soundfont: Path | None) -> list[str]:
    """Write the set; returns lines that say what is in it.

    Raises:
        UserError: no fluidsynth, no such soundfont, or fewer than three recordings are held out.
    """
    sounds = read_sounds(recordings, is_held_out) if recordings is not None else []
    made: dict[str, list[str]] = {"tones": [], "rhythm": []}

    def write(kind: str, name: str, wave: np.ndarray) -> None:
        with atomic_path(out / kind / f"{name}.wav") as part:
            soundfile.write(part, 0.7 * wave / max(1e-9, float(np.abs(wave).max())), RATE, "PCM_16", format="WAV")
        made[kind].append(name)

    for number in range(2):
        wave = mono(track.render(score.draw_plan(SEEDS["jungle"], number)))
        write("rhythm", f"jungle_{number}", _fitted(wave[20 * RATE :]))  # from the middle
    for number in range(LOOPS if sounds else 0):
        dice = np.random.default_rng(number)
        chosen = dice.permutation(len(sounds))[: int(dice.integers(3, 6))]
        write("rhythm", f"loop_{number}", loop([sounds[i] for i in chosen], number))
    if soundfont is not None:
        for number, (name, (program, style)) in enumerate(PHRASES.items()):
            write("tones", name, render(phrase(program, style, number), soundfont, number % 2 == 1))
        trio = [event for i, program in enumerate((0, 33, 52)) for event in phrase(program, "melody", i, channel=i)]
        write("tones", "trio", render(trio, soundfont, True))
        for kit in KITS:
            write("rhythm", f"kit_{kit}", render(drumming(kit, 0), soundfont, False))
    return [f"{out / kind}: {len(names)} files ({', '.join(names)})" for kind, names in made.items() if names]


def rank(folders: Iterable[Path]) -> list[tuple[str, dict[str, float]]]:
    """Codecs, best first, each with its numbers: hum_db, pitch (on tones), onsets, log_mel_db.

    Args:
        folders: one a codec, with `tones/eval.json` and `rhythm/eval.json` of `codec eval`.

    Raises:
        UserError: an evaluation is missing or lacks a number.
    """
    found = []
    for folder in folders:
        means: list[dict[str, Any]] = []
        for kind in ("tones", "rhythm"):
            path = folder / kind / "eval.json"
            try:
                record = read_json(path)
                name, mean = record["codec"], record["scores"][0]["mean"]
                means.append({**mean, "hum_db": next(iter(mean["hum_db"].values()))})  # the frame rate is the lowest
            except (OSError, ValueError, KeyError, IndexError, AttributeError, TypeError, StopIteration):
                raise UserError(
                    f"{path} is no evaluation with hum; make it with python -m audiocraft codec eval"
                ) from None
        tones, rhythm = means
        both = {key: (tones[key] + rhythm[key]) / 2 for key in ("onsets", "log_mel_db")}
        hum = max(tones["hum_db"], rhythm["hum_db"])
        found.append((name, {"hum_db": hum, "pitch": tones["pitch_kept"], **both}))

    def worth(entry: tuple[str, dict[str, float]]) -> tuple[bool, float, float, float]:
        numbers = entry[1]
        return numbers["hum_db"] > HUM_ALLOWED, -numbers["pitch"], -numbers["onsets"], numbers["log_mel_db"]

    return sorted(found, key=worth)


def mono(track: np.ndarray) -> np.ndarray:
    """A generated track [C, T] as a sound [T] at `RATE`."""
    return convert_audio(torch.from_numpy(track).float(), SR, RATE, 1)[0].numpy()


def read_sounds(folder: Path, wanted: Callable[[str], bool]) -> list[np.ndarray]:
    """The recordings of a folder that are `wanted` by name (without ending), as mono sounds [T] at `RATE`.

    Raises:
        UserError: they are fewer than three.
    """
    paths = [Path(meta.path) for meta in scan_folder(folder, workers=1, shortest=0).meta]
    paths = sorted(path for path in paths if wanted(path.stem))
    if len(paths) < 3:
        raise UserError(f"of the recordings in {folder} only {len(paths)} serve here; give a folder with more of them")
    return [convert_audio(*audio_read(path), RATE, 1)[0].numpy() for path in paths]


def _fitted(wave: np.ndarray) -> np.ndarray:
    count = round(SECONDS * RATE)
    return np.pad(wave, (0, max(0, count - len(wave))))[:count].astype(np.float32)


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, make or rank; returns the exit status."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make", help="write what is measured on")
    making.add_argument("out", type=Path)
    making.add_argument("--recordings", type=Path, help="folder of single sounds, about every fifth of them held out")
    making.add_argument("--soundfont", type=Path, help="General MIDI soundfont, played by fluidsynth")
    ranking = commands.add_parser("rank", help="order codecs by what was measured")
    ranking.add_argument("folders", type=Path, nargs="+", help="one a codec, with tones/eval.json and rhythm/eval.json")
    options = parser.parse_args(argv)

    def work() -> list[str]:
        if options.command == "make":
            return make(options.out, options.recordings, options.soundfont)
        return [
            f"{place:2}. {name:24} " + "  ".join(f"{key} {value:.2f}" for key, value in numbers.items())
            for place, (name, numbers) in enumerate(rank(options.folders), start=1)
        ]

    return tell(work)


if __name__ == "__main__":
    sys.exit(main())
