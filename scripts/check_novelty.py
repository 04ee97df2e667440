#!/usr/bin/env python
"""Measure what `audiocraft novelty` finds: copies planted into new music, and how long ten hours take to index.

    python scripts/make_jungle.py W/train --minutes 600 --seed 300
    python scripts/make_jungle.py W/held --minutes 8 --seed 900
    python scripts/make_jungle.py W/fresh --minutes 8 --seed 901
    python scripts/check_novelty.py W/train W/held W/fresh --out assets/novelty

Takes are 6 s of FRESH with 3 s of TRAIN in the middle, then treated as a whole. Found is the share of the copies'
seconds that count as copied, false alarms that of FRESH, with HELD as the scale. First TRAIN is coded, into the token
cache of the working folder; the time to index counts from there. OUT gets novelty.json and novelty.png.
"""

import argparse
import json
import tempfile
import time
import typing as tp
from pathlib import Path

import numpy as np
import torch
from told import tell

if tp.TYPE_CHECKING:
    from audiocraft.metrics.copied import Material
    from audiocraft.metrics.fingerprint import Fingerprints
    from audiocraft.metrics.novelty import Trace

CODEC = "//pretrained/spectral_32khz"
RATE, FRAME = 32000, 640  # Hz, and samples of a frame of the codec
BEFORE, COPY = 48 * FRAME, 150 * FRAME  # of a take of 6 s: 0.96 s, and 3 s
LENGTH = 300 * FRAME
EDGE = 0.06  # seconds: what a coder may delay
Treatment = tp.Callable[[torch.Tensor], torch.Tensor]


def gain(decibels: float) -> Treatment:
    """Louder or softer, and clipped where that exceeds full scale."""
    return lambda wav: (wav * 10 ** (decibels / 20)).clamp(-1, 1)


def mp3(kilobits: int) -> Treatment:
    """Through a file."""
    from audiocraft.data.audio import audio_read, audio_write

    def code(wav: torch.Tensor) -> torch.Tensor:
        with tempfile.TemporaryDirectory() as folder:
            path = audio_write(Path(folder) / "take", wav, RATE, "mp3", mp3_rate=kilobits, normalize=False)
            return audio_read(path)[0][:, : wav.shape[1]]

    return code


def opus(kilobits: int) -> Treatment:
    """Through packets."""
    from audiocraft.metrics.opus import opus_decode, opus_encode

    return lambda wav: opus_decode(opus_encode(wav, RATE, 1000 * kilobits))


def treatments() -> dict[str, tuple[bool, list[Treatment]]]:
    """By name: whether the copy lies as in the material on the codec's frames, and what is done to the take."""
    from audiocraft.metrics.sound_files import decode, encode
    from audiocraft.models.loaders import load_compression_model

    codec = load_compression_model(CODEC)
    return {
        "exact": (True, []),
        "shifted": (False, []),
        "+6 dB": (False, [gain(6)]),
        "-6 dB": (False, [gain(-6)]),
        "mp3 128 kb/s": (False, [mp3(128)]),
        "mp3 64 kb/s": (False, [mp3(64)]),
        "Opus 64 kb/s": (False, [opus(64)]),
        "Opus 24 kb/s": (False, [opus(24)]),
        "mp3 64 kb/s of -6 dB": (False, [gain(-6), mp3(64)]),
        "through the codec, on its frames": (True, [lambda wav: decode(codec, encode(codec, wav), wav.shape[1])]),
        "through the codec": (False, [lambda wav: decode(codec, encode(codec, wav), wav.shape[1])]),
    }


def plant(train: list[str], fresh: list[str], on_frames: bool, rng: np.random.Generator) -> torch.Tensor:
    """A take [1, LENGTH] of new music with a copy in the middle, from the middle of some track each."""
    new = _stretch(str(rng.choice(fresh)), LENGTH, FRAME, rng)
    copy = _stretch(str(rng.choice(train)), COPY, FRAME if on_frames else 1, rng)
    new[:, BEFORE : BEFORE + COPY] = copy
    return new


def _stretch(path: str, samples: int, step: int, rng: np.random.Generator) -> torch.Tensor:
    from audiocraft.data.audio import audio_read
    from audiocraft.data.audio_utils import convert_audio

    wav = convert_audio(*audio_read(path), RATE, 1)
    start = int(rng.integers(0, (wav.shape[1] - samples) // step)) * step
    return wav[:, start : start + samples].clone()


def index(paths: list[str]) -> tuple[float, float, "Fingerprints", "Material"]:
    """Seconds to index files whose codes are in the cache, hours that they are, and both indices."""
    from audiocraft.commands.novelty_audio import cached_codes, fingerprints
    from audiocraft.metrics.sound_files import seconds_of
    from audiocraft.models.loaders import load_compression_model

    codec = load_compression_model(CODEC)
    cached_codes(codec, paths)
    start = time.perf_counter()
    _, prints = fingerprints(paths, [])
    material = cached_codes(codec, paths)
    return time.perf_counter() - start, seconds_of(paths) / 3600, prints, material


def measure(train: Path, held: Path, fresh: Path, copies: int) -> dict[str, tp.Any]:
    """All figures as plain values."""
    from tqdm import tqdm

    from audiocraft.commands.audio_files import find_audio
    from audiocraft.metrics.novelty import judge, trace
    from audiocraft.metrics.sound_files import Piece, cut, encode, read_piece
    from audiocraft.models.loaders import load_compression_model

    trained_on, news = find_audio(train), find_audio(fresh)
    seconds, hours, prints, material = index(trained_on)
    codec, rng = load_compression_model(CODEC), np.random.default_rng(0)

    def look(wav: torch.Tensor) -> "Trace":
        return trace("", wav, prints, encode(codec, wav), material)

    def all_of(pieces: list[Piece], what: str) -> list["Trace"]:
        return [look(wav) for piece in tqdm(pieces, desc=what) if (wav := read_piece(piece, [])) is not None]

    scale, new = all_of(cut(find_audio(held), 32), "held out"), all_of(cut(news, None), "fresh")
    found = {}
    for name, (on_frames, steps) in tqdm(treatments().items(), desc="planted"):
        planted = []
        for _ in range(copies):
            wav = plant(trained_on, news, on_frames, rng)
            for step in steps:
                wav = step(wav)
            planted.append(look(wav))
        report = judge(planted, scale)
        inside = slice(int((BEFORE / RATE + EDGE) * 25) + 1, int(((BEFORE + COPY) / RATE - EDGE - 1) * 25))
        heard = np.concatenate([one.audible[inside] for one in planted])
        flags = np.concatenate([report.flags(one)[inside] for one in planted])
        likeness = np.concatenate([one.sound.likeness[inside] for one in planted])[heard]
        codes = np.concatenate([one.codes.likeness[inside] for one in planted if one.codes is not None])[heard]
        found[name] = {
            "windows": int(heard.sum()),
            "found": round(float(flags[heard].mean()), 4),
            "by_codes": round(float((codes >= report.from_codes).mean()), 4),
            "by_sound": round(float((likeness >= report.from_likeness).mean()), 4),
            "likeness": [round(float(value), 3) for value in np.quantile(likeness, (0.05, 0.5, 0.95))],
        }
    with_scale, without = judge(new, scale), judge(new)
    heard = np.concatenate([one.sound.likeness[one.audible] for one in new])
    return {
        "hours": round(hours, 2),
        "seconds_to_index": round(seconds, 1),
        "threads": torch.get_num_threads(),
        "copied_from": {"codes": with_scale.from_codes, "likeness": round(with_scale.from_likeness, 3)},
        "fresh": {
            "windows": len(heard),
            "false_alarms": round(with_scale.copied("takes") or 0.0, 5),
            "without_scale": round(without.copied("takes") or 0.0, 5),
            "likeness": [round(float(value), 3) for value in np.quantile(heard, (0.05, 0.5, 0.95, 0.99, 1))],
        },
        "planted": found,
    }


def draw(record: dict[str, tp.Any], out: Path) -> None:
    """What was found of each kind, and how like copies and fresh music are."""
    from matplotlib.figure import Figure

    from audiocraft.utils.figures import save_png

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    rows = [*record["planted"], "fresh"]
    shares = [record["planted"][name]["found"] for name in rows[:-1]] + [record["fresh"]["false_alarms"]]
    colours = ["#3b6ea5"] * (len(rows) - 1) + ["#c8452d"]
    left.barh(rows, shares, color=colours)
    for row, share in enumerate(shares):
        left.annotate(f"{100 * share:.1f} %", (share, row), (3, 0), textcoords="offset points", va="center", fontsize=8)
    left.set_xlim(0, 1.15)
    left.set_title("share of seconds that count as copied", fontsize=10)
    left.invert_yaxis()
    for row, name in enumerate(rows):
        low, middle, high = (record["planted"].get(name) or record["fresh"])["likeness"][:3]
        right.plot([low, high], [row, row], color=colours[row], linewidth=6, alpha=0.5, solid_capstyle="butt")
        right.plot([middle], [row], "o", color=colours[row], markersize=5)
    right.axvline(record["copied_from"]["likeness"], color="black", linestyle="--", linewidth=1)
    right.set_title("likeness of the closest second: 5 %, median, 95 %", fontsize=10)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    save_png(figure, out)


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("train", "held", "fresh"):
        parser.add_argument(name, metavar=name.upper(), type=Path, help="folder of tracks")
    parser.add_argument("--copies", type=int, default=20, help="planted of each kind (default: 20)")
    parser.add_argument("--out", type=Path, default=Path("outputs/novelty"), help="folder for the record")
    args = parser.parse_args(arguments)

    def work() -> tp.Iterator[str]:
        from audiocraft.utils.files import write_json

        record = measure(args.train, args.held, args.fresh, args.copies)
        write_json(args.out / "novelty.json", record, indent=1)
        draw(record, args.out / "novelty.png")
        yield json.dumps(record, indent=1)

    return tell(work)


if __name__ == "__main__":
    raise SystemExit(main())
