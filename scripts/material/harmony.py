"""Chords as instruments play them: pads that are held, stabs that are struck."""

from collections.abc import Sequence

import numpy as np

from .dsp import Array, Rng, edges, filtered, midi_hz, place, seconds, spread, swept
from .effects import crushed
from .synthesis import BARS, chord, drawbars, hoover

PADS = ("strings", "warm", "choir", "glass")
STABS = ("rave", "organ", "piano", "hoover", "strings")
CHOIR = ((450, 800, 2830), (325, 700, 2530), (650, 1080, 2650))  # formants in Hz


def pad_chord(rng: Rng, notes: Sequence[float], length: float, sound: str) -> Array:
    """A held chord [2, T] of `length` seconds that swells and fades; `sound` is one of `PADS`."""
    t = seconds(length)
    if sound == "glass":
        out = _glass(rng, notes, t)
    else:
        wave = {"strings": "saw", "warm": "sine", "choir": "pulse"}[sound]
        turn = 2 * np.pi * t / length * rng.choice([0.5, 1.0]) + rng.uniform(0, 6.28)
        out = chord(rng, notes, t, 4, rng.uniform(7, 16), wave)
        out = swept(out, rng.uniform(900, 2600) * 2.0 ** (0.9 * np.sin(turn)), bands=4)
    if sound == "choir":
        bands = [filtered(out, (hz * 0.85, hz * 1.18), "bandpass", 1) for hz in CHOIR[rng.integers(3)]]
        out = 1.6 * (bands[0] + 0.7 * bands[1] + 0.35 * bands[2]) + 0.12 * out
    shape = np.minimum(t / min(0.9, length * 0.3), (length - t) / min(1.2, length * 0.35))
    return (out * np.sin(0.5 * np.pi * np.clip(shape, 0, 1)) ** 1.5).astype(np.float32)


def _glass(rng: Rng, notes: Sequence[float], t: Array) -> Array:
    """Sines at and above the notes that come and go one by one."""
    out = np.zeros((2, t.size), np.float32)
    for note in notes:
        for ratio, level in ((1, 1.0), (2, 0.5), (3, 0.22), (4, 0.2), (6, 0.08)):
            hz = midi_hz(note) * ratio * (1 + rng.normal(0, 0.0012))
            beat = 0.6 + 0.4 * np.sin(2 * np.pi * rng.uniform(0.1, 0.6) * t + rng.uniform(0, 6.28))
            out += spread(np.sin(2 * np.pi * hz * t + rng.uniform(0, 6.28)) * beat * level, rng.uniform(-0.7, 0.7))
    return out / np.float32(np.sqrt(len(notes)))


def stab(rng: Rng, notes: Sequence[float], sound: str) -> Array:
    """A chord hit once and sampled [2, T], one of `STABS`: what a track then plays at other pitches."""
    length = {"rave": 0.55, "organ": 0.45, "piano": 1.1, "hoover": 0.9, "strings": 0.8}[sound]
    t = seconds(length)
    if sound == "rave":
        out = chord(rng, notes, t, 3, 14) + 0.5 * chord(rng, [n + 12 for n in notes], t, 2, 9, "pulse")
        out = swept(out, 500 + rng.uniform(3500, 8000) * np.exp(-t / 0.13)) * np.exp(-t / 0.22)
    elif sound == "organ":
        organ = drawbars(rng, notes, t, np.array([0.5, 1.0, 0.6, 0.7, 0.35, 0.4, 0.15, 0.2]))
        out = spread(np.tanh(0.35 * organ), 0.12 * np.sin(2 * np.pi * 6.3 * t)) * np.exp(-t / 0.3)
    elif sound == "piano":
        out = np.zeros((2, t.size), np.float32)
        for note in notes:
            place(out, BARS["piano"].strike(rng, note, 1.0), 0, 1.0, (note - 62) / 40)
    elif sound == "hoover":
        out = filtered(hoover(rng, notes, t), 6500)
    else:
        out = chord(rng, [*notes, notes[0] + 12], t, 5, 18)
        out = swept(out, 1200 + 3500 * np.minimum(1, t / 0.08)) * np.exp(-t / 0.5) * (1 - np.exp(-t / 0.02))
    out = out * (1 - np.exp(-t / 0.0015)) * np.minimum(1.0, (length - t) / 0.08)
    out = crushed(np.tanh(1.4 * out / (np.abs(out).max() + 1e-6)), 10, int(rng.choice([1, 2])))
    return filtered(edges(out, 0.0005, 0.02), 140, "highpass")
