"""Bass: one line, played by a sub and, above it, something with teeth."""

from dataclasses import dataclass

import numpy as np
from scipy import signal

from .dsp import SR, Array, filtered, midi_hz, saw, swept
from .effects import bass_to_mono

Rng = np.random.Generator

# (start, length) in 16ths over two bars.
RHYTHMS = (
    ((0, 6), (6, 4), (10, 6), (16, 6), (22, 10)),
    ((0, 3), (3, 3), (6, 10), (16, 3), (19, 3), (22, 6), (28, 4)),
    ((0, 14), (16, 8), (26, 6)),
    ((0, 8), (10, 2), (12, 4), (16, 8), (26, 2), (28, 4)),
    ((0, 24), (24, 4), (28, 4)),
    ((2, 4), (8, 2), (10, 6), (18, 4), (24, 2), (26, 2), (28, 3)),
    ((0, 4), (6, 2), (8, 3), (14, 2), (16, 6), (24, 8)),
    ((0, 30),),
    ((0, 2), (3, 2), (6, 4), (11, 3), (16, 2), (19, 2), (22, 4), (27, 5)),
)
SOUNDS = ("sub", "reese", "boom", "growl", "warp")


@dataclass
class Note:
    """One note: start and length in samples, MIDI pitch, velocity, and whether it slides in from the one before."""

    at: int
    length: int
    pitch: float
    velocity: float = 1.0
    slide: bool = False


def draw_line(rng: Rng, roots: list[int], busy: bool) -> list[tuple[float, float, int, float, bool]]:
    """Two bars over the scale steps `roots` (one per bar): (start, length, scale step, velocity, slide) in 16ths."""
    pool = [rhythm for rhythm in RHYTHMS if (len(rhythm) > 3) == busy] or list(RHYTHMS)
    line = []
    for index, (start, length) in enumerate(pool[rng.integers(len(pool))]):
        root = roots[0] if start < 16 else roots[-1]
        move = 0 if index == 0 or start == 16 else int(rng.choice([0, 0, 0, 2, 4, 6, -1, -3]))
        line.append((float(start), float(length), root + move, rng.uniform(0.8, 1.0), bool(rng.random() < 0.3)))
    return line


def _curves(notes: list[Note], count: int) -> tuple[Array, Array, Array]:
    """Pitch (Hz), loudness and time since the note began (s), one value per sample [T]."""
    hz = np.full(count, midi_hz(notes[0].pitch))
    level = np.zeros(count, np.float32)
    age = np.zeros(count, np.float32)
    glide = np.zeros(count, bool)
    for note in notes:
        end = min(count, note.at + note.length)
        if end <= note.at:
            continue
        hz[note.at :] = midi_hz(note.pitch)
        length = end - note.at
        t = np.arange(length) / SR
        shape = (1 - np.exp(-t / 0.004)) * np.minimum(1.0, (length / SR - t) / 0.025)
        level[note.at : end] = shape * note.velocity
        age[note.at : end] = t
        if note.slide:
            glide[note.at : end] = True
    keep = np.exp(-1.0 / (0.035 * SR))
    slid = signal.lfilter([1 - keep], [1, -keep], hz, zi=[hz[0] * keep])[0]
    return np.where(glide, slid, hz), level, age


def play(rng: Rng, notes: list[Note], count: int, sound: str, bar: float) -> Array:
    """A line [2, T] of `count` samples in one of `SOUNDS`; `bar` in samples times what moves slowly."""
    if not notes:
        return np.zeros((2, count), np.float32)
    hz, level, age = _curves(notes, count)
    if sound == "boom":
        hz = hz * (1 + 1.6 * np.exp(-age / 0.03))
        level = level * np.exp(-age / 0.55)
    step = hz / SR
    phase = np.cumsum(step)
    sub = np.sin(2 * np.pi * (phase % 1.0)).astype(np.float32)
    if sound in ("sub", "boom"):
        drive = rng.uniform(1.3, 2.6)
        mono = filtered(np.tanh(drive * sub + 0.15) - np.tanh(0.15), rng.uniform(350, 1400)) * level
        return np.stack([mono, mono])
    low = sub * level
    teeth = _teeth(rng, sound, phase, step, age, bar) * level
    teeth = np.tanh(1.6 * teeth / (np.abs(teeth).max() + 1e-6))
    teeth = filtered(teeth, 75, "highpass")
    return bass_to_mono(0.75 * low + np.float32(rng.uniform(0.4, 0.75)) * teeth, 150.0)


def _teeth(rng: Rng, sound: str, phase: Array, step: Array, age: Array, bar: float) -> Array:
    """The part of a bass above its sub [2, T]."""
    clock = np.arange(phase.size) / bar
    if sound == "reese":
        out = np.zeros((2, phase.size), np.float32)
        detune = rng.uniform(0.004, 0.011)
        for side, signs in enumerate(((-1.0, 0.35), (1.0, -0.4))):
            for sign in signs:
                ratio = 1 + sign * detune
                out[side] += saw(phase * ratio + rng.random(), step * ratio)
            out[side] += 0.5 * saw(phase * 0.5, step * 0.5)
        middle = rng.uniform(380, 900)
        motion = middle * 2.0 ** (1.3 * np.sin(2 * np.pi * clock / rng.choice([1, 2, 4, 8]) + rng.uniform(0, 6.28)))
        return swept(out, motion, bands=5)
    if sound == "growl":
        rate = rng.choice([2.0, 3.0, 4.0, 6.0])
        index = 1.2 + 2.4 * (0.5 + 0.5 * np.sin(2 * np.pi * clock * rate)) * np.exp(-age / 0.8)
        cycle = 2 * np.pi * phase
        mono = np.sin(cycle + index * np.sin(rng.choice([1.0, 2.0, 3.0]) * cycle))
        return np.stack([mono, mono]).astype(np.float32)
    # 'warp': a saw whose filter opens and shuts with every note.
    mono = saw(phase, step) + 0.7 * saw(phase * 1.006, step * 1.006)
    cutoff = 160 + rng.uniform(900, 2600) * np.exp(-age / rng.uniform(0.08, 0.3))
    mono = swept(mono.astype(np.float32), cutoff, bands=5)
    return np.stack([mono, mono])
