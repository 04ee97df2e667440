"""Sparse percussion: skins, wood, metal and claps, with room and silence between the blows."""

import numpy as np

from .drums import KickShape, MetalShape, SnareShape, modes
from .dsp import SR, Array, db, edges, filtered, noise, place, seconds
from .tune import Tune

Rng = np.random.Generator


def _peaked(x: Array) -> Array:
    return (x / max(1e-6, float(np.abs(x).max()))).astype(np.float32)


def wood(rng: Rng, hz: float, force: float) -> Array:
    """A block, clave or log [T]: few modes, soon gone."""
    ratios = np.array([1.0, 2.57, 4.95, 7.1]) * rng.uniform(0.97, 1.03, 4)
    decays = rng.uniform(0.02, 0.07) / ratios**0.6
    out = modes(round(0.35 * SR), hz * ratios, np.array([1, 0.5, 0.25, 0.12]) * force, decays, np.zeros(4))
    t = seconds(0.35)
    return _peaked(edges(out + 0.4 * force * filtered(noise(rng, t.size), 6000) * np.exp(-t / 0.002)))


def skin(rng: Rng, hz: float, force: float) -> Array:
    """A hand or a stick on a drum [T]: membrane modes (Bessel zeros over the first) whose pitch falls a little."""
    decay = rng.uniform(0.08, 0.3) * (110.0 / hz) ** 0.3
    t = seconds(5 * decay)
    clock = t + 0.005 * force * (1 - np.exp(-t / 0.03))
    out = np.zeros(t.size)
    for ratio, level in ((1.0, 1.0), (1.593, 0.6), (2.135, 0.35), (2.295, 0.25), (2.917, 0.15)):
        mode = np.sin(2 * np.pi * hz * ratio * rng.uniform(0.99, 1.01) * clock)
        out += level * force ** (ratio - 1) * mode * np.exp(-t * ratio / decay)
    slap = filtered(noise(rng, t.size), (250, 1500 + 5000 * force), "bandpass", 1) * np.exp(-t / 0.008)
    return _peaked(edges(out + 0.7 * force * slap, 0.0005, 0.02))


def clap(rng: Rng, force: float) -> Array:
    """Hands [T]: a few bursts within 30 ms and a short tail."""
    t = seconds(0.3)
    burst = filtered(noise(rng, t.size), (900, 3000 + 3000 * force), "bandpass")
    shape = 0.5 * np.exp(-t / 0.06) * (t > 0.025)
    for at in np.sort(rng.uniform(0.0, 0.026, 3)):
        shape = np.maximum(shape, np.exp(-np.maximum(t - at, 0) / 0.004) * (t >= at))
    return _peaked(edges(burst * shape))


def pot(rng: Rng, hz: float, force: float) -> Array:
    """A pan, a pipe or a plate [T]: a dozen modes without a pattern."""
    ratios = np.sort(np.concatenate([[1.0], 1.0 + rng.uniform(0.2, 12.0, 13)]))
    decays = rng.uniform(0.15, 0.9) * rng.uniform(0.4, 1.2, 14) / ratios**0.5
    levels = rng.exponential(1.0, 14).clip(0.15, 2) * force ** (0.15 * np.arange(14))
    kept = hz * ratios < 17_000
    count = round(min(3.0, 5 * decays.max()) * SR)
    out = modes(count, (hz * ratios)[kept], levels[kept], decays[kept], rng.uniform(0, 6.28, 14)[kept])
    t = np.arange(count) / SR
    return _peaked(edges(out + 0.8 * noise(rng, count) * np.exp(-t / 0.0015), 0.0003, 0.05))


def shake(rng: Rng, force: float) -> Array:
    """A shaker, a rattle or a broom [T]: grains of noise that swell and stop."""
    length = rng.uniform(0.06, 0.35)
    t = seconds(length)
    low = rng.uniform(1500, 6000)
    grains = noise(rng, t.size) * (rng.random(t.size) < rng.uniform(0.02, 0.6))
    swell = np.sin(np.pi * (t / length) ** rng.uniform(0.4, 1.5)) ** 2
    return _peaked(filtered(grains, (low, 2.8 * low), "bandpass", 1) * swell * force)


def _bank(rng: Rng, variety: str) -> list[Array]:
    """The blows a track has, each [T] with a peak of 1."""
    forces = (0.4, 0.7, 1.0)
    if variety == "drum kit":
        kick, snare = KickShape.draw(rng), SnareShape.draw(rng)
        hats = MetalShape.draw(rng, rng.uniform(2600, 4200), 16_500, 80)
        bank = [kick.strike(rng, 1.0), kick.strike(rng, 0.7), snare.strike(rng, 1.0), snare.strike(rng, 0.3)]
        bank += [snare.rim(rng), hats.strike(rng, 0.03, 0.8), hats.strike(rng, 0.25, 1.0)]
        return [_peaked(blow) for blow in bank]
    if variety == "hand drums":
        low = rng.uniform(70, 160)
        return [skin(rng, low * ratio, force) for ratio in (1.0, 1.35, 1.9) for force in forces]
    if variety == "wood":
        low = rng.uniform(300, 900)
        return [wood(rng, low * ratio, force) for ratio in (1.0, 1.25, 1.6, 2.1) for force in forces[1:]]
    if variety == "metal":
        bank = [pot(rng, 2.0 ** rng.uniform(6.5, 10.5), force) for force in (*forces, 1.0)]
        plate = MetalShape.draw(rng, rng.uniform(350, 900), 16_000, 120)
        return [*bank, _peaked(plate.strike(rng, rng.uniform(0.2, 0.7), 0.9, attack=0.002))]
    bank = [clap(rng, force) for force in forces] + [shake(rng, force) for force in forces]
    return [*bank, wood(rng, rng.uniform(900, 2400), 1.0), skin(rng, rng.uniform(60, 100), 1.0)]


PERCUSSIONS = ("drum kit", "hand drums", "wood", "metal", "claps and shakers")


# Blows from and to, lengths in 16ths, how often a blow is another one than before. A groove fills its bar; the others
# leave most of theirs empty.
WAYS = {
    "figure": ((3, 9), (16, 32, 48), 0.1),
    "clock": ((1, 3), (8, 16, 32), 0.4),
    "groove": ((6, 11), (16,), 0.1),
}


def _times(rng: Rng, tune: Tune, count: int) -> list[tuple[float, float, int]]:
    """(sample, velocity, which blow): one of `WAYS` again and again, or blows in free time."""
    way = str(rng.choice([*WAYS, "free"], p=[0.35, 0.2, 0.2, 0.25]))
    out: list[tuple[float, float, int]] = []
    if way == "free":
        pause, now = rng.uniform(0.35, 2.5), rng.uniform(0.0, 1.0)
        while now * SR < count:
            for number in range(int(rng.choice([1, 1, 1, 2, 4]))):
                at = (now + number * rng.uniform(0.03, 0.16)) * SR
                out.append((at, rng.uniform(0.2, 1.0), int(rng.integers(64))))
            now += 0.15 + rng.exponential(pause)
        return out
    hits, lengths, changes = WAYS[way]
    span, step = int(rng.choice(lengths)), tune.beat / 4
    steps = 1 + rng.choice(min(span, 16) - 1, int(rng.integers(*hits)) - 1, replace=False)
    figure = [(at, rng.uniform(0.45, 1.0), int(rng.integers(64))) for at in (0, *np.sort(steps).tolist())]
    for start in range(0, int(count / step) + 1, span):
        for at, force, blow in figure:
            if rng.random() > 0.08:
                other = int(rng.integers(64)) if rng.random() < changes else blow
                late = rng.normal(0, 0.006) * SR
                out.append(((start + at) * step + late, force * rng.uniform(0.8, 1.0), other))
    return out


def percussion(rng: Rng, tune: Tune, count: int, variety: str) -> Array:
    """Blows on one of `PERCUSSIONS` [2, T], each at its own place from left to right."""
    bank = _bank(rng, variety)
    pans = rng.uniform(-1.0, 1.0, len(bank)) * rng.uniform(0.0, 0.9)
    out = np.zeros((2, count), np.float32)
    for at, force, blow in _times(rng, tune, count):
        number = blow % len(bank)
        place(out, bank[number], max(0, round(at)), db(-26.0 * (1.0 - force)), float(pans[number]))
    return out
