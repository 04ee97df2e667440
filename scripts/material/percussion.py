"""Sparse percussion: skins, wood, metal and claps, with room and silence between the blows."""

import numpy as np

from .drums import KICK, SNARE, Metal, block, clap, drawn, kick, shaker, skin, snare
from .dsp import SR, Array, Rng, db, peaked, place
from .tune import Tune, moments

PERCUSSIONS = ("drum kit", "hand drums", "wood", "metal", "claps and shakers")
FORCES = (0.4, 0.7, 1.0)
# Blows from and to, lengths in 16ths, how often a blow is another one than before. A groove fills its bar; the others
# leave most of theirs empty.
WAYS = {
    "figure": ((3, 9), (16, 32, 48), 0.1),
    "clock": ((1, 3), (8, 16, 32), 0.4),
    "groove": ((6, 11), (16,), 0.1),
}


def _bank(rng: Rng, variety: str) -> list[Array]:
    """The blows [T] a track has."""
    if variety == "drum kit":
        drum, wires, hats = drawn(rng, KICK), drawn(rng, SNARE), Metal.draw(rng, rng.uniform(2600, 4200), 16_500, 80)
        bank = [kick(rng, drum, force) for force in (1.0, 0.7)] + [snare(rng, wires, force) for force in (1.0, 0.3)]
        return [*bank, hats.strike(rng, 0.03, 0.8), hats.strike(rng, 0.25, 1.0)]
    if variety == "hand drums":
        low, decay = rng.uniform(70, 160), rng.uniform(0.08, 0.3)
        return [
            skin(rng, low * ratio, decay / ratio**0.3, 0.7, force) for ratio in (1.0, 1.35, 1.9) for force in FORCES
        ]
    if variety == "wood":
        low = rng.uniform(300, 900)
        return [block(rng, low * ratio, force) for ratio in (1.0, 1.25, 1.6, 2.1) for force in FORCES[1:]]
    if variety == "metal":
        pots = [
            (Metal.draw(rng, 2.0 ** rng.uniform(6.5, 10.5), 14_000, 14, wash=0.1), force) for force in (*FORCES, 1.0)
        ]
        plate = (Metal.draw(rng, rng.uniform(350, 900), 16_000, 120), 0.9)
        return [metal.strike(rng, rng.uniform(0.15, 0.8), force, attack=0.001) for metal, force in (*pots, plate)]
    shakers = [shaker(rng, f, rng.uniform(0.06, 0.35), rng.uniform(1500, 6000), rng.uniform(0.02, 0.6)) for f in FORCES]
    bank = [clap(rng, force) for force in FORCES] + shakers
    return [*bank, block(rng, rng.uniform(900, 2400), 1.0), skin(rng, rng.uniform(60, 100), 0.2, 0.7)]


def _times(rng: Rng, tune: Tune, count: int) -> list[tuple[float, float, int]]:
    """(sample, velocity, which blow): one of `WAYS` again and again, or blows in free time."""
    way = str(rng.choice([*WAYS, "free"], p=[0.35, 0.2, 0.2, 0.25]))
    if way == "free":
        return [
            (at + number * rng.uniform(0.03, 0.16) * SR, rng.uniform(0.2, 1.0), int(rng.integers(64)))
            for at in moments(rng, count, rng.uniform(0.35, 2.5))
            for number in range(int(rng.choice([1, 1, 1, 2, 4])))
        ]
    hits, lengths, changes = WAYS[way]
    span, step = int(rng.choice(lengths)), tune.beat / 4
    steps = 1 + rng.choice(min(span, 16) - 1, int(rng.integers(*hits)) - 1, replace=False)
    figure = [(at, rng.uniform(0.45, 1.0), int(rng.integers(64))) for at in (0, *np.sort(steps).tolist())]
    out = []
    for start in range(0, int(count / step) + 1, span):
        for at, force, blow in figure:
            if rng.random() > 0.08:
                other = int(rng.integers(64)) if rng.random() < changes else blow
                late = rng.normal(0, 0.006) * SR
                out.append(((start + at) * step + late, force * rng.uniform(0.8, 1.0), other))
    return out


def percussion(rng: Rng, tune: Tune, count: int, variety: str) -> Array:
    """Blows on one of `PERCUSSIONS` [2, T], each at its own place from left to right."""
    bank = [peaked(blow) for blow in _bank(rng, variety)]
    pans = rng.uniform(-1.0, 1.0, len(bank)) * rng.uniform(0.0, 0.9)
    out = np.zeros((2, count), np.float32)
    for at, force, blow in _times(rng, tune, count):
        number = blow % len(bank)
        place(out, bank[number], max(0, round(at)), db(-26.0 * (1.0 - force)), float(pans[number]))
    return out
