"""What is held: drones of saws, pulses and harmonics, bowed lines, organs, pads and chords."""

import numpy as np

from .dsp import (
    SR,
    Array,
    Rng,
    active_rms,
    edges,
    filtered,
    levelled,
    midi_hz,
    noise,
    place,
    smoothed,
    spread,
    swept,
    tilted,
    wander,
)
from .harmony import PADS, STABS, pad_chord, stab
from .synthesis import drawbars, moving, oscillators, stack
from .tune import Tune, melody


def _pitches(rng: Rng, tune: Tune, count: int, octave: int) -> Array:
    """MIDI pitch [T]: the root held, or slow glides between a few notes of the scale."""
    points = np.arange(0, count + 512, 512)
    pitch = np.full(points.size, tune.pitch(int(rng.choice([0, 0, 0, 4])), octave))
    if rng.random() < 0.45:
        at = rng.uniform(3.0, 9.0)
        while at * SR < count:
            pitch[points >= at * SR] = tune.pitch(int(rng.choice([0, 2, 3, 4, 5, 7, -2])), octave)
            at += rng.uniform(3.0, 9.0)
        pitch = smoothed(pitch, 2 * round(rng.uniform(0.01, 0.75) * SR / 512) + 1)
    return np.interp(np.arange(count), points, pitch)


def _breathing(rng: Rng, out: Array, low: float, high: float, rate: float) -> Array:
    """`out` through a low-pass that wanders between two frequencies."""
    return swept(out, low * (high / low) ** wander(rng, out.shape[-1], rate, 0.0).astype(np.float64), bands=7)


def _saws(rng: Rng, tune: Tune, count: int) -> Array:
    pitch = _pitches(rng, tune, count, int(rng.integers(1, 4)))
    out = oscillators(rng, pitch, int(rng.integers(3, 7)), rng.uniform(4, 22))
    if rng.random() < 0.5:
        out += 0.6 * oscillators(rng, pitch + float(rng.choice([-12, 12, 7])), 1, 0.0)
    return _breathing(rng, out, rng.uniform(150, 1200), rng.uniform(2500, 14_000), rng.uniform(0.08, 0.5))


def _pulses(rng: Rng, tune: Tune, count: int) -> Array:
    pitch = _pitches(rng, tune, count, int(rng.integers(1, 4)))
    out = oscillators(rng, pitch, int(rng.integers(1, 3)), 8.0, "pulse")
    return _breathing(rng, out, rng.uniform(200, 600), rng.uniform(2500, 12_000), rng.uniform(0.1, 1.2))


def _harmonics(rng: Rng, tune: Tune, count: int) -> Array:
    """Harmonics that come and go one by one over a root, as on a tanpura or in a church."""
    root = midi_hz(tune.pitch(0, int(rng.integers(1, 4))))
    n = np.arange(1, min(int(rng.integers(16, 56)), int(14_000 / root)) + 1)
    fall, rate = n[:, None] ** rng.uniform(0.3, 1.1), rng.uniform(0.1, 0.7)
    common, phases = moving(rng, n.size, count, rate) ** 2, rng.uniform(0, 6.28, n.size)
    sides = []
    for _ in range(2):
        levels = (0.7 * common + 0.3 * moving(rng, n.size, count, rate)) / fall
        hz = root * n * (1 + rng.normal(0, 0.0002, n.size))
        sides.append(stack(count, hz, levels, phases + rng.normal(0, 0.6, n.size)))
    return np.stack(sides)


def _beating(rng: Rng, tune: Tune, count: int) -> Array:
    """Pairs and triples of sines a few hertz apart on the notes of a chord, with a few of their overtones."""
    notes = tune.chord(0, int(rng.integers(36, 64)))[: int(rng.integers(3, 6))]
    hz = np.array([midi_hz(note) * n for note in notes for n in (1, 1, 1, 2, 2, 3, 4)])
    hz += rng.uniform(0.15, 7.0) * rng.uniform(-1, 1, hz.size)
    base = np.tile([1.0, 0.8, 0.5, 0.35, 0.3, 0.15, 0.1], len(notes)) * rng.uniform(0.4, 1.0, hz.size)
    phases = rng.uniform(0, 6.28, hz.size)
    levels = [base[:, None] * moving(rng, hz.size, count, 0.25, 0.35) for _ in range(2)]
    sides = [stack(count, hz, level, phases + rng.normal(0, 0.6, hz.size)) for level in levels]
    return np.tanh(rng.uniform(0.2, 1.2) * np.stack(sides))


def _throat(rng: Rng, tune: Tune, count: int) -> Array:
    """A low buzz through narrow resonances that wander along its overtones."""
    pitch = _pitches(rng, tune, count, 2) + 0.12 * wander(rng, count, 5.0)
    source = oscillators(rng, pitch, 1, 0.0)[0]
    out = 0.25 * filtered(source, 700)
    for low, high in ((350, 900), (700, 2600), (2400, 4200)):
        way = wander(rng, count, rng.uniform(0.3, 1.5), 0.0).astype(np.float64)
        out += 1.4 * swept(source, low * (high / low) ** way, "bandpass", 8, 1.07)
    return np.stack([out, out])


def _distorted(rng: Rng, tune: Tune, count: int) -> Array:
    """Fifths and octaves driven hard into a cabinet: sustained guitars, or a machine."""
    pitch = _pitches(rng, tune, count, int(rng.integers(1, 3)))
    chord = np.sum([oscillators(rng, pitch + step, 1, 0.0) for step in (0, 7, 12)], axis=0)
    driven = np.tanh(rng.uniform(2, 12) * (chord + np.float32(0.01) * noise(rng, 2, count)))
    out = filtered(filtered(driven, rng.uniform(2800, 6000), order=3), 75, "highpass")
    return tilted(out, "peak", rng.uniform(500, 1800), rng.uniform(-6, 6)) * wander(rng, count, 0.6, 0.5)


DRONES = {
    "detuned saws": _saws,
    "pulse drone": _pulses,
    "harmonic drone": _harmonics,
    "beating tones": _beating,
    "throat singing": _throat,
    "distorted drone": _distorted,
}


def _aired(rng: Rng, out: Array) -> Array:
    """`out` with the air that is around anything held: what blows, rubs or hums in the instrument and its amplifier."""
    air = filtered(noise(rng, *out.shape), (rng.uniform(200, 2000), rng.uniform(4000, 16_000)), "bandpass", 1)
    level = 20 * np.log10(max(1e-9, active_rms(out))) + rng.uniform(-52.0, -24.0)
    return out + levelled(air, level) * wander(rng, out.shape[1], rng.uniform(0.3, 4.0), 0.2)


def drone(rng: Rng, tune: Tune, count: int, variety: str) -> Array:
    """One of `DRONES` [2, T], its loudness breathing a little."""
    out = _aired(rng, DRONES[variety](rng, tune, count))
    return out * (1.0 + rng.uniform(0.05, 0.45) * wander(rng, count, rng.uniform(0.15, 0.8)))


def _bowed(rng: Rng, tune: Tune, count: int) -> Array:
    """A bowed melody: saws with a glide into every note, vibrato that comes late, bow noise and a wooden body."""
    stretch = float(rng.choice([2.0, 3.0, 4.0]))
    notes = melody(rng, tune, round(count / stretch), int(rng.integers(2, 6)))
    points = np.arange(0, count + 128, 128)
    pitch, force, age = np.full(points.size, notes[0].pitch), np.zeros(points.size), np.zeros(points.size)
    for note in notes:
        since = (points - note.at * stretch) / SR
        inside = since >= 0
        pitch[inside], age[inside] = note.pitch, since[inside]
        force[inside] = (0.35 + 0.65 * note.velocity) * (since[inside] < note.length * stretch)
    vibrato = rng.uniform(0.08, 0.35) * np.minimum(1, age / 0.5)
    pitch = smoothed(pitch, 27) + vibrato * np.sin(2 * np.pi * rng.uniform(4.8, 6.2) * points / SR)
    curve, level = (np.interp(np.arange(count), points, values) for values in (pitch, smoothed(force, 27)))
    out = oscillators(rng, curve, int(rng.integers(1, 4)), 6.0)
    out += np.float32(0.1) * filtered(noise(rng, 2, count), (900, 6500), "bandpass", 1) * (0.4 + level)
    out = filtered(out, rng.uniform(1800, 6000), order=1)
    for hz, gain in ((280, 5), (460, 4), (1000, -4), (2600, 4)):
        out = tilted(out, "peak", hz * rng.uniform(0.85, 1.15), gain, 2.0)
    return out * level**1.4


def _chords(tune: Tune, count: int, beats: int) -> list[tuple[int, float, int]]:
    """(first sample, beat, step of the scale) of every chord, `beats` apart."""
    numbers = range(int(count / beats / tune.beat) + 1)
    return [(round(n * beats * tune.beat), n * beats, tune.degree(n * beats)) for n in numbers]


def _organ(rng: Rng, tune: Tune, count: int) -> Array:
    """Chords on drawbars or pipes, with the turning speaker of the one or the wind of the other."""
    drawn = 0.5 * (rng.choice([0.0, 0.3, 0.7, 1.0], 8) + np.array([0, 0.5, 0, 0.2, 0, 0, 0, 0]))
    length = tune.chord_beats * tune.beat / SR
    out = np.zeros((2, count), np.float32)
    for start, beat, _ in _chords(tune, count, tune.chord_beats):
        t = np.arange(round(length * rng.choice([0.6, 0.98]) * SR)) / SR
        place(out, edges(drawbars(rng, tune.chord(beat, 50), t, drawn), 0.012, 0.04), start)
    turn = 2 * np.pi * np.cumsum(rng.uniform(0.6, 6.8) * (1 + 0.3 * wander(rng, count, 0.1))) / SR
    driven = spread(np.tanh(rng.uniform(0.1, 0.6) * out[0]), rng.uniform(0.05, 0.4) * np.sin(turn))
    return driven + 0.02 * filtered(noise(rng, 2, count), (500, 4000), "bandpass", 1)


def _stabs(rng: Rng, tune: Tune, count: int) -> Array:
    """One chord sound struck in a rhythm of two bars, moved along the chords."""
    sound, low = str(rng.choice(STABS)), int(rng.integers(48, 62))
    rhythm = rng.choice(32, int(rng.integers(3, 9)), replace=False) / 4
    out = np.zeros((2, count), np.float32)
    takes: dict[int, Array] = {}
    for _, first, _ in _chords(tune, count, 8):
        for beat in first + np.sort(rhythm):
            degree = tune.degree(beat)
            if degree not in takes:
                takes[degree] = stab(rng, tune.chord(beat, low), sound)
            place(out, takes[degree], round(beat * tune.beat), rng.uniform(0.5, 1.0))
    return out


OTHERS = {"organ": _organ, "bowed strings": _bowed, "chord stabs": _stabs}
PAD_KINDS = (*(f"{name} pad" for name in PADS), *OTHERS)


def pad(rng: Rng, tune: Tune, count: int, variety: str) -> Array:
    """Chords on one of `PAD_KINDS` [2, T]; every chord is played once and comes back as the tune goes round."""
    if variety in OTHERS:
        return OTHERS[variety](rng, tune, count)
    beats = tune.chord_beats * (2 if tune.chord_beats * tune.beat < 2.5 * SR else 1)
    length, low = min(beats * tune.beat / SR + 0.8, count / SR + 0.1), int(rng.integers(43, 60))
    out = np.zeros((2, count), np.float32)
    chords: dict[int, Array] = {}
    for start, beat, degree in _chords(tune, count, beats):
        if degree not in chords:
            chords[degree] = pad_chord(rng, tune.chord(beat, low)[:4], length, variety.removesuffix(" pad"))
        place(out, chords[degree], start, rng.uniform(0.7, 1.0))
    return _aired(rng, out)
