"""Room, tape and dynamics: the colour that makes parts sound recorded."""

import numpy as np
from scipy import ndimage, signal

from .dsp import SR, Array, active_rms, db, filtered, noise, place, read_at, tilted


def room_response(rng: np.random.Generator, length: float, damping: float, predelay: float = 0.004) -> Array:
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
    for _ in range(7):
        at = int(rng.uniform(0.001, 0.035) * SR)
        if at < count:
            tail[:, at] += rng.uniform(-1, 1, 2) * 4.0
    tail = filtered(tail, 130.0, "highpass")
    tail = np.concatenate([np.zeros((2, round(predelay * SR)), np.float32), tail.astype(np.float32)], axis=1)
    return (tail / np.sqrt(np.sum(tail**2, axis=1, keepdims=True))).astype(np.float32)


def reverberate(x: Array, response: Array) -> Array:
    """`x` [T] or [2, T] through a stereo response, cut to the length of `x`: the wet sound alone, [2, T]."""
    x = np.broadcast_to(x, (2, x.shape[-1]))
    wet = signal.oaconvolve(x, response, axes=-1)[:, : x.shape[-1]]
    return wet.astype(np.float32)


def echo(x: Array, delay: float, feedback: float, tone: tuple[float, float] = (350.0, 3800.0)) -> Array:
    """Ping-pong echoes of `x` [2, T], `delay` seconds apart, each darker than the one before: the wet sound alone."""
    out = np.zeros_like(x)
    tap, gain = x, 1.0
    shift = round(delay * SR)
    for repeat in range(1, 7):
        gain *= feedback
        if gain < 0.04 or shift * repeat >= x.shape[-1]:
            break
        if repeat <= 3:
            tap = filtered(tap[::-1], tone, "bandpass", order=1)
        else:
            tap = tap[::-1]
        place(out, tap, shift * repeat, gain)
    return out


def tape(x: Array, drive: float, top: float, bump: float = 1.0) -> Array:
    """Saturation with a slight asymmetry, a head bump (dB) at 80 Hz and a soft roll-off at `top` Hz."""
    driven = x * np.float32(drive)
    out = np.tanh(driven + np.float32(0.06)) - np.float32(np.tanh(0.06))
    out = filtered(out / np.float32(drive), top, order=1)
    return tilted(out, "low", 80.0, bump) if bump else out


def wow(x: Array, rng: np.random.Generator, depth: float = 0.0004) -> Array:
    """Speed that is never quite steady: `depth` seconds of slow wander and a hundredth of it as flutter; `x` [2, T]."""
    count = x.shape[-1]
    t = np.arange(0, count, 256) / SR
    bend = depth * np.sin(2 * np.pi * rng.uniform(0.3, 0.9) * t + rng.uniform(0, 6.28))
    bend += 0.4 * depth * np.sin(2 * np.pi * rng.uniform(1.1, 2.3) * t + rng.uniform(0, 6.28))
    bend += 0.02 * depth * np.sin(2 * np.pi * rng.uniform(6, 11) * t)
    smooth = np.interp(np.arange(count), np.arange(0, count, 256), bend * SR)
    return read_at(x, np.arange(count) + smooth)


def crushed(x: Array, bits: int, hold: int = 1) -> Array:
    """An early sampler: `bits` of resolution, every `hold`-th sample kept (it aliases a little)."""
    steps = np.float32(2 ** (bits - 1))
    if hold > 1:
        x = np.repeat(x[..., ::hold], hold, axis=-1)[..., : x.shape[-1]]
    return np.round(x * steps) / steps


def compressed(x: Array, threshold_db: float, ratio: float, attack: float = 0.006, release: float = 0.09) -> Array:
    """Gain control of `x` [2, T] from its level in blocks of 64 samples; times in seconds."""
    block = 64
    count = x.shape[-1]
    blocks = -(-count // block)
    padded = np.zeros((2, blocks * block), np.float32)
    padded[:, :count] = x
    peak = np.abs(padded).max(axis=0).reshape(blocks, block).max(axis=1)
    over = np.maximum(20 * np.log10(peak + 1e-6) - threshold_db, 0.0) * (1.0 - 1.0 / ratio)
    fast = np.exp(-block / SR / release)
    held = _released(over, fast)
    slow = np.exp(-block / SR / attack)
    reduction = signal.lfilter([1 - slow], [1, -slow], held)
    gain = 10.0 ** (-reduction / 20.0)
    curve = np.interp(np.arange(count), np.arange(blocks) * block + block / 2, gain).astype(np.float32)
    return x * curve


def _released(level: Array, keep: float) -> Array:
    """Level that jumps up and falls by the factor `keep` a block: max over j <= i of level[j] * keep ** (i - j).

    In logarithms this is a running maximum with a slope, which numpy does without a loop.
    """
    slope = -np.log(keep)
    index = np.arange(level.size) * slope
    return np.exp(np.maximum.accumulate(np.log(level + 1e-9) + index) - index)


def limited(x: Array, ceiling: float, lookahead: float = 0.0015) -> Array:
    """No sample of `x` [2, T] beyond `ceiling`: a gain that falls before each peak and rises slowly after it."""
    width = round(lookahead * SR)
    need = np.minimum(1.0, ceiling / np.maximum(np.abs(x).max(axis=0), 1e-9))
    if need.min() >= 1.0:
        return x
    held = ndimage.minimum_filter1d(need, 2 * width + 1)
    smooth = ndimage.uniform_filter1d(held, 2 * width + 1)
    slow = ndimage.uniform_filter1d(ndimage.minimum_filter1d(need[::8], 401), 401)
    slow = np.interp(np.arange(need.size), np.arange(slow.size) * 8, slow)
    gain = np.minimum(smooth, 0.5 + 0.5 * slow).astype(np.float32)
    return np.clip(x * gain, -ceiling, ceiling)


def loudness(x: Array) -> float:
    """Integrated loudness in LUFS of `x` [2, T] (ITU-R BS.1770-4: K-weighting, 400 ms blocks, both gates)."""
    weighted = tilted(x, "high", 1500.0, 4.0, q=0.7071)
    weighted = filtered(weighted, 38.0, "highpass")
    hop = round(0.1 * SR)
    count = weighted.shape[-1] // hop
    if count < 4:
        return -70.0
    parts = np.square(weighted[:, : count * hop]).reshape(2, count, hop).mean(axis=2).sum(axis=0)
    blocks = np.convolve(parts, np.ones(4) / 4, "valid")
    levels = -0.691 + 10 * np.log10(blocks + 1e-12)
    kept = blocks[levels > -70.0]
    if not kept.size:
        return -70.0
    gate = -0.691 + 10 * np.log10(kept.mean()) - 10.0
    kept = blocks[(levels > gate) & (levels > -70.0)]
    return float(-0.691 + 10 * np.log10(kept.mean()))


def bass_to_mono(x: Array, hz: float = 130.0) -> Array:
    """Take the difference of the channels of `x` [2, T] away below `hz`: records must be cut, clubs sum their subs."""
    middle, side = (x[0] + x[1]) * 0.5, (x[0] - x[1]) * 0.5
    side = filtered(side, hz, "highpass")
    return np.stack([middle + side, middle - side])


def mastered(x: Array, target_lufs: float, drive: float, ceiling_db: float = -1.0) -> Array:
    """The last stage: rumble out, bass to the middle, glue, tape, and the loudness wanted under a ceiling (dBFS)."""
    x = bass_to_mono(filtered(x, 26.0, "highpass"))
    x *= np.float32(db(-15.0) / max(1e-9, active_rms(x)))
    x = compressed(x, -12.0, 2.0, attack=0.012, release=0.15)
    x = tape(x, drive, 17_000.0, bump=0.0)
    gain = target_lufs - loudness(x)
    # The limiter takes a little loudness away; one correction brings it back to within a few tenths.
    gain += target_lufs - loudness(limited(x * np.float32(db(gain)), db(ceiling_db)))
    return limited(x * np.float32(db(gain)), db(ceiling_db))
