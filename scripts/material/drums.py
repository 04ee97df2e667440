"""Drums: skins and metal as decaying modes, wires and air as shaped noise; and kits of them."""

from dataclasses import dataclass

import numpy as np

from .dsp import Array, Rng, burst, edges, filtered, noise, peaked, seconds
from .synthesis import bent, modes

Shape = dict[str, float]  # what one drum is like: a number for each of the ranges it is drawn from

KICK = {"hz": (46, 68), "fall": (50, 190), "fall_time": (0.012, 0.035), "decay": (0.05, 0.115)}
KICK |= {"knock_hz": (190, 460), "knock": (0.15, 0.5), "click": (0.15, 0.55), "drive": (1.0, 2.0)}
SNARE = {"hz": (158, 262), "ring": (0.022, 0.075), "body": (0.5, 1.0), "wires": (0.55, 1.1)}
SNARE |= {"wire_decay": (0.03, 0.085), "wire_low": (500, 1700), "wire_high": (7500, 13_000), "drive": (0.8, 1.6)}
DECAYS = {"hat": (0.016, 0.042), "open": (0.14, 0.34), "ride": (0.22, 0.6), "crash": (0.55, 0.9)}
# Ratios of the first modes of a circular membrane: Bessel zeros over the first one.
MEMBRANE = np.array([1.0, 1.593, 2.135, 2.295, 2.653, 2.917])


def drawn(rng: Rng, ranges: dict[str, tuple[float, float]]) -> Shape:
    """One drum of a kind."""
    return {name: rng.uniform(*limits) for name, limits in ranges.items()}


def _finish(x: Array, peak: float = 1.0) -> Array:
    return edges(peaked(x, peak), 0.0002, 0.01)


def kick(rng: Rng, shape: Shape, force: float) -> Array:
    """A bass drum [T], its pitch falling."""
    t = seconds(shape["decay"] * 4.5)
    fall = shape["fall"] * (0.7 + 0.3 * force) * rng.uniform(0.95, 1.05)
    cycles = shape["hz"] * t + fall * shape["fall_time"] * (1 - np.exp(-t / shape["fall_time"]))
    body = np.sin(2 * np.pi * cycles) * np.exp(-((t / shape["decay"]) ** 1.15))
    knock = np.sin(2 * np.pi * shape["knock_hz"] * rng.uniform(0.97, 1.03) * t) * np.exp(-t / 0.016) * shape["knock"]
    air = burst(rng, t, 900 + 4200 * force, 0.0045) * shape["click"] + burst(rng, t, (120.0, 700.0), 0.05) * 0.12
    return _finish(np.tanh(shape["drive"] * (body + knock + air)), 0.55 + 0.45 * force)


def snare(rng: Rng, shape: Shape, force: float) -> Array:
    """A snare drum [T]: modes of shell and skin, and the wires under it."""
    t = seconds(0.2 + shape["wire_decay"] * 3.0)
    gains = np.array([1.0, 0.75, 0.35, 0.3, 0.22, 0.15]) * rng.uniform(0.6, 1.2, 6)
    decays = shape["ring"] * np.array([1.0, 0.75, 0.55, 0.5, 0.4, 0.35])
    clock = t + 0.0012 * force * (1 - np.exp(-t / 0.012))
    skin = bent(t, clock, shape["hz"] * MEMBRANE * rng.uniform(0.985, 1.015, 6), gains, decays) * shape["body"]
    band = (shape["wire_low"], shape["wire_high"] * (0.45 + 0.55 * force))
    wires = filtered(noise(rng, t.size), band, "bandpass") * (1 - np.exp(-t / 0.0012))
    wires *= np.exp(-t / (shape["wire_decay"] * (0.55 + 0.45 * force))) + 0.8 * np.exp(-t / 0.014)
    stick = filtered(noise(rng, t.size), 2500, "highpass") * np.exp(-t / 0.0018) * 0.5 * force
    return _finish(np.tanh(shape["drive"] * (0.6 * skin + shape["wires"] * wires + stick)), 0.3 + 0.7 * force)


def block(rng: Rng, hz: float, force: float, ratios: tuple[float, ...] = (1.0, 2.57, 4.95, 7.1)) -> Array:
    """A wood block, a clave or a rim [T]: few modes, soon gone."""
    hzs = hz * np.array(ratios) * rng.uniform(0.97, 1.03, 4)
    decays = rng.uniform(0.02, 0.07) / (hzs / hzs[0]) ** 0.6
    t = seconds(0.35)
    out = modes(t.size, hzs, np.array([1, 0.5, 0.25, 0.12]) * force, decays, np.zeros(4))
    return _finish(out + 0.4 * force * burst(rng, t, 6000, 0.002), 0.3 + 0.7 * force)


def skin(rng: Rng, hz: float, decay: float, slap: float, force: float = 1.0) -> Array:
    """A hand or a stick on a drum without wires [T], its pitch falling a little."""
    t = seconds(5 * decay)
    clock = t + 0.005 * force * (1 - np.exp(-t / 0.03))
    gains = np.array([1.0, 0.6, 0.35, 0.25, 0.2, 0.15]) * force ** (MEMBRANE - 1)
    body = bent(t, clock, hz * MEMBRANE * rng.uniform(0.99, 1.01, 6), gains, decay / MEMBRANE)
    return _finish(body + slap * force * burst(rng, t, (300.0, 1500 + 4500 * force), 0.007), 0.3 + 0.6 * force)


def shaker(rng: Rng, force: float, length: float = 0.09, low: float = 4500.0, density: float = 1.0) -> Array:
    """A shaker, a rattle or a broom [T]: grains of noise that swell and stop."""
    t = seconds(length)
    grains = filtered(noise(rng, t.size) * (rng.random(t.size) < density), (low, 2.7 * low), "bandpass")
    return _finish(grains * np.sin(np.pi * t / length) ** 2, 0.3 + 0.7 * force)


def clap(rng: Rng, force: float) -> Array:
    """Hands [T]: a few bursts within 30 ms and a short tail."""
    t = seconds(0.3)
    shape = 0.5 * np.exp(-t / 0.06) * (t > 0.025)
    for at in rng.uniform(0.0, 0.026, 3):
        shape = np.maximum(shape, np.exp(-np.maximum(t - at, 0) / 0.004) * (t >= at))
    return _finish(filtered(noise(rng, t.size), (900, 3000 + 3000 * force), "bandpass") * shape, 0.3 + 0.7 * force)


@dataclass
class Metal:
    """One piece of bronze or iron: a cloud of modes with its own tilt, and a wash of noise."""

    hz: Array
    tilt: float
    wash: float
    wash_low: float

    @classmethod
    def draw(cls, rng: Rng, low: float, high: float, count: int, wash: float = 1.0) -> "Metal":
        # Plates have about as many modes in every kilohertz; a little crowded below, where they are heard one by one.
        hz = low + (high - low) * rng.uniform(0.0, 1.0, count) ** 1.4
        return cls(hz, rng.uniform(-0.2, 0.5), wash * rng.uniform(0.4, 1.1), rng.uniform(0.7, 1.5) * 4500)

    def strike(self, rng: Rng, decay: float, force: float, attack: float = 0.0004, ping: float = 0.0) -> Array:
        """A blow [T]; `ping` is how loud the stick is on it."""
        t = seconds(min(2.4, decay * 4.0))
        count = self.hz.size
        place = np.log2(self.hz / self.hz.min() + 1.0)
        gains = rng.exponential(1.0, count).clip(0.1, 2.0) * place ** (self.tilt + 0.8 * (force - 0.8))
        decays = decay * rng.uniform(0.5, 1.3, count) / place**0.7
        metal = modes(t.size, self.hz, gains, decays, rng.uniform(0, 6.28, count)) / np.sqrt(count)
        metal *= 0.45 + np.exp(-t / 0.03)  # the blow is louder than the ringing that stays
        wash = filtered(noise(rng, t.size), self.wash_low, "highpass")
        wash = wash * (0.75 * np.exp(-t / (decay * 0.6)) + 0.5 * np.exp(-t / (0.012 + 0.05 * decay)))
        out = (metal + self.wash * 0.5 * wash) * (1 - np.exp(-t / attack)) + ping * burst(rng, t, (2500, 9000), 0.004)
        return _finish(filtered(out, 0.3 * self.hz.min() + 250, "highpass"), 0.25 + 0.75 * force)


@dataclass
class Kit:
    """Takes of every voice: `takes[voice]` is a list from soft to hard, so that no two hits need be the same."""

    takes: dict[str, list[Array]]

    def hit(self, voice: str, velocity: float, rng: Rng) -> Array:
        """A take [T] of `voice` near `velocity` (0..1), at that level."""
        takes = self.takes[voice]
        place = velocity * (len(takes) - 1) + rng.uniform(-0.5, 0.5)
        take = takes[int(np.clip(round(place), 0, len(takes) - 1))]
        return take * np.float32(0.35 + 0.65 * velocity)


@dataclass
class KitShape:
    """What a kit is made of, before anyone has struck it."""

    kick: Shape
    snare: Shape
    decays: Shape
    metals: dict[str, Metal]
    low_hz: Shape

    @classmethod
    def draw(cls, rng: Rng) -> "KitShape":
        """Any kit that might have been in a studio in 1970."""
        metals = {
            "hat": Metal.draw(rng, rng.uniform(2600, 4200), 16_500, 90),
            "ride": Metal.draw(rng, rng.uniform(500, 1100), 15_500, 150),
            "crash": Metal.draw(rng, rng.uniform(350, 700), 16_000, 160),
        }
        low_hz = drawn(rng, {"tom": (78, 105), "conga": (190, 270)})
        return cls(drawn(rng, KICK), drawn(rng, SNARE), drawn(rng, DECAYS), metals, low_hz)

    @property
    def words(self) -> list[str]:
        """The kit as a listener might put it."""
        wires = "bright" if self.snare["wire_high"] > 10_500 else "dry"
        return [
            "tight kick" if self.kick["decay"] < 0.08 else "booming kick",
            f"{'ringing' if self.snare['ring'] > 0.05 else wires} snare",
            "long ride" if self.decays["ride"] > 0.42 else "dry ride",
        ]

    def record(self, rng: Rng) -> Kit:
        """Every voice struck at several forces."""
        hat, ride, crash = (self.metals[name] for name in ("hat", "ride", "crash"))
        rim = (2.3, 4.2, 8.1, 11.3)
        return Kit(
            {
                "kick": [kick(rng, self.kick, force) for force in (0.55, 0.8, 0.9, 1.0)],
                "snare": [snare(rng, self.snare, force) for force in (0.7, 0.85, 0.95, 1.0)],
                "ghost": [snare(rng, self.snare, force) for force in (0.12, 0.2, 0.28, 0.38)],
                "rim": [block(rng, self.snare["hz"], 0.6, rim) for _ in range(2)],
                "hat": [hat.strike(rng, self.decays["hat"] * rng.uniform(0.8, 1.3), f) for f in (0.5, 0.7, 0.9, 1.0)],
                "open": [hat.strike(rng, self.decays["open"], force) for force in (0.8, 1.0)],
                "ride": [ride.strike(rng, self.decays["ride"], force, ping=0.6) for force in (0.6, 0.8, 1.0)],
                "crash": [crash.strike(rng, self.decays["crash"], 1.0, attack=0.003)],
                **{f"tom{k}": [skin(rng, self.low_hz["tom"] * 1.32**k, 0.13, 0.25)] for k in range(3)},
                "conga": [skin(rng, self.low_hz["conga"] * 1.28**k, 0.07, 0.5) for k in range(3)],
                "shaker": [shaker(rng, force) for force in (0.5, 0.75, 1.0)],
            }
        )
