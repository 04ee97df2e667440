"""Pitches that move: glides over the whole range, endless ones, birds, theremins, sirens and zaps."""

import numpy as np

from .dsp import (
    SR,
    Array,
    Rng,
    edges,
    filtered,
    log_uniform,
    noise,
    place,
    saw,
    seconds,
    smoothed,
    spread,
    swept,
    wander,
)
from .noises import riser, siren
from .synthesis import harmonics
from .tune import Tune

LOWEST, HIGHEST = 30.0, 16_000.0  # Hz


def _times(rng: Rng, count: int, shortest: float, longest: float, pause: float) -> list[tuple[int, Array]]:
    """Starts (samples) and times [T] (seconds) of sounds that follow one another, `pause` seconds apart on average."""
    out, at = [], rng.uniform(0, 0.5 * pause + 0.05)
    while at * SR < count:
        length = log_uniform(rng, shortest, longest)
        out.append((round(at * SR), seconds(length)))
        at += length * rng.uniform(0.5, 1.0) + rng.exponential(pause)
    return out


def _voiced(rng: Rng, hz: Array, saws: float, steepness: tuple[float, float]) -> Array:
    """A tone along `hz` [T] and the air that goes with it: a saw `saws` of the time, else harmonics that fall."""
    if rng.random() < saws:
        tone = filtered(saw(np.cumsum(hz / SR), hz / SR), rng.uniform(2500, 12_000), order=1)
    else:
        n = np.arange(1, 9)
        tone = harmonics(hz, rng.uniform(0.3, 1, 8) / n ** rng.uniform(*steepness))
    air = swept(noise(rng, hz.size), np.clip(2.0 * hz, 60, 15_000), bands=4)
    return tone + np.float32(rng.uniform(0.02, 0.35)) * air


def _glides(rng: Rng, tune: Tune, count: int) -> Array:
    """Long glides up or down, each with a tone, a swell and a place of its own."""
    out = np.zeros((2, count), np.float32)
    for start, t in _times(rng, count, 1.2, 9.0, rng.uniform(0.05, 0.8)):
        first, last = (log_uniform(rng, LOWEST, HIGHEST) for _ in range(2))
        if abs(np.log2(last / first)) < 1.5:  # hardly a glide: on to the far end of the range
            last = LOWEST if first > 700 else HIGHEST
        way = t / t[-1]
        shaken = 1 + rng.uniform(0, 0.03) * wander(rng, t.size, rng.uniform(2, 9))
        hz = np.clip(first * (last / first) ** way ** rng.uniform(0.6, 1.7) * shaken, 25, 17_500)
        swell = np.sin(np.pi * way) ** rng.uniform(0.3, 1.2)
        swell *= 1 + rng.uniform(0, 0.6) * np.sin(2 * np.pi * rng.uniform(2, 14) * t)
        sound = edges(_voiced(rng, hz, 0.35, (0.9, 3.0)) * swell, 0.01, 0.05)
        place(out, sound, start, rng.uniform(0.3, 1.0), rng.uniform(-0.7, 0.7))
    return out


def _endless(rng: Rng, tune: Tune, count: int) -> Array:
    """Octaves that climb or fall for ever, loud in the middle of the range alone (R. Shepard, 1964)."""
    speed = rng.choice([-1, 1]) * rng.uniform(0.03, 0.25)
    way = speed * np.arange(count) / SR + 0.02 * wander(rng, count, 0.5)
    out = np.float32(0.01) * filtered(noise(rng, 2, count), (300, 5000), "bandpass", 1)
    for voice in range(9):
        octave = (voice + way + rng.uniform(0, 0.03)) % 9.0
        level = np.exp(-(((octave - 4.2) / 1.5) ** 2)) * np.clip(np.minimum(octave, 9 - octave) / 0.3, 0, 1) ** 2
        out += spread(harmonics(32.0 * 2.0**octave, (1.0, 0.2)) * level, rng.uniform(-0.6, 0.6))
    return out


def _theremin(rng: Rng, tune: Tune, count: int) -> Array:
    """A single voice that slides from note to note and trembles."""
    octave = int(rng.integers(3, 6))
    points = np.arange(0, count + 256, 256)
    pitch, force, at = np.zeros(points.size), np.zeros(points.size), 0.0
    while at * SR < count:
        inside = points >= at * SR
        pitch[inside] = tune.pitch(int(rng.integers(-3, 11)), octave)
        force[inside] = 0.0 if rng.random() < 0.15 else rng.uniform(0.4, 1.0)
        at += rng.uniform(0.35, 2.5)
    curve, level = smoothed(np.stack([pitch, force]), 2 * int(rng.integers(6, 30)) + 1)
    index = np.arange(count)
    depth = rng.uniform(0.1, 0.6) * wander(rng, count, 0.7, 0.2)
    trembling = np.interp(index, points, curve) + depth * np.sin(2 * np.pi * rng.uniform(4.5, 6.8) * index / SR)
    hz = np.clip(440.0 * 2.0 ** ((trembling - 69) / 12), 40, 9000)
    sound = harmonics(hz, np.array([1.0, 0.45, 0.22, 0.1, 0.06, 0.03]) * rng.uniform(0.3, 1.2, 6))
    sound = np.tanh(1.4 * sound) + 0.03 * filtered(noise(rng, count), 5000)
    return np.stack([sound, sound]) * np.interp(index, points, level)


def _birds(rng: Rng, tune: Tune, count: int) -> Array:
    """A few birds, each with a call of its own that it repeats and varies, near or far, over leaves."""
    leaves = filtered(noise(rng, 2, count), (400, 7000), "bandpass", 1) * wander(rng, count, 0.4, 0.2)
    out = np.float32(rng.uniform(0.004, 0.03)) * leaves
    for _ in range(int(rng.integers(2, 5))):
        middle, pan, far = rng.uniform(1800, 6500), rng.uniform(-0.9, 0.9), rng.uniform(0.1, 1.0)
        call = rng.uniform((0.03, -0.5, -0.8, 0.02), (0.22, 0.5, 0.8, 0.12), (int(rng.integers(1, 7)), 4))
        trill, shake = rng.uniform(0, 0.12), rng.uniform(18, 60)
        at = rng.uniform(0, 2)
        while at * SR < count:
            for length, start, move, pause in call:
                t = seconds(length)
                bend = start + move * t / length + trill * np.sin(2 * np.pi * shake * t) + rng.normal(0, 0.02)
                sound = harmonics(middle * 2.0**bend, (1.0, 0.12, 0.04)) * np.sin(np.pi * t / length) ** 0.7
                place(out, edges(sound, 0.004, 0.006), round(at * SR), far * rng.uniform(0.6, 1.0), pan)
                at += length + pause
            at += rng.exponential(1.6) + 0.25
    return out


def _zaps(rng: Rng, tune: Tune, count: int) -> Array:
    """Short dives and rises: lasers, coins, doors and blasters of an arcade."""
    out = np.zeros((2, count), np.float32)
    for start, t in _times(rng, count, 0.06, 1.1, rng.uniform(0.15, 1.2)):
        bend = rng.uniform(-5, 3) * (1 - np.exp(-4 * t / t[-1]))
        if rng.random() < 0.4:
            bend += rng.uniform(0.1, 1.0) * np.sign(np.sin(2 * np.pi * rng.uniform(6, 40) * t))
        sound = _voiced(rng, np.clip(rng.uniform(300, 9000) * 2.0**bend, 35, 16_000), 0.5, (1.5, 1.5))
        sound = edges(sound * np.exp(-rng.uniform(0.5, 4) * t / t[-1]), 0.002, 0.02)
        place(out, sound, start, rng.uniform(0.3, 1.0), rng.uniform(-0.8, 0.8))
    return out


def _risers(rng: Rng, tune: Tune, count: int) -> Array:
    """Risers and sirens, one after the other, some of them played backwards."""
    out = np.zeros((2, count), np.float32)
    for start, t in _times(rng, count, 1.0, 7.0, 0.7):
        sound = riser(rng, t.size / SR) if rng.random() < 0.6 else siren(rng, t.size / SR)
        place(out, sound[:, ::-1] if rng.random() < 0.4 else sound, start, rng.uniform(0.4, 1.0))
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
