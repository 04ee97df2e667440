"""Keys, chords, and the instruments that play them: pads, stabs and bells."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .dsp import SR, Array, edges, filtered, midi_hz, noise, saw, seconds, swept, tilted
from .effects import crushed

Rng = np.random.Generator

NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
MODES = {"minor": (0, 2, 3, 5, 7, 8, 10), "dorian": (0, 2, 3, 5, 7, 9, 10), "phrygian": (0, 1, 3, 5, 7, 8, 10)}
# Scales that no jungle is drawn in.
OTHERS = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
    "minor pentatonic": (0, 3, 5, 7, 10),
    "whole tone": (0, 2, 4, 6, 8, 10),
}
SCALES: dict[str, tuple[int, ...]] = {**MODES, **OTHERS}
# Chords of a phrase as steps of the scale (0 = the tonic), each held for the phrase's length divided by their number.
PROGRESSIONS = (
    (0,),
    (0, 5),
    (0, 3),
    (0, 0, 5, 6),
    (0, 6, 5, 6),
    (0, 2, 5, 4),
    (0, 4, 5, 3),
    (0, 1),
    (0, 5, 3, 6),
    (0, 0, 3, 4),
)
SHAPES = ((0, 2, 4), (0, 2, 4, 6), (0, 2, 4, 6, 8), (0, 4, 6, 8), (0, 3, 4, 6))


@dataclass(frozen=True)
class Key:
    """A tonic (0 = C) and a mode's name."""

    tonic: int
    mode: str

    @property
    def name(self) -> str:
        """As people write it, e.g. 'F# minor'."""
        return f"{NAMES[self.tonic]} {self.mode}"

    def note(self, degree: int, octave: int) -> int:
        """MIDI number of a step of the scale, counted on through the octaves (octave 4 holds middle C)."""
        scale = SCALES[self.mode]
        return 12 * (octave + 1 + degree // len(scale)) + self.tonic + scale[degree % len(scale)]

    def chord(self, degree: int, shape: tuple[int, ...], low: int) -> list[int]:
        """MIDI notes of a chord in thirds on `degree`, each moved by octaves to just above `low`."""
        notes = []
        for index, third in enumerate(shape):
            note = self.note(degree + third, 3)
            floor = low if index < 3 else low + 7
            notes.append(floor + (note - floor) % 12)
        return sorted(set(notes))


def _voices(rng: Rng, notes: Sequence[float], length: float, per_note: int, detune: float, wave: str) -> Array:
    """Detuned oscillators [2, T], spread over the stereo field; `detune` in cents."""
    t_count = round(length * SR)
    out = np.zeros((2, t_count), np.float32)
    index = np.arange(t_count)
    for note in notes:
        for voice in range(per_note):
            spread = (voice / max(1, per_note - 1) - 0.5) * 2.0 if per_note > 1 else 0.0
            cents = spread * detune + rng.normal(0, 1.0)
            step = midi_hz(note + cents / 100.0) / SR
            phase = index * step + rng.random()
            if wave == "saw":
                sound = saw(phase, step)
            elif wave == "pulse":
                sound = saw(phase, step) - saw(phase + 0.35, step)
            else:
                cycle = 2 * np.pi * (phase % 1.0)
                sound = np.sin(cycle + 1.2 * np.sin(cycle) + 0.4 * np.sin(2 * cycle))
            pan = 0.75 * spread * (1 if note % 2 else -1)
            out[0] += sound * (1 - pan)
            out[1] += sound * (1 + pan)
    return out / np.float32(np.sqrt(len(notes) * per_note))


PADS = ("strings", "warm", "choir", "glass")


def pad_chord(rng: Rng, notes: Sequence[float], length: float, sound: str) -> Array:
    """A held chord [2, T] of `length` seconds that swells and fades; `sound` is one of `PADS`."""
    t = seconds(length)
    if sound == "glass":
        out = _glass(rng, notes, t)
    else:
        wave = {"strings": "saw", "warm": "sine", "choir": "pulse"}[sound]
        out = _voices(rng, notes, length, 4, rng.uniform(7, 16), wave)
        middle = rng.uniform(900, 2600)
        motion = middle * 2.0 ** (0.9 * np.sin(2 * np.pi * t / length * rng.choice([0.5, 1.0]) + rng.uniform(0, 6.28)))
        out = swept(out, motion, bands=4)
        if sound == "choir":
            formants = ((450, 800, 2830), (325, 700, 2530), (650, 1080, 2650))[rng.integers(3)]
            vowel = sum(
                filtered(out, (f * 0.85, f * 1.18), "bandpass", 1) * g for f, g in zip(formants, (1.0, 0.7, 0.35))
            )
            out = np.asarray(1.6 * vowel + 0.12 * out, dtype=np.float32)
    rise, fall = min(0.9, length * 0.3), min(1.2, length * 0.35)
    shape = np.minimum(1.0, t / rise) * np.minimum(1.0, (length - t) / fall)
    return (out * np.sin(0.5 * np.pi * np.clip(shape, 0, 1)) ** 1.5).astype(np.float32)


def _glass(rng: Rng, notes: Sequence[float], t: Array) -> Array:
    """Sines at and above the notes that come and go one by one."""
    out = np.zeros((2, t.size), np.float32)
    for note in notes:
        for ratio, level in ((1, 1.0), (2, 0.5), (3, 0.22), (4, 0.2), (6, 0.08)):
            hz = midi_hz(note) * ratio * (1 + rng.normal(0, 0.0012))
            beat = 0.6 + 0.4 * np.sin(2 * np.pi * rng.uniform(0.1, 0.6) * t + rng.uniform(0, 6.28))
            tone = np.sin(2 * np.pi * hz * t + rng.uniform(0, 6.28)) * beat * level
            pan = rng.uniform(-0.7, 0.7)
            out[0] += tone * (1 - pan)
            out[1] += tone * (1 + pan)
    return out / np.float32(np.sqrt(len(notes)))


STABS = ("rave", "organ", "piano", "hoover", "strings")


def stab(rng: Rng, notes: Sequence[float], sound: str) -> Array:
    """A chord hit once and sampled [2, T]: what a track then plays at other pitches."""
    length = {"rave": 0.55, "organ": 0.45, "piano": 1.1, "hoover": 0.9, "strings": 0.8}[sound]
    t = seconds(length)
    if sound == "rave":
        out = _voices(rng, notes, length, 3, 14, "saw") + 0.5 * _voices(
            rng, [n + 12 for n in notes], length, 2, 9, "pulse"
        )
        out = swept(out, 500 + rng.uniform(3500, 8000) * np.exp(-t / 0.13)) * np.exp(-t / 0.22)
    elif sound == "organ":
        out = _drawbars(rng, notes, t) * np.exp(-t / 0.3)
    elif sound == "piano":
        out = _hammered(rng, notes, t)
    elif sound == "hoover":
        out = _hoover(rng, notes, t)
    else:
        out = _voices(rng, [*notes, notes[0] + 12], length, 5, 18, "saw")
        out = swept(out, 1200 + 3500 * np.minimum(1, t / 0.08)) * np.exp(-t / 0.5) * (1 - np.exp(-t / 0.02))
    out = out * (1 - np.exp(-t / 0.0015)) * np.minimum(1.0, (length - t) / 0.08)
    out = crushed(np.tanh(1.4 * out / (np.abs(out).max() + 1e-6)), 10, int(rng.choice([1, 2])))
    return filtered(edges(out, 0.0005, 0.02), 140, "highpass")


def _drawbars(rng: Rng, notes: Sequence[float], t: Array) -> Array:
    out = np.zeros(t.size)
    bars = ((0.5, 0.5), (1, 1.0), (1.5, 0.6), (2, 0.7), (3, 0.35), (4, 0.4), (6, 0.15), (8, 0.2))
    for note in notes:
        for ratio, level in bars:
            out += level * np.sin(2 * np.pi * midi_hz(note) * ratio * t + rng.uniform(0, 6.28))
    click = filtered(noise(rng, t.size), (800, 5000), "bandpass") * np.exp(-t / 0.005)
    out = np.tanh(0.35 * out) + 0.4 * click
    wobble = np.sin(2 * np.pi * 6.3 * t)
    return np.stack([out * (1 + 0.12 * wobble), out * (1 - 0.12 * wobble)]).astype(np.float32)


def _hammered(rng: Rng, notes: Sequence[float], t: Array) -> Array:
    """Stiff strings: partials stretched upwards, each dying sooner than the one below."""
    out = np.zeros((2, t.size))
    for note in notes:
        f = midi_hz(note)
        for n in range(1, 15):
            hz = f * n * np.sqrt(1 + 4e-4 * n * n)
            if hz > 12_000:
                break
            level = abs(np.sin(np.pi * n / 7.3)) / n**0.75
            tone = level * np.sin(2 * np.pi * hz * t + rng.uniform(0, 6.28)) * np.exp(-t * (2.2 + 1.3 * n))
            pan = (note - 62) / 40 + rng.uniform(-0.15, 0.15)
            out += np.stack([tone * (1 - pan), tone * (1 + pan)])
    knock = filtered(noise(rng, t.size), (200, 2500), "bandpass") * np.exp(-t / 0.01) * 0.5
    return (out + knock).astype(np.float32)


def _hoover(rng: Rng, notes: Sequence[float], t: Array) -> Array:
    """Pulses whose pitch swoops up into the note, thick with detuning."""
    out = np.zeros((2, t.size))
    swoop = 2.0 ** (-(7.0 / 12.0) * np.exp(-t / 0.06))
    for note in (notes[0], notes[0] + 12, notes[1]):
        for voice in range(4):
            step = midi_hz(note + rng.normal(0, 0.16)) / SR * swoop
            phase = np.cumsum(step) + rng.random()
            width = 0.4 + 0.25 * np.sin(2 * np.pi * rng.uniform(2, 4) * t + rng.uniform(0, 6.28))
            tone = saw(phase, step) - saw(phase + width, step)
            pan = (voice - 1.5) / 2
            out += np.stack([tone * (1 - pan), tone * (1 + pan)])
    return (filtered(out, 6500) * np.exp(-t / 0.6)).astype(np.float32)


VOWELS = {
    "a": (730, 1090, 2440),
    "e": (530, 1840, 2480),
    "i": (270, 2290, 3010),
    "o": (570, 840, 2410),
    "u": (300, 870, 2240),
}


def shout(rng: Rng) -> Array:
    """A voice between two vowels [2, T], as cut from a record (formants: Peterson and Barney, 1952)."""
    length = rng.uniform(0.22, 0.6)
    t = seconds(length)
    hz = rng.uniform(140, 290) * 2.0 ** (rng.uniform(-0.5, 0.25) * t / length + 0.02 * np.sin(2 * np.pi * 5.5 * t))
    step = hz / SR
    source = saw(np.cumsum(step), step) + 0.25 * noise(rng, t.size)
    first, second = rng.choice(list(VOWELS), 2, replace=False)
    sung = [
        sum(filtered(source, (f * 0.93, f * 1.08), "bandpass", 1) * g for f, g in zip(VOWELS[vowel], (1.0, 0.8, 0.5)))
        for vowel in (str(first), str(second))
    ]
    place_in = np.clip(t / length * 1.6 - 0.2, 0, 1)
    out = sung[0] * (1 - place_in) + sung[1] * place_in
    breath = filtered(noise(rng, t.size), (1800, 6500), "bandpass") * np.exp(-t / 0.025) * 0.3
    out = (out + breath) * np.minimum(1, t / 0.02) * np.minimum(1, (length - t) / 0.12)
    out = crushed(np.tanh(2.5 * out / (np.abs(out).max() + 1e-6)), 8, 2)
    return np.stack([filtered(edges(out), 6500)] * 2)


def bell(rng: Rng, note: int, length: float) -> Array:
    """A struck bell by frequency modulation [2, T] (J. Chowning, 1973)."""
    t = seconds(length)
    hz = midi_hz(note)
    ratio = float(rng.choice([1.4, 2.0, 3.5, 3.01]))
    index = rng.uniform(1.0, 3.0) * np.exp(-t / (length * 0.15))
    out = np.zeros((2, t.size), np.float32)
    for side, cents in enumerate((-0.05, 0.05)):
        f = hz * 2.0 ** (cents / 12.0)
        out[side] = np.sin(2 * np.pi * f * t + index * np.sin(2 * np.pi * f * ratio * t)) * np.exp(-t / (length * 0.28))
    return edges(tilted(out, "high", 6000, -4), 0.002, 0.05)
