"""Arrays, random numbers and filters: what every other room stands on."""

import zlib
from typing import Literal

import numpy as np
from scipy import signal

SR = 44_100
Array = np.ndarray


def rng_of(*words: int | str) -> np.random.Generator:
    """A generator of its own for every purpose, so that one part of a track never shifts the dice of another."""
    entropy = [word if isinstance(word, int) else zlib.crc32(word.encode()) for word in words]
    return np.random.default_rng(np.random.SeedSequence(entropy))


def db(level: float) -> float:
    """Amplitude ratio of `level` decibels."""
    return float(10.0 ** (level / 20.0))


def midi_hz(note: float) -> float:
    """Frequency in Hz of a MIDI note number (69 = A4 = 440 Hz)."""
    return float(440.0 * 2.0 ** ((note - 69.0) / 12.0))


def seconds(length: float) -> Array:
    """Times [T] in seconds of `length` seconds of samples."""
    return np.arange(max(1, round(length * SR))) / SR


def noise(rng: np.random.Generator, *shape: int) -> Array:
    """White noise, unit variance, float32."""
    return rng.standard_normal(shape, dtype=np.float32)


def filtered(x: Array, cutoff: float | tuple[float, float], kind: str = "lowpass", order: int = 2) -> Array:
    """Butterworth filter along the last axis; `cutoff` in Hz is kept inside what the rate can express."""
    limits = np.clip(np.asarray(cutoff, dtype=float), 8.0, 0.47 * SR)
    sos = signal.butter(order, limits, kind, fs=SR, output="sos")
    return signal.sosfilt(sos, x, axis=-1).astype(np.float32)


def tilted(x: Array, kind: Literal["peak", "low", "high"], hz: float, gain_db: float, q: float = 0.7) -> Array:
    """One band of an equaliser: a peak or a shelf (R. Bristow-Johnson, Audio EQ Cookbook)."""
    a = 10.0 ** (gain_db / 40.0)
    w = 2.0 * np.pi * min(hz, 0.45 * SR) / SR
    cos, alpha = np.cos(w), np.sin(w) / (2.0 * q)
    if kind == "peak":
        b = [1 + alpha * a, -2 * cos, 1 - alpha * a]
        d = [1 + alpha / a, -2 * cos, 1 - alpha / a]
    else:
        sign = 1.0 if kind == "low" else -1.0
        root = 2.0 * np.sqrt(a) * alpha
        b = [
            a * ((a + 1) - sign * (a - 1) * cos + root),
            sign * 2 * a * ((a - 1) - sign * (a + 1) * cos),
            a * ((a + 1) - sign * (a - 1) * cos - root),
        ]
        d = [
            (a + 1) + sign * (a - 1) * cos + root,
            -sign * 2 * ((a - 1) + sign * (a + 1) * cos),
            (a + 1) + sign * (a - 1) * cos - root,
        ]
    sos = np.array([[*b, *d]]) / d[0]
    return signal.sosfilt(sos, x, axis=-1).astype(np.float32)


def swept(x: Array, cutoff: Array, kind: str = "lowpass", bands: int = 6) -> Array:
    """A filter whose cutoff moves: `cutoff` in Hz, one value per sample of `x` [..., T].

    Filters at fixed, geometrically spaced cutoffs run side by side and are cross-faded; cheaper than a filter in a
    Python loop, and neighbours are close enough in phase not to comb.
    """
    low, high = float(cutoff.min()), float(cutoff.max())
    if high / low < 1.05:
        return filtered(x, low, kind)
    position = (np.log(cutoff / low) * ((bands - 1) / np.log(high / low))).astype(np.float32)
    out = np.zeros_like(x, dtype=np.float32)
    for band, hz in enumerate(np.geomspace(low, high, bands)):
        weight = np.clip(1.0 - np.abs(position - band), 0.0, 1.0)
        out += filtered(x, float(hz), kind) * weight
    return out


def varispeed(x: Array, rate: float) -> Array:
    """Play `x` [..., T] `rate` times as fast (higher and shorter), by cubic interpolation."""
    if abs(rate - 1.0) < 1e-6:
        return x
    count = max(4, int((x.shape[-1] - 1) / rate))
    return read_at(x, np.arange(count) * rate)


def read_at(x: Array, position: Array) -> Array:
    """Values of `x` [..., T] at fractional `position` [N] in samples (Catmull-Rom cubic, edges held)."""
    last = x.shape[-1] - 1
    whole = np.clip(np.floor(position), 0, last).astype(np.int32)
    f = np.clip(position - whole, 0.0, 1.0).astype(np.float32)
    half = np.float32(0.5) * f
    rows = x.reshape(-1, x.shape[-1])
    out = np.empty((rows.shape[0], whole.size), np.float32)
    for row, result in zip(rows, out):
        held = np.concatenate([row[:1], row, row[-1:], row[-1:]]).astype(np.float32, copy=False)
        a, b, c, d = (held[shift:].take(whole) for shift in range(4))
        result[:] = b + half * (c - a + f * (2 * a - 5 * b + 4 * c - d + f * (3 * (b - c) + d - a)))
    return out.reshape(*x.shape[:-1], whole.size)


def wander(rng: np.random.Generator, count: int, rate: float) -> Array:
    """A smooth random curve [T] of `count` samples within about -1..1 that turns up to `rate` times a second."""
    knots = rng.uniform(-1.0, 1.0, int(count / SR * rate) + 4)
    position = 1.0 + np.arange(0, count + 64, 64) / SR * rate
    curve = read_at(knots, position)
    return np.interp(np.arange(count), np.arange(0, count + 64, 64), curve).astype(np.float32)


def edges(x: Array, fade_in: float = 0.001, fade_out: float = 0.003) -> Array:
    """A copy of `x` [..., T] with short ramps (seconds) at both ends, so that a cut does not click."""
    out = x.astype(np.float32, copy=True)
    length = out.shape[-1]
    rise, fall = min(length // 2, round(fade_in * SR)), min(length // 2, round(fade_out * SR))
    if rise:
        out[..., :rise] *= np.linspace(0.0, 1.0, rise, dtype=np.float32)
    if fall:
        out[..., length - fall :] *= np.linspace(1.0, 0.0, fall, dtype=np.float32)
    return out


def pan_gains(pan: float) -> Array:
    """Left and right gains [2, 1] of a pan position in -1..1 (equal power, 1 in the middle)."""
    angle = (np.clip(pan, -1.0, 1.0) + 1.0) * np.pi / 4.0
    return np.array([[np.cos(angle)], [np.sin(angle)]], dtype=np.float32) * np.float32(np.sqrt(2.0))


def place(track: Array, sound: Array, at: int, gain: float = 1.0, pan: float = 0.0) -> None:
    """Add `sound` ([T] or [2, T]) to `track` [2, T] from sample `at` on; what sticks out at either end is dropped."""
    start, stop = max(at, 0), min(at + sound.shape[-1], track.shape[-1])
    if stop <= start:
        return
    part = sound[..., start - at : stop - at]
    track[:, start:stop] += part * np.float32(gain) if pan == 0.0 else part * (pan_gains(pan) * np.float32(gain))


def saw(phase: Array, step: Array | float) -> Array:
    """Band-limited saw in -1..1 from a running `phase` in cycles and its increment per sample (polyBLEP)."""
    t = phase - np.floor(phase)
    out = 2.0 * t - 1.0
    head = t < step
    u = np.where(head, t / step, 0.0)
    out -= np.where(head, u + u - u * u - 1.0, 0.0)
    tail = t > 1.0 - step
    u = np.where(tail, (t - 1.0) / step, 0.0)
    out -= np.where(tail, u * u + u + u + 1.0, 0.0)
    return out


def active_rms(x: Array, floor_db: float = -30.0) -> float:
    """RMS over the 0.4 s blocks that are not much quieter than the loudest one: how loud a part is while it plays."""
    block = round(0.4 * SR)
    power = np.mean(np.square(x, dtype=np.float32), axis=0) if x.ndim == 2 else np.square(x)
    count = max(1, power.size // block)
    means = power[: count * block].reshape(count, -1).mean(axis=1)
    if means.max() <= 0.0:
        return 0.0
    return float(np.sqrt(means[means > means.max() * db(floor_db) ** 2].mean()))
