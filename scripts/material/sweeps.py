"""Pitches that move: glides over the whole range, endless ones, birds, theremins, sirens and zaps."""

import numpy as np

from .dsp import SR, Array, edges, filtered, noise, place, saw, seconds, swept, wander
from .textures import riser, siren
from .tune import Tune

Rng = np.random.Generator
LOWEST, HIGHEST = 30.0, 16_000.0  # Hz
BLOCK = 256  # samples between the points of a theremin's curves


def _cycle(hz: Array) -> Array:
    """Phase [T] in radians of a running frequency, small enough for 32-bit sines."""
    return (2 * np.pi * (np.cumsum(hz / SR) % 1.0)).astype(np.float32)


def _tone(hz: Array, levels: Array) -> Array:
    """Harmonics with the given levels along `hz` [T]; each falls silent before it would pass half the rate."""
    cycle = _cycle(hz)
    out = np.zeros(hz.size, np.float32)
    for number, level in enumerate(levels, start=1):
        if number * hz.min() < 19_000 and level > 0.003:
            room = np.clip((19_500 - number * hz) / 2500, 0, 1).astype(np.float32)
            out += np.float32(level) * room * np.sin(number * cycle)
    return out


def _times(rng: Rng, count: int, shortest: float, longest: float, pause: float) -> list[tuple[int, Array]]:
    """Starts (samples) and times [T] (seconds) of sounds that follow one another, `pause` seconds apart on average."""
    out, at = [], rng.uniform(0, 0.5 * pause + 0.05)
    while at * SR < count:
        length = float(np.exp(rng.uniform(np.log(shortest), np.log(longest))))
        out.append((round(at * SR), seconds(length)))
        at += length * rng.uniform(0.5, 1.0) + rng.exponential(pause)
    return out


def _glides(rng: Rng, tune: Tune, count: int) -> Array:
    """Long glides up or down, each with a tone, a swell and a place of its own."""
    out = np.zeros((2, count), np.float32)
    for _ in range(int(rng.integers(1, 3))):
        for start, t in _times(rng, count, 1.2, 9.0, rng.uniform(0.1, 1.5)):
            ends = np.exp(rng.uniform(np.log(LOWEST), np.log(HIGHEST), 2))
            if abs(np.log2(ends[1] / ends[0])) < 1.5:  # hardly a glide: on to the far end of the range
                ends[1] = LOWEST if ends[0] > 700 else HIGHEST
            way = (t / t[-1]) ** rng.uniform(0.6, 1.7)
            bend = 1 + rng.uniform(0, 0.03) * wander(rng, t.size, rng.uniform(2, 9))
            hz = np.clip(ends[0] * (ends[1] / ends[0]) ** way * bend, 25, 17_500)
            if rng.random() < 0.35:
                sound = saw(np.cumsum(hz / SR), hz / SR).astype(np.float32)
                sound = filtered(sound, rng.uniform(2500, 12_000), order=1)
            else:
                levels = rng.uniform(0.3, 1, 8) / np.arange(1, 9) ** rng.uniform(0.9, 3.0)
                sound = _tone(hz, levels)
            air = swept(noise(rng, t.size), np.clip(2.0 * hz, 60, 15_000), bands=4)
            sound += np.float32(rng.uniform(0.02, 0.35)) * air
            swell = np.sin(np.pi * np.clip(t / t[-1], 0, 1)) ** rng.uniform(0.3, 1.2)
            shake = 1 + rng.uniform(0, 0.6) * np.sin(2 * np.pi * rng.uniform(2, 14) * t)
            place(out, edges(sound * swell * shake, 0.01, 0.05), start, rng.uniform(0.3, 1.0), rng.uniform(-0.7, 0.7))
    return out


def _endless(rng: Rng, tune: Tune, count: int) -> Array:
    """Octaves that climb or fall for ever, loud in the middle of the range alone (R. Shepard, 1964)."""
    t = np.arange(count) / SR
    speed = rng.choice([-1, 1]) * rng.uniform(0.03, 0.25)
    place_in = speed * t + 0.02 * wander(rng, count, 0.5)
    out = np.zeros((2, count), np.float32)
    for voice in range(9):
        octave = (voice + place_in + rng.uniform(0, 0.03)) % 9.0
        hz = 32.0 * 2.0**octave
        level = (np.exp(-0.5 * ((octave - 4.2) / 1.5) ** 2) * np.clip(np.minimum(octave, 9 - octave) / 0.3, 0, 1)) ** 2
        sound = (np.sin(_cycle(hz)) + 0.2 * np.sin(2 * _cycle(hz))) * level
        pan = rng.uniform(-0.6, 0.6)
        out += np.stack([sound * (1 - pan), sound * (1 + pan)]).astype(np.float32)
    return out + np.float32(0.01) * filtered(noise(rng, 2, count), (300, 5000), "bandpass", 1)


def _theremin(rng: Rng, tune: Tune, count: int) -> Array:
    """A single voice that slides from note to note and trembles."""
    octave = int(rng.integers(3, 6))
    points = np.arange(0, count + BLOCK, BLOCK)
    pitch, force = np.full(points.size, tune.pitch(0, octave)), np.ones(points.size)
    at = 0.0
    while at * SR < count:
        held = rng.uniform(0.35, 2.5)
        inside = points >= at * SR
        pitch[inside] = tune.pitch(int(rng.integers(-3, 11)), octave)
        force[inside] = 0.0 if rng.random() < 0.15 else rng.uniform(0.4, 1.0)
        at += held
    soft = np.hanning(2 * int(rng.integers(6, 30)) + 1)
    half = soft.size // 2
    pitch = np.convolve(np.pad(pitch, half, "edge"), soft / soft.sum(), "valid")
    force = np.convolve(np.pad(force, half, "edge"), soft / soft.sum(), "valid")
    t = np.arange(count) / SR
    depth = rng.uniform(0.1, 0.6) * (0.6 + 0.4 * wander(rng, count, 0.7))
    curve = np.interp(np.arange(count), points, pitch) + depth * np.sin(2 * np.pi * rng.uniform(4.5, 6.8) * t)
    hz = np.clip(440.0 * 2.0 ** ((curve - 69) / 12), 40, 9000)
    sound = _tone(hz, np.array([1.0, 0.45, 0.22, 0.1, 0.06, 0.03]) * rng.uniform(0.3, 1.2, 6))
    sound = (np.tanh(1.4 * sound) + 0.03 * filtered(noise(rng, count), 5000)) * np.interp(
        np.arange(count), points, force
    )
    return np.stack([sound, sound]).astype(np.float32)


def _birds(rng: Rng, tune: Tune, count: int) -> Array:
    """A few birds, each with a call of its own that it repeats and varies, near or far, over leaves."""
    out = np.zeros((2, count), np.float32)
    for _ in range(int(rng.integers(2, 5))):
        middle, pan, far = rng.uniform(1800, 6500), rng.uniform(-0.9, 0.9), rng.uniform(0.1, 1.0)
        call = [
            (rng.uniform(0.03, 0.22), rng.uniform(-0.5, 0.5), rng.uniform(-0.8, 0.8), rng.uniform(0.02, 0.12))
            for _ in range(int(rng.integers(1, 7)))
        ]
        trill, shake = rng.uniform(0, 0.12), rng.uniform(18, 60)
        at = rng.uniform(0, 2)
        while at * SR < count:
            for length, start, move, pause in call:
                t = np.arange(round(length * SR)) / SR
                way = t / length
                hz = middle * 2.0 ** (start + move * way + trill * np.sin(2 * np.pi * shake * t) + rng.normal(0, 0.02))
                sound = _tone(hz, np.array([1.0, 0.12, 0.04])) * np.sin(np.pi * way) ** 0.7
                place(out, edges(sound, 0.004, 0.006), round(at * SR), far * rng.uniform(0.6, 1.0), pan)
                at += length + pause
            at += rng.exponential(1.6) + 0.25
    leaves = filtered(noise(rng, 2, count), (400, 7000), "bandpass", 1) * (0.6 + 0.4 * wander(rng, count, 0.4))
    return out + np.float32(rng.uniform(0.004, 0.03)) * leaves


def _zaps(rng: Rng, tune: Tune, count: int) -> Array:
    """Short dives and rises: lasers, coins, doors and blasters of an arcade."""
    out = np.zeros((2, count), np.float32)
    for start, t in _times(rng, count, 0.06, 1.1, rng.uniform(0.15, 1.2)):
        top, span = rng.uniform(300, 9000), rng.uniform(-5, 3)
        hz = np.clip(top * 2.0 ** (span * (1 - np.exp(-4 * t / t[-1]))), 35, 16_000)
        if rng.random() < 0.4:
            hz = np.clip(
                hz * 2.0 ** (rng.uniform(0.1, 1.0) * np.sign(np.sin(2 * np.pi * rng.uniform(6, 40) * t))), 35, 16_000
            )
        sound = saw(np.cumsum(hz / SR), hz / SR) if rng.random() < 0.5 else _tone(hz, 1 / np.arange(1, 7) ** 1.5)
        sound = sound + rng.uniform(0, 0.5) * swept(noise(rng, t.size), np.clip(hz, 80, 15_000), bands=4)
        force = np.exp(-rng.uniform(0.5, 4) * t / t[-1])
        place(out, edges(sound * force, 0.002, 0.02), start, rng.uniform(0.3, 1.0), rng.uniform(-0.8, 0.8))
    return out


def _risers(rng: Rng, tune: Tune, count: int) -> Array:
    """Risers and sirens, one after the other, some of them played backwards."""
    out = np.zeros((2, count), np.float32)
    at = 0.0
    while at * SR < count:
        length = rng.uniform(1.0, 7.0)
        sound = riser(rng, length) if rng.random() < 0.6 else siren(rng, length)
        place(out, sound[:, ::-1] if rng.random() < 0.4 else sound, round(at * SR), rng.uniform(0.4, 1.0))
        at += length * rng.uniform(0.7, 1.2) + rng.exponential(0.7)
    return out


SWEEPS = {
    "glides": _glides,
    "endless glissando": _endless,
    "theremin": _theremin,
    "birds": _birds,
    "zaps": _zaps,
    "risers and sirens": _risers,
}


def sweep(rng: Rng, tune: Tune, count: int, variety: str) -> Array:
    """One of `SWEEPS` [2, T]."""
    return SWEEPS[variety](rng, tune, count)
