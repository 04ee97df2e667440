"""Figures played on instruments that are plucked or struck: strings, bars, bells, gongs, frequency modulation."""

from collections.abc import Callable

import numpy as np

from .dsp import SR, Array, Rng, db, edges, place
from .synthesis import BARS, CASTS, STRINGS, TONES, gong
from .tune import Note, Tune, figure

Strike = Callable[[Rng, float, float], Array]  # dice, MIDI pitch, force in 0..1 -> mono sound [T]
PLUCKS = (*STRINGS, *BARS)
BELLS = (*CASTS, "gong", *TONES)


def perform(rng: Rng, notes: list[Note], count: int, strike: Strike, width: float, damp: float | None = None) -> Array:
    """`notes` played on one instrument [2, T] of `count` samples.

    Every pitch has a few takes, soft and hard, so that repeated notes differ a little, as on a real one.

    Args:
        width: how far low and high notes stand apart, 0 to 1.
        damp: seconds of fade once a note's length is over; None lets it ring.
    """
    takes: dict[tuple[int, int, int], Array] = {}
    out = np.zeros((2, count), np.float32)
    for note in notes:
        force = int(note.velocity > 0.55) + int(note.velocity > 0.8)
        name = (round(note.pitch * 100), force, int(rng.integers(2)))
        if name not in takes:
            takes[name] = strike(rng, note.pitch, (0.35, 0.65, 1.0)[force])
        sound = takes[name]
        if damp is not None:
            sound = edges(sound[: round((note.length + damp) * SR)], 0.0, damp)
        pan = float(np.clip(width * ((note.pitch - 60) / 24 + rng.normal(0, 0.1)), -0.8, 0.8))
        place(out, sound, note.at, db(-24.0 * (1.0 - note.velocity)), pan)
    return out


def pluck(rng: Rng, tune: Tune, count: int, variety: str) -> Array:
    """A figure on one of `PLUCKS` [2, T]: a melody, an arpeggio, strums, or single notes."""
    player = STRINGS[variety] if variety in STRINGS else BARS[variety]
    chances = {"melody": 0.3, "arpeggio": 0.3, "sparse": 0.2, "strums": 0.2}
    if variety == "bass string":
        chances = {"melody": 0.5, "arpeggio": 0.15, "sparse": 0.35}
    octave = player.octave + (int(rng.choice([-1, 0, 0, 0, 1])) if player.octave > 1 else 0)
    _, notes = figure(rng, tune, count, octave, chances)
    damp = float(rng.uniform(0.04, 0.15)) if rng.random() < 0.4 else None
    out = perform(rng, notes, count, player.strike, rng.uniform(0.0, 0.9), damp)
    if variety == "vibraphone":
        turn = 2 * np.pi * rng.uniform(3, 7) * np.arange(count) / SR
        out *= (1.0 - rng.uniform(0.1, 0.5) * (0.5 + 0.5 * np.sin(turn))).astype(np.float32)
    return out


def bell(rng: Rng, tune: Tune, count: int, variety: str) -> Array:
    """A figure on one of `BELLS` [2, T]; large bells are struck seldom and ring into one another."""
    width = rng.uniform(0.1, 0.9)
    if variety == "gong":
        _, notes = figure(rng, tune, count, int(rng.integers(1, 4)), {"sparse": 1.0})
        return perform(rng, notes[:: int(rng.integers(1, 4))], count, gong, width)
    if variety in CASTS:
        chances = {"melody": 0.3, "sparse": 0.55, "arpeggio": 0.15}
        name, notes = figure(rng, tune, count, CASTS[variety].octave, chances)
        return perform(rng, notes, count, CASTS[variety].strike, width, 0.3 if name == "arpeggio" else None)
    tone = TONES[variety]
    chances = {"melody": 0.4, "arpeggio": 0.25, "sparse": 0.2, "strums": 0.15}
    _, notes = figure(rng, tune, count, tone.octave + int(rng.choice([-1, 0, 0, 1])), chances)
    return perform(rng, notes, count, tone.strike, width, float(rng.uniform(0.05, 0.4)))
