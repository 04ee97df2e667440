"""Arrays, random numbers and filters: what every other room stands on."""

import zlib

import numpy as np
from pyloudnorm.iirfilter import IIRfilter
from scipy import signal

SR = 44_100
Array = np.ndarray
Rng = np.random.Generator
BANDS = {"peak": "peaking", "low": "low_shelf", "high": "high_shelf"}


def rng_of(*words: int | str) -> Rng:
    """A generator of its own for every purpose, so that one part of a track never shifts the dice of another."""
    entropy = [word if isinstance(word, int) else zlib.crc32(word.encode()) for word in words]
    return np.random.default_rng(np.random.SeedSequence(entropy))


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """A number between two others, every octave as likely as the next."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def db(level: float) -> float:
    """Amplitude ratio of `level` decibels."""
    return float(10.0 ** (level / 20.0))


def midi_hz(note: float) -> float:
    """Frequency in Hz of a MIDI note number (69 = A4 = 440 Hz)."""
    return float(440.0 * 2.0 ** ((note - 69.0) / 12.0))


def seconds(length: float) -> Array:
    """Times [T] in seconds of `length` seconds of samples."""
    return np.arange(max(1, round(length * SR))) / SR


def noise(rng: Rng, *shape: int) -> Array:
    """White noise, unit variance, float32."""
    return rng.standard_normal(shape, dtype=np.float32)


def burst(rng: Rng, t: Array, band: float | tuple[float, float], fall: float, order: int = 2) -> Array:
    """Noise [T] that dies away, 1/e in `fall` seconds: below a frequency, or in a band of two."""
    kind = "bandpass" if isinstance(band, tuple) else "lowpass"
    return filtered(noise(rng, t.size), band, kind, order) * np.exp(-t / fall)


def filtered(x: Array, cutoff: float | tuple[float, float], kind: str = "lowpass", order: int = 2) -> Array:
    """Butterworth filter along the last axis; `cutoff` in Hz is kept inside what the rate can express."""
    limits = np.clip(np.asarray(cutoff, dtype=float), 8.0, 0.47 * SR)
    sos = signal.butter(order, limits, kind, fs=SR, output="sos")
    return signal.sosfilt(sos, x, axis=-1).astype(np.float32)


def tilted(x: Array, kind: str, hz: float, gain_db: float, q: float = 0.7) -> Array:
    """One band of an equaliser: a 'peak', or a shelf that is 'low' or 'high'."""
    band = IIRfilter(gain_db, q, min(hz, 0.45 * SR), SR, BANDS[kind])
    return signal.lfilter(band.b, band.a, x, axis=-1).astype(np.float32)


def swept(x: Array, cutoff: Array, kind: str = "lowpass", bands: int = 6, width: float = 1.6) -> Array:
    """A filter whose cutoff moves: `cutoff` in Hz, one value per sample of `x` [..., T].

    Filters at fixed, geometrically spaced cutoffs run side by side and are cross-faded; cheaper than a filter in a
    Python loop, and neighbours are close enough in phase not to comb. A band-pass lets through from the cutoff divided
    by `width` to the cutoff times `width`.
    """
    low, high = float(cutoff.min()), float(cutoff.max())
    spots = np.geomspace(low, high, bands) if high / low > 1.05 else np.array([low])
    position = (np.log(cutoff / low) * ((spots.size - 1) / max(1e-9, np.log(high / low)))).astype(np.float32)
    out = np.zeros_like(x, dtype=np.float32)
    for band, hz in enumerate(spots):
        limits = (hz / width, hz * width) if kind == "bandpass" else hz
        order = 1 if kind == "bandpass" else 2
        out += filtered(x, limits, kind, order) * np.clip(1.0 - np.abs(position - band), 0.0, 1.0)
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


def wander(rng: Rng, count: int, rate: float, low: float = -1.0, high: float = 1.0) -> Array:
    """A smooth random curve [T] of `count` samples within about `low` to `high` that turns `rate` times a second."""
    knots = rng.uniform(low, high, int(count / SR * rate) + 4)
    points = np.arange(0, count + 64, 64)
    return np.interp(np.arange(count), points, read_at(knots, 1.0 + points / SR * rate)).astype(np.float32)


def smoothed(values: Array, width: int) -> Array:
    """`values` [..., N] without corners: a mean over `width` (odd) of them, those in the middle counting most."""
    window = np.hanning(width + 2)[1:-1]
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(width // 2, width // 2)], "edge")
    return signal.convolve(padded, (window / window.sum()).reshape(*[1] * (values.ndim - 1), -1), "valid")


def edges(x: Array, fade_in: float = 0.001, fade_out: float = 0.003) -> Array:
    """A copy of `x` [..., T] with short ramps (seconds) at both ends, so that a cut does not click."""
    out = x.astype(np.float32, copy=True)
    length = out.shape[-1]
    rise, fall = min(length // 2, round(fade_in * SR)), min(length // 2, round(fade_out * SR))
    out[..., :rise] *= np.linspace(0.0, 1.0, rise, dtype=np.float32)
    out[..., length - fall :] *= np.linspace(1.0, 0.0, fall, dtype=np.float32)
    return out


def peaked(x: Array, peak: float = 1.0) -> Array:
    """`x` with its highest sample at `peak`."""
    return np.asarray(x * (peak / max(1e-6, float(np.abs(x).max()))), np.float32)


def spread(x: Array, pan: float | Array) -> Array:
    """`x` [T] on two channels [2, T], moved to a side by `pan` in -1..1 (linear), which may be a curve [T]."""
    return np.stack([x * (1 - pan), x * (1 + pan)]).astype(np.float32)


def place(track: Array, sound: Array, at: int, gain: float = 1.0, pan: float = 0.0) -> None:
    """Add `sound` ([T] or [2, T]) to `track` [2, T] from sample `at` on; what sticks out at either end is dropped.

    `pan` in -1..1 has equal power, and gains of 1 in the middle.
    """
    start, stop = max(at, 0), min(at + sound.shape[-1], track.shape[-1])
    if stop > start:
        angle = (np.clip(pan, -1.0, 1.0) + 1.0) * np.pi / 4.0
        gains = np.sqrt(2.0) * gain * np.array([[np.cos(angle)], [np.sin(angle)]])
        track[:, start:stop] += sound[..., start - at : stop - at] * gains.astype(np.float32)


def saw(phase: Array, step: Array | float) -> Array:
    """Band-limited saw in -1..1 from a running `phase` in cycles and its increment per sample (polyBLEP)."""
    t = phase - np.floor(phase)
    head = np.clip(1.0 - t / step, 0.0, None)
    tail = np.clip(1.0 + (t - 1.0) / step, 0.0, None)
    return 2.0 * t - 1.0 + head**2 - tail**2


def active_rms(x: Array, floor_db: float = -30.0) -> float:
    """RMS over the 0.4 s blocks that are not much quieter than the loudest one: how loud a part is while it plays."""
    block = round(0.4 * SR)
    power = np.mean(np.square(x, dtype=np.float32), axis=0) if x.ndim == 2 else np.square(x)
    count = max(1, power.size // block)
    means = power[: count * block].reshape(count, -1).mean(axis=1)
    if means.max() <= 0.0:
        return 0.0
    return float(np.sqrt(means[means > means.max() * db(floor_db) ** 2].mean()))


def levelled(x: Array, level_db: float) -> Array:
    """`x` at an RMS of `level_db` dBFS while it plays."""
    return x * np.float32(db(level_db) / max(1e-9, active_rms(x)))
