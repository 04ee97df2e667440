"""Room, tape and dynamics: the colour that makes parts sound recorded."""

import numpy as np
import pyloudnorm
from scipy import ndimage, signal

from .dsp import SR, Array, Rng, db, filtered, levelled, noise, place, read_at, tilted


def room_response(rng: Rng, length: float, damping: float, predelay: float = 0.004) -> Array:
    """A stereo room [2, T]: a few early reflections, then noise that decays faster the higher it is.

    Args:
        length: seconds until the tail has fallen by 60 dB.
        damping: Hz above which the tail dies in about a third of the time.
    """
    count = round(length * SR)
    t = np.arange(count) / SR
    tail = noise(rng, 2, count)
    dark = filtered(tail, damping, order=1)
    tail = dark * np.exp(-6.9 * t / length) + (tail - dark) * np.exp(-20.0 * t / length) * 0.7
    tail *= 1.0 - np.exp(-t / 0.004)
    early = (rng.uniform(0.001, 0.035, 7) * SR).astype(int)
    tail[:, early[early < count]] += rng.uniform(-4, 4, (2, int((early < count).sum())))
    tail = np.pad(filtered(tail, 130.0, "highpass"), [(0, 0), (round(predelay * SR), 0)])
    return tail / np.sqrt(np.sum(tail**2, axis=1, keepdims=True))


def reverberate(x: Array, response: Array) -> Array:
    """`x` [T] or [2, T] through a stereo response, cut to the length of `x`: the wet sound alone, [2, T]."""
    x = np.broadcast_to(x, (2, x.shape[-1]))
    return signal.oaconvolve(x, response, axes=-1)[:, : x.shape[-1]].astype(np.float32)


def echo(x: Array, delay: float, feedback: float) -> Array:
    """Ping-pong echoes of `x` [2, T], `delay` seconds apart, each darker than the one before: the wet sound alone."""
    out = np.zeros_like(x)
    tap, shift = x, round(delay * SR)
    for repeat in range(1, 7):
        tap = filtered(tap[::-1], (350.0, 3800.0), "bandpass", order=1) if repeat <= 3 else tap[::-1]
        place(out, tap, shift * repeat, feedback**repeat)
    return out


def tape(x: Array, drive: float, top: float, bump: float = 1.0) -> Array:
    """Saturation with a slight asymmetry, a head bump (dB) at 80 Hz and a soft roll-off at `top` Hz."""
    out = np.tanh(x * np.float32(drive) + np.float32(0.06)) - np.float32(np.tanh(0.06))
    return tilted(filtered(out / np.float32(drive), top, order=1), "low", 80.0, bump)


def wow(x: Array, rng: Rng, depth: float = 0.0004) -> Array:
    """Speed that is never quite steady: `depth` seconds of slow wander and a hundredth of it as flutter; `x` [2, T]."""
    points = np.arange(0, x.shape[-1] + 256, 256)
    bend = np.zeros(points.size)
    for slow, fast, share in ((0.3, 0.9, 1.0), (1.1, 2.3, 0.4), (6.0, 11.0, 0.02)):
        turn = 2 * np.pi * rng.uniform(slow, fast) * points / SR
        bend += share * depth * SR * np.sin(turn + rng.uniform(0, 6.28))
    index = np.arange(x.shape[-1])
    return read_at(x, index + np.interp(index, points, bend))


def crushed(x: Array, bits: int, hold: int = 1) -> Array:
    """An early sampler: `bits` of resolution, every `hold`-th sample kept (it aliases a little)."""
    steps = np.float32(2 ** (bits - 1))
    return np.round(np.repeat(x[..., ::hold], hold, axis=-1)[..., : x.shape[-1]] * steps) / steps


def compressed(x: Array, threshold_db: float, ratio: float, attack: float = 0.006, release: float = 0.09) -> Array:
    """Gain control of `x` [2, T] from its level in blocks of 64 samples; times in seconds."""
    block = 64
    peak = np.abs(x).max(axis=0)
    peak = np.pad(peak, (0, -peak.size % block)).reshape(-1, block).max(axis=1)
    over = np.maximum(20 * np.log10(peak + 1e-6) - threshold_db, 0.0) * (1.0 - 1.0 / ratio)
    # What jumps up and falls by a factor a block is, in logarithms, a running maximum with a slope.
    slope = np.arange(over.size) * block / SR / release
    held = np.exp(np.maximum.accumulate(np.log(over + 1e-9) + slope) - slope)
    slow = np.exp(-block / SR / attack)
    gain = 10.0 ** (-signal.lfilter([1 - slow], [1, -slow], held) / 20.0)
    points = (np.arange(gain.size) + 0.5) * block
    return x * np.interp(np.arange(x.shape[-1]), points, gain).astype(np.float32)


def limited(x: Array, ceiling: float, lookahead: float = 0.0015) -> Array:
    """No sample of `x` [2, T] beyond `ceiling`: a gain that falls before each peak and rises slowly after it."""
    need = np.minimum(1.0, ceiling / np.maximum(np.abs(x).max(axis=0), 1e-9))
    if need.min() >= 1.0:
        return x

    def before_peaks(gain: Array, width: int) -> Array:
        return ndimage.uniform_filter1d(ndimage.minimum_filter1d(gain, width), width)

    slow = before_peaks(need[::8], 401)
    slow = np.interp(np.arange(need.size), np.arange(slow.size) * 8, slow)
    gain = np.minimum(before_peaks(need, 2 * round(lookahead * SR) + 1), 0.5 + 0.5 * slow).astype(np.float32)
    return np.clip(x * gain, -ceiling, ceiling)


def loudness(x: Array) -> float:
    """Integrated loudness in LUFS of `x` [2, T] (ITU-R BS.1770-4)."""
    return float(pyloudnorm.Meter(SR).integrated_loudness(x.T))


def bass_to_mono(x: Array, hz: float = 130.0) -> Array:
    """Take the difference of the channels of `x` [2, T] away below `hz`: records must be cut, clubs sum their subs."""
    middle, side = (x[0] + x[1]) * 0.5, (x[0] - x[1]) * 0.5
    side = filtered(side, hz, "highpass")
    return np.stack([middle + side, middle - side])


def mastered(x: Array, target_lufs: float, drive: float, ceiling_db: float = -1.0) -> Array:
    """The last stage: rumble out, bass to the middle, glue, tape, and the loudness wanted under a ceiling (dBFS)."""
    x = levelled(bass_to_mono(filtered(x, 26.0, "highpass")), -15.0)
    x = compressed(x, -12.0, 2.0, attack=0.012, release=0.15)
    x = tape(x, drive, 17_000.0, bump=0.0)
    gain = target_lufs - loudness(x)
    # The limiter takes a little loudness away; one correction brings it back to within a few tenths.
    gain += target_lufs - loudness(limited(x * np.float32(db(gain)), db(ceiling_db)))
    return limited(x * np.float32(db(gain)), db(ceiling_db))
