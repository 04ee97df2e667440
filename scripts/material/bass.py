"""Bass: one line, played by a sub and, above it, something with teeth."""

import numpy as np
from scipy import signal

from .dsp import SR, Array, Rng, filtered, midi_hz, saw, swept
from .effects import bass_to_mono
from .synthesis import oscillators
from .tune import Note

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


def draw_line(rng: Rng, roots: tuple[int, int], busy: bool) -> list[tuple[int, int, int, float, bool]]:
    """Two bars over the scale steps `roots` (one a bar): (start, length, scale step, velocity, slide) in 16ths."""
    pool = [rhythm for rhythm in RHYTHMS if (len(rhythm) > 3) == busy]
    line = []
    for index, (start, length) in enumerate(pool[rng.integers(len(pool))]):
        move = 0 if index == 0 or start == 16 else int(rng.choice([0, 0, 0, 2, 4, 6, -1, -3]))
        line.append((start, length, roots[start >= 16] + move, rng.uniform(0.8, 1.0), bool(rng.random() < 0.3)))
    return line


def _curves(notes: list[Note], count: int) -> tuple[Array, Array, Array]:
    """Pitch (Hz), loudness and time since the note began (s), one value per sample [T]."""
    hz = np.full(count, midi_hz(notes[0].pitch))
    level, age = np.zeros(count, np.float32), np.zeros(count, np.float32)
    glide = np.zeros(count, bool)
    for note in notes:
        inside = slice(note.at, min(count, note.at + round(note.length * SR)))
        t = np.arange(max(0, inside.stop - inside.start)) / SR
        hz[note.at :] = midi_hz(note.pitch)
        level[inside] = (1 - np.exp(-t / 0.004)) * np.minimum(1.0, (t.size / SR - t) / 0.025) * note.velocity
        age[inside], glide[inside] = t, note.slide
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
    phase = np.cumsum(hz / SR)
    sub = np.sin(2 * np.pi * (phase % 1.0)).astype(np.float32)
    if sound in ("sub", "boom"):
        driven = np.tanh(rng.uniform(1.3, 2.6) * sub + 0.15) - np.tanh(0.15)
        mono = filtered(driven, rng.uniform(350, 1400)) * level
        return np.stack([mono, mono])
    teeth = _teeth(rng, sound, phase, hz, age, bar) * level
    teeth = filtered(np.tanh(1.6 * teeth / (np.abs(teeth).max() + 1e-6)), 75, "highpass")
    return bass_to_mono(0.75 * sub * level + np.float32(rng.uniform(0.4, 0.75)) * teeth, 150.0)


def _teeth(rng: Rng, sound: str, phase: Array, hz: Array, age: Array, bar: float) -> Array:
    """The part of a bass above its sub [2, T]."""
    clock = np.arange(phase.size) / bar
    if sound == "reese":
        pitch = 69.0 + 12.0 * np.log2(hz / 440.0)
        out = oscillators(rng, pitch, 4, rng.uniform(7, 19)) + 0.4 * oscillators(rng, pitch - 12, 1, 0.0)
        turn = 2 * np.pi * clock / rng.choice([1, 2, 4, 8]) + rng.uniform(0, 6.28)
        return swept(out, rng.uniform(380, 900) * 2.0 ** (1.3 * np.sin(turn)), bands=5)
    if sound == "growl":
        rate = rng.choice([2.0, 3.0, 4.0, 6.0])
        index = 1.2 + 2.4 * (0.5 + 0.5 * np.sin(2 * np.pi * clock * rate)) * np.exp(-age / 0.8)
        mono = np.sin(2 * np.pi * phase + index * np.sin(2 * np.pi * rng.choice([1.0, 2.0, 3.0]) * phase))
    else:  # 'warp': a saw whose filter opens and shuts with every note
        mono = saw(phase, hz / SR) + 0.7 * saw(phase * 1.006, hz / SR * 1.006)
        mono = swept(mono, 160 + rng.uniform(900, 2600) * np.exp(-age / rng.uniform(0.08, 0.3)), bands=5)
    return np.stack([mono, mono])
