"""A broad plan turned into sound: layers played, coloured, put into a space, levelled, mixed and finished."""

import numpy as np

from .broad import KINDS, Layer, Plan
from .dsp import SR, Array, Rng, active_rms, db, edges, filtered, levelled, log_uniform, noise, place, tilted, wander
from .effects import bass_to_mono, compressed, crushed, echo, limited, reverberate, room_response, tape, wow


def render(plan: Plan) -> Array:
    """The whole track [2, T], float32, below 1; the same plan gives the same samples."""
    out = np.zeros((2, plan.count), np.float32)
    for number, layer in enumerate(plan.layers):
        start, stop = round(layer.start * plan.count), round(layer.stop * plan.count)
        sound = _played(plan, plan.rng("layer", number), layer, stop - start)
        place(out, sound, start)
    return _finished(plan, out)


def _played(plan: Plan, rng: Rng, layer: Layer, count: int) -> Array:
    """A layer of `count` samples [2, T] at its level under 0 dBFS RMS while it plays."""
    player, _ = KINDS[layer.kind]
    sound = levelled(np.asarray(player(rng, plan.tune, count, layer.variety), np.float32), -20.0)
    sound = coloured(rng, sound, layer.colour)
    sound = filtered(_in_space(rng, sound, layer.space, plan.tune.beat / SR), 24.0, "highpass")
    if layer.stop < 1.0 or layer.start > 0.0:
        sound = edges(sound, rng.uniform(0.02, 3.0), rng.uniform(0.1, 3.0))
    return levelled(sound, layer.level)


def coloured(rng: Rng, x: Array, colour: str) -> Array:
    """`x` [2, T], at an RMS of -20 dBFS, through one of `broad.COLOURS`."""
    if colour == "bright":
        return tilted(x, "high", rng.uniform(1800, 5000), rng.uniform(5, 14))
    if colour == "low-passed":
        return filtered(x, log_uniform(rng, 600, 7000), order=int(rng.integers(1, 5)))
    if colour == "high-passed":
        return filtered(x, log_uniform(rng, 200, 2500), "highpass", int(rng.integers(1, 4)))
    if colour == "telephone":
        band = filtered(x.mean(axis=0), (rng.uniform(250, 500), rng.uniform(2500, 4000)), "bandpass", 3)
        return np.stack([np.tanh(2.5 * band)] * 2)
    if colour == "lo-fi":
        coarse = crushed(np.clip(x * 2.0, -1, 1), int(rng.integers(6, 11)), int(rng.integers(1, 5)))
        return filtered(coarse, 9000, order=1)
    if colour == "tape":
        worn = wow(tape(x, rng.uniform(1.0, 4.0), rng.uniform(5000, 13_000)), rng, rng.uniform(0.0004, 0.003))
        return worn + np.float32(db(rng.uniform(-62, -42))) * noise(rng, *x.shape)
    if colour == "tremolo":
        rate, depth = rng.uniform(1.5, 9.0), rng.uniform(0.2, 0.95)
        turn = 2 * np.pi * rate * np.arange(x.shape[1]) / SR
        apart = float(rng.choice([0.0, np.pi / 2, np.pi]))
        return (x * (1 - depth * (0.5 + 0.5 * np.sin(np.stack([turn, turn + apart]))))).astype(np.float32)
    if colour == "driven":
        return filtered(np.tanh(rng.uniform(3, 15) * x), rng.uniform(4000, 12_000), order=1)
    if colour == "mono":
        return np.stack([x.mean(axis=0)] * 2)
    if colour == "wide":
        return _widened(rng, x)
    return x


def _widened(rng: Rng, x: Array) -> Array:
    """More side than before: what differs is raised, and where nothing differs one channel comes a little later."""
    middle, side = (x[0] + x[1]) * 0.5, (x[0] - x[1]) * np.float32(rng.uniform(0.7, 1.1))
    delayed = np.pad(middle, (round(rng.uniform(0.004, 0.018) * SR), 0))[: middle.size]
    side = side + np.float32(0.45) * filtered(delayed, 250, "highpass")
    return bass_to_mono(np.stack([middle + side, middle - side]), 120.0)


def _in_space(rng: Rng, x: Array, space: str, beat: float) -> Array:
    """`x` [2, T] in one of `broad.SPACES`; `beat` in seconds times the echoes."""
    if space == "dry":
        return x
    if space == "echo":
        delay = float(rng.choice([0.5, 0.75, 1.0])) * beat
        wet = echo(x, delay if 0.12 < delay < 1.2 else rng.uniform(0.15, 0.6), rng.uniform(0.35, 0.7))
        return x + np.float32(rng.uniform(0.4, 0.9)) * wet
    length = rng.uniform(0.25, 0.8) if space == "room" else rng.uniform(1.4, 4.5)
    hall = room_response(rng, length, rng.uniform(1800, 8000), rng.uniform(0.001, 0.03))
    wet = reverberate(x, hall)
    wet *= np.float32(active_rms(x) / max(1e-9, active_rms(wet)))
    share = rng.uniform(0.15, 0.6) if space == "room" else rng.uniform(0.2, 0.95)
    return np.float32(1 - 0.7 * share) * x + np.float32(share) * wet


def _finished(plan: Plan, x: Array) -> Array:
    """`x` at the plan's level, cut at its top, with its hiss, under a ceiling, without offset, faded out."""
    rng = plan.rng("finish")
    x = x * (1.0 + np.float32(rng.uniform(0.0, 0.35)) * wander(rng, plan.count, 0.12))
    if plan.slope:
        x = x * 10.0 ** (np.linspace(0.0, plan.slope / 20.0, plan.count, dtype=np.float32))
    if plan.top:
        x = filtered(x, plan.top, order=int(rng.integers(2, 9)))
    x = levelled(x, plan.level)
    if plan.finish == "limited hard":
        x = levelled(compressed(x, plan.level - 2.0, 3.0), plan.level)
        ceiling = db(rng.uniform(-1.0, -0.1))
        x = np.tanh(x) if rng.random() < 0.5 else x
        # What the limiter takes away is put in once more.
        x = limited(x * np.float32(db(plan.level) / max(1e-9, active_rms(limited(x, ceiling)))), ceiling)
    else:
        # Peaks come first: sparse blows are not squashed to reach a level.
        x = limited(x * np.float32(min(1.0, db(1.5) / max(1e-9, float(np.abs(x).max())))), db(-0.3))
    if plan.floor is not None:
        x = x + np.float32(db(plan.floor)) * filtered(noise(rng, 2, plan.count), rng.uniform(3000, 16_000), order=1)
    x = edges(x, 0.005, min(plan.seconds / 4, log_uniform(rng, 0.02, 3.0)))
    # Hiss and the offset's removal may lift a limited peak by a hair.
    return np.clip(x - x.mean(axis=1, keepdims=True), -db(-0.05), db(-0.05)).astype(np.float32)
