"""What is held: drones of saws, pulses and harmonics, bowed lines, organs, pads and chords."""

import numpy as np

from .dsp import SR, Array, active_rms, db, edges, filtered, midi_hz, noise, place, saw, swept, tilted, wander
from .harmony import PADS, STABS, pad_chord, stab
from .tune import FIGURES, Note, Tune

Rng = np.random.Generator
BLOCK = 256  # samples from one amplitude of `stack` to the next


def stack(count: int, hz: Array, levels: Array, phases: Array) -> Array:
    """Steady sines [T] whose amplitudes move in straight lines between points.

    A sine is the imaginary part of z^n, n = 256 a + b, and so a product of two short tables (see `drums.modes`); the
    way of its amplitude from one block to the next is a second pair of tables, one of them weighted with b / 256.

    Args:
        hz: [M] frequencies.
        levels: [M, A] amplitudes at every `BLOCK`-th sample; A is at least ceil(T / BLOCK) + 1.
        phases: [M] radians.
    """
    blocks = -(-count // BLOCK)
    turn = 2j * np.pi * hz[:, None] / SR
    fine = np.exp(turn * np.arange(BLOCK))
    coarse = np.exp(turn * (BLOCK * np.arange(blocks)) + 1j * phases[:, None])
    here, move = levels[:, :blocks], np.diff(levels[:, : blocks + 1])
    ramp = fine * (np.arange(BLOCK) / BLOCK)
    out = np.zeros((blocks, BLOCK))
    for weight, table in ((here, fine), (move, ramp)):
        bent = coarse * weight
        out += np.einsum("ma,mb->ab", bent.real, table.imag) + np.einsum("ma,mb->ab", bent.imag, table.real)
    return out.reshape(-1)[:count]


def _moves(rng: Rng, size: int, count: int, rate: float) -> Array:
    """`size` slow random curves [size, A] between 0 and 1, as `stack` takes levels."""
    points = -(-count // BLOCK) + 1
    return np.stack([0.5 + 0.5 * wander(rng, points * BLOCK, rate)[::BLOCK] for _ in range(size)])


def _pitches(rng: Rng, tune: Tune, count: int, octave: int) -> Array:
    """MIDI pitch [T]: the root held, or slow glides between a few notes of the scale."""
    pitch = np.full(count, tune.pitch(int(rng.choice([0, 0, 0, 4])), octave))
    if rng.random() < 0.45:
        at = rng.uniform(3.0, 9.0)
        while at * SR < count:
            pitch[round(at * SR) :] = tune.pitch(int(rng.choice([0, 2, 3, 4, 5, 7, -2])), octave)
            at += rng.uniform(3.0, 9.0)
        points = np.arange(0, count + 512, 512)
        width = max(1, round(rng.uniform(0.02, 1.5) * SR / 512))
        rough = np.pad(pitch[np.minimum(points, count - 1)], width, "edge")
        smooth = np.convolve(rough, np.hanning(width + 2)[1:-1] / np.hanning(width + 2)[1:-1].sum(), "same")
        pitch = np.interp(np.arange(count), points, smooth[width:-width])
    return pitch


def _oscillators(rng: Rng, pitch: Array, voices: int, cents: float, pulse: bool) -> Array:
    """Detuned saws or pulses [2, T] along `pitch`, each with a drift of its own."""
    out = np.zeros((2, pitch.size), np.float32)
    base = 440.0 * 2.0 ** ((pitch - 69.0) / 12.0) / SR
    for voice in range(voices):
        off = np.linspace(-cents, cents, voices)[voice] if voices > 1 else 0.0
        step = base * 2.0 ** ((off + rng.normal(0, 1.5) + 4.0 * wander(rng, pitch.size, 0.4)) / 1200.0)
        if rng.random() < 0.2:
            step = step * float(rng.choice([0.5, 2.0, 1.5]))
        phase = np.cumsum(step) + rng.random()
        sound = saw(phase, step)
        if pulse:
            sound = sound - saw(phase + 0.5 + 0.38 * wander(rng, pitch.size, 0.5), step)
        pan = rng.uniform(-0.8, 0.8)
        out[0] += sound * (1 - pan)
        out[1] += sound * (1 + pan)
    return out / np.float32(np.sqrt(voices))


def _breathing(rng: Rng, out: Array, low: float, high: float, rate: float) -> Array:
    """`out` through a low-pass that wanders between two frequencies."""
    place_in = 0.5 + 0.5 * wander(rng, out.shape[-1], rate)
    return swept(out, low * (high / low) ** place_in.astype(np.float64), bands=7)


def _saws(rng: Rng, tune: Tune, count: int) -> Array:
    pitch = _pitches(rng, tune, count, int(rng.integers(1, 4)))
    out = _oscillators(rng, pitch, int(rng.integers(3, 7)), rng.uniform(4, 22), False)
    return _breathing(rng, out, rng.uniform(150, 1200), rng.uniform(2500, 14_000), rng.uniform(0.08, 0.5))


def _pulses(rng: Rng, tune: Tune, count: int) -> Array:
    out = _oscillators(rng, _pitches(rng, tune, count, int(rng.integers(1, 4))), int(rng.integers(1, 3)), 8, True)
    return _breathing(rng, out, rng.uniform(200, 600), rng.uniform(2500, 12_000), rng.uniform(0.1, 1.2))


def _harmonics(rng: Rng, tune: Tune, count: int) -> Array:
    """Harmonics that come and go one by one over a root, as on a tanpura or in a church."""
    root = midi_hz(tune.pitch(0, int(rng.integers(1, 4))))
    size = min(int(rng.integers(16, 56)), int(14_000 / root))
    n = np.arange(1, size + 1)
    out = np.zeros((2, count), np.float32)
    tilt, rate = rng.uniform(0.3, 1.1), rng.uniform(0.1, 0.7)
    levels = _moves(rng, size, count, rate) ** 2 / n[:, None] ** tilt
    phases = rng.uniform(0, 6.28, size)
    for side in range(2):
        own = 0.7 * levels + 0.3 * _moves(rng, size, count, rate) / n[:, None] ** tilt
        hz = root * n * (1 + rng.normal(0, 0.0002, size))
        out[side] = stack(count, hz, own, phases + rng.normal(0, 0.6, size))
    return out


def _beating(rng: Rng, tune: Tune, count: int) -> Array:
    """Pairs and triples of sines a few hertz apart on the notes of a chord, with a few of their overtones."""
    notes = tune.chord(0, int(rng.integers(36, 64)))[: int(rng.integers(3, 6))]
    apart = rng.uniform(0.15, 7.0)
    hz = np.array([midi_hz(note) * n for note in notes for n in (1, 1, 1, 2, 2, 3, 4)])
    hz += apart * rng.uniform(-1, 1, hz.size)
    phases = rng.uniform(0, 6.28, hz.size)
    base = np.tile([1.0, 0.8, 0.5, 0.35, 0.3, 0.15, 0.1], len(notes)) * rng.uniform(0.4, 1.0, hz.size)
    out = np.zeros((2, count), np.float32)
    for side in range(2):
        levels = base[:, None] * (0.35 + 0.65 * _moves(rng, hz.size, count, 0.25))
        out[side] = stack(count, hz, levels, phases + rng.normal(0, 0.6, hz.size))
    return np.tanh(np.float32(rng.uniform(0.2, 1.2)) * out)


def _throat(rng: Rng, tune: Tune, count: int) -> Array:
    """A low buzz through narrow resonances that wander along its overtones."""
    pitch = _pitches(rng, tune, count, 2) + 0.12 * wander(rng, count, 5.0)
    source = _oscillators(rng, pitch, 1, 0, False).mean(axis=0)
    out = 0.25 * filtered(source, 700)
    for low, high in ((350, 900), (700, 2600), (2400, 4200)):
        middle = low * (high / low) ** (0.5 + 0.5 * wander(rng, count, rng.uniform(0.3, 1.5))).astype(np.float64)
        spots = np.geomspace(low, high, 8)
        position = np.log(middle / low) / np.log(high / low) * 7
        for index, hz in enumerate(spots):
            weight = np.clip(1 - np.abs(position - index), 0, 1).astype(np.float32)
            out += 1.4 * filtered(source, (hz * 0.93, hz * 1.07), "bandpass", 1) * weight
    return np.stack([out, out])


def _distorted(rng: Rng, tune: Tune, count: int) -> Array:
    """Fifths and octaves driven hard into a cabinet: sustained guitars, or a machine."""
    pitch = _pitches(rng, tune, count, int(rng.integers(1, 3)))
    chord = sum(_oscillators(rng, pitch + step, 1, 0, False) for step in (0, 7, 12))
    driven = np.tanh(rng.uniform(2, 12) * (chord + np.float32(0.01) * noise(rng, 2, count)))
    out = filtered(filtered(driven, rng.uniform(2800, 6000), order=3), 75, "highpass")
    return tilted(out, "peak", rng.uniform(500, 1800), rng.uniform(-6, 6)) * (0.75 + 0.25 * wander(rng, count, 0.6))


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
    level = active_rms(out) * db(rng.uniform(-52.0, -24.0)) / max(1e-9, active_rms(air))
    return out + np.float32(level) * air * (0.6 + 0.4 * wander(rng, out.shape[1], rng.uniform(0.3, 4.0)))


def drone(rng: Rng, tune: Tune, count: int, variety: str) -> Array:
    """One of `DRONES` [2, T], its loudness breathing a little."""
    out = _aired(rng, DRONES[variety](rng, tune, count))
    breath = 1.0 + rng.uniform(0.05, 0.45) * wander(rng, count, rng.uniform(0.15, 0.8))
    return (out * breath).astype(np.float32)


def _bowed(rng: Rng, tune: Tune, count: int) -> Array:
    """A bowed melody: saws with a glide into every note, vibrato that comes late, bow noise and a wooden body."""
    octave = int(rng.integers(2, 6))
    notes = FIGURES["melody"](rng, tune, count, octave)
    stretch = float(rng.choice([2.0, 3.0, 4.0]))
    notes = [Note(round(note.at * stretch), note.length * stretch, note.pitch, note.velocity) for note in notes]
    notes = [note for note in notes if note.at < count]
    points = np.arange(0, count + 128, 128)
    pitch, force, age = np.full(points.size, 60.0), np.zeros(points.size), np.zeros(points.size)
    for note in notes:
        inside = points >= note.at
        pitch[inside], age[inside] = note.pitch, (points[inside] - note.at) / SR
        held = inside & (points < note.at + note.length * SR)
        force[inside] = 0.0
        force[held] = 0.35 + 0.65 * note.velocity
    pitch[: int(np.argmax(force > 0))] = notes[0].pitch if notes else 60.0
    soft = np.hanning(27) / np.hanning(27).sum()
    pitch = np.convolve(np.pad(pitch, 13, "edge"), soft, "valid")
    force = np.convolve(np.pad(force, 13, "edge"), soft, "valid")
    vibrato = (
        rng.uniform(0.08, 0.35) * np.minimum(1, age / 0.5) * np.sin(2 * np.pi * rng.uniform(4.8, 6.2) * points / SR)
    )
    curve = np.interp(np.arange(count), points, pitch + vibrato)
    level = np.interp(np.arange(count), points, force).astype(np.float32)
    out = _oscillators(rng, curve, int(rng.integers(1, 4)), 6.0, False)
    out += np.float32(0.1) * filtered(noise(rng, 2, count), (900, 6500), "bandpass", 1) * (0.4 + level)
    out = filtered(out, rng.uniform(1800, 6000), order=1)
    for hz, gain in ((280, 5), (460, 4), (1000, -4), (2600, 4)):
        out = tilted(out, "peak", hz * rng.uniform(0.85, 1.15), gain, 2.0)
    return out * level**1.4


def _organ(rng: Rng, tune: Tune, count: int) -> Array:
    """Chords on drawbars or pipes, with the turning speaker of the one or the wind of the other."""
    bars = np.array([0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0])
    drawn = rng.choice([0.0, 0.3, 0.7, 1.0], bars.size) + np.array([0, 0.5, 0, 0.2, 0, 0, 0, 0])
    length = tune.chord_beats * tune.beat
    mono = np.zeros(count + SR)
    for number in range(int(count / length) + 1):
        notes = tune.chord(number * tune.chord_beats, 50)
        hz = (np.array([midi_hz(note) for note in notes])[:, None] * bars).reshape(-1)
        own = min(round(length * rng.choice([0.6, 0.98])), count + SR - round(number * length))
        if own < BLOCK:
            break
        shape = np.tile(np.repeat(0.5 * drawn[None], len(notes), 0).reshape(-1, 1), (1, -(-own // BLOCK) + 1))
        chord = stack(own, hz, shape, rng.uniform(0, 6.28, hz.size))
        start = round(number * length)
        mono[start : start + own] += edges(chord, 0.012, 0.04)
    out = np.tanh(rng.uniform(0.1, 0.6) * mono[:count])
    turn = 2 * np.pi * np.cumsum(rng.uniform(0.6, 6.8) * (1 + 0.3 * wander(rng, count, 0.1))) / SR
    depth = rng.uniform(0.05, 0.4)
    air = 0.02 * filtered(noise(rng, 2, count), (500, 4000), "bandpass", 1)
    return (np.stack([out * (1 + depth * np.sin(turn)), out * (1 - depth * np.sin(turn))]) + air).astype(np.float32)


def _stabs(rng: Rng, tune: Tune, count: int) -> Array:
    """One chord sound struck in a rhythm of two bars, moved along the chords."""
    sound, low = str(rng.choice(STABS)), int(rng.integers(48, 62))
    places = sorted(rng.choice(np.arange(0, 32), int(rng.integers(3, 9)), replace=False).tolist())
    out = np.zeros((2, count), np.float32)
    takes: dict[int, Array] = {}
    for bar in range(0, int(count / tune.beat / 4) + 1, 2):
        for at in places:
            beat = 4 * bar + at / 4
            degree = tune.degree(beat)
            if degree not in takes:
                takes[degree] = stab(rng, tune.chord(beat, low), sound)
            place(out, takes[degree], round(beat * tune.beat), rng.uniform(0.5, 1.0))
    return out


PAD_KINDS = (*(f"{name} pad" for name in PADS), "organ", "bowed strings", "chord stabs")


def pad(rng: Rng, tune: Tune, count: int, variety: str) -> Array:
    """Chords on one of `PAD_KINDS` [2, T]; every chord is played once and comes back as the tune goes round."""
    if variety in ("organ", "bowed strings", "chord stabs"):
        return {"organ": _organ, "bowed strings": _bowed, "chord stabs": _stabs}[variety](rng, tune, count)
    sound = variety.removesuffix(" pad")
    beats = tune.chord_beats * (2 if tune.chord_beats * tune.beat < 2.5 * SR else 1)
    length = beats * tune.beat
    low = int(rng.integers(43, 60))
    out = np.zeros((2, count), np.float32)
    chords: dict[int, Array] = {}
    for number in range(int(count / length) + 1):
        beat = number * beats
        degree = tune.degree(beat)
        if degree not in chords:
            own = min(length / SR + 0.8, count / SR + 0.1)
            chords[degree] = pad_chord(rng, tune.chord(beat, low)[:4], own, sound)
        place(out, chords[degree], round(number * length), rng.uniform(0.7, 1.0))
    return _aired(rng, out)
