"""Drum voices and kits: skins and metal as decaying modes, wires and air as shaped noise."""

from dataclasses import dataclass

import numpy as np

from .dsp import SR, Array, edges, filtered, noise, seconds

Rng = np.random.Generator


def _bent(t: Array, clock: Array, hz: Array, gains: Array, decays: Array, phases: Array) -> Array:
    """Sum of decaying sines [T] at times `t`; `clock` [T] is a time that runs fast at first, so pitch falls."""
    out = np.zeros(t.size)
    for f, g, d, p in zip(hz, gains, decays, phases):
        out += g * np.sin(2 * np.pi * f * clock + p) * np.exp(-t / d)
    return out


def modes(count: int, hz: Array, gains: Array, decays: Array, phases: Array) -> Array:
    """Sum of `count` samples of many decaying sines [T].

    A decaying sine is the imaginary part of c z^n. With n = 256 a + b, z^n is a product of two short tables, so the sum
    over all sines is one small matrix product. einsum and not @: BLAS may sum in another order on another number of
    threads, and the seed pins every bit.
    """
    log_z = (2j * np.pi * hz - 1.0 / decays) / SR
    fine = np.exp(log_z[:, None] * np.arange(256))
    coarse = (gains * np.exp(1j * phases))[:, None] * np.exp(log_z[:, None] * (256 * np.arange(-(-count // 256))))
    out = np.einsum("ma,mb->ab", coarse.real, fine.imag) + np.einsum("ma,mb->ab", coarse.imag, fine.real)
    return out.reshape(-1)[:count]


def _finish(x: Array, peak: float = 1.0) -> Array:
    x = np.asarray(x, dtype=np.float32)
    return edges(x * np.float32(peak / max(1e-6, float(np.abs(x).max()))), 0.0002, 0.01)


@dataclass
class KickShape:
    """What one bass drum is like; `dry` kicks are studio funk, the others carry more pitch fall and length."""

    hz: float
    fall: float
    fall_time: float
    decay: float
    knock_hz: float
    knock: float
    click: float
    drive: float

    @classmethod
    def draw(cls, rng: Rng) -> "KickShape":
        return cls(
            hz=rng.uniform(46, 68),
            fall=rng.uniform(50, 190),
            fall_time=rng.uniform(0.012, 0.035),
            decay=rng.uniform(0.05, 0.115),
            knock_hz=rng.uniform(190, 460),
            knock=rng.uniform(0.15, 0.5),
            click=rng.uniform(0.15, 0.55),
            drive=rng.uniform(1.0, 2.0),
        )

    def strike(self, rng: Rng, force: float) -> Array:
        t = seconds(self.decay * 4.5)
        fall = self.fall * (0.7 + 0.3 * force) * rng.uniform(0.95, 1.05)
        cycles = self.hz * t + fall * self.fall_time * (1 - np.exp(-t / self.fall_time))
        body = np.sin(2 * np.pi * cycles) * np.exp(-((t / self.decay) ** 1.15))
        knock = np.sin(2 * np.pi * self.knock_hz * rng.uniform(0.97, 1.03) * t) * np.exp(-t / 0.016) * self.knock
        air = filtered(noise(rng, t.size), 900 + 4200 * force) * np.exp(-t / 0.0045) * self.click
        skin = filtered(noise(rng, t.size), (120, 700), "bandpass") * np.exp(-t / 0.05) * 0.12
        return _finish(np.tanh(self.drive * (body + knock + air + skin)), 0.55 + 0.45 * force)


@dataclass
class SnareShape:
    """One snare drum: shell and skin modes, and the wires under it."""

    hz: float
    ring: float
    body: float
    wires: float
    wire_decay: float
    wire_low: float
    wire_high: float
    drive: float

    @classmethod
    def draw(cls, rng: Rng) -> "SnareShape":
        return cls(
            hz=rng.uniform(158, 262),
            ring=rng.uniform(0.022, 0.075),
            body=rng.uniform(0.5, 1.0),
            wires=rng.uniform(0.55, 1.1),
            wire_decay=rng.uniform(0.03, 0.085),
            wire_low=rng.uniform(500, 1700),
            wire_high=rng.uniform(7500, 13000),
            drive=rng.uniform(0.8, 1.6),
        )

    def strike(self, rng: Rng, force: float) -> Array:
        t = seconds(0.2 + self.wire_decay * 3.0)
        # Ratios of the first modes of a circular membrane (Bessel zeros over the first one).
        ratios = np.array([1.0, 1.593, 2.135, 2.295, 2.653, 2.917])
        hz = self.hz * ratios * rng.uniform(0.985, 1.015, 6)
        gains = np.array([1.0, 0.75, 0.35, 0.3, 0.22, 0.15]) * rng.uniform(0.6, 1.2, 6)
        decays = self.ring * np.array([1.0, 0.75, 0.55, 0.5, 0.4, 0.35])
        clock = t + 0.0012 * force * (1 - np.exp(-t / 0.012))
        skin = _bent(t, clock, hz, gains, decays, rng.uniform(-0.4, 0.4, 6)) * self.body
        high = self.wire_high * (0.45 + 0.55 * force)
        wires = filtered(noise(rng, t.size), (self.wire_low, high), "bandpass")
        decay = self.wire_decay * (0.55 + 0.45 * force)
        wires = wires * (np.exp(-t / decay) + 0.8 * np.exp(-t / 0.014)) * (1 - np.exp(-t / 0.0012))
        stick = filtered(noise(rng, t.size), 2500, "highpass") * np.exp(-t / 0.0018) * 0.5 * force
        return _finish(np.tanh(self.drive * (0.6 * skin + self.wires * wires + stick)), 0.3 + 0.7 * force)

    def rim(self, rng: Rng) -> Array:
        t = seconds(0.12)
        hz = np.array([2.3, 4.2, 8.1, 11.3]) * self.hz * rng.uniform(0.98, 1.02, 4)
        body = modes(
            t.size, hz, np.array([1, 0.8, 0.5, 0.3]), np.array([0.022, 0.015, 0.009, 0.006]), rng.uniform(0, 6, 4)
        )
        return _finish(body + 0.3 * noise(rng, t.size) * np.exp(-t / 0.001), 0.7)


@dataclass
class MetalShape:
    """One piece of bronze: a dense cloud of modes with its own tilt, and a wash of noise."""

    hz: Array
    tilt: float
    wash: float
    wash_low: float

    @classmethod
    def draw(cls, rng: Rng, low: float, high: float, count: int) -> "MetalShape":
        # Plates have about as many modes in every kilohertz; a little crowded below, where they are heard one by one.
        hz = low + (high - low) * rng.uniform(0.0, 1.0, count) ** 1.4
        return cls(
            hz=hz, tilt=rng.uniform(-0.2, 0.5), wash=rng.uniform(0.4, 1.1), wash_low=rng.uniform(0.7, 1.5) * 4500
        )

    def strike(self, rng: Rng, decay: float, force: float, attack: float = 0.0004, ping: float = 0.0) -> Array:
        t = seconds(min(2.4, decay * 4.0))
        count = self.hz.size
        place = np.log2(self.hz / self.hz.min() + 1.0)
        gains = rng.exponential(1.0, count).clip(0.1, 2.0) * place ** (self.tilt + 0.8 * (force - 0.8))
        decays = decay * rng.uniform(0.5, 1.3, count) / place**0.7
        metal = modes(t.size, self.hz, gains, decays, rng.uniform(0, 6.28, count)) / np.sqrt(count)
        metal *= 0.45 + np.exp(-t / 0.03)  # the blow is louder than the ringing that stays
        wash = filtered(noise(rng, t.size), self.wash_low, "highpass")
        wash = wash * (0.75 * np.exp(-t / (decay * 0.6)) + 0.5 * np.exp(-t / (0.012 + 0.05 * decay)))
        stick = filtered(noise(rng, t.size), (2500, 9000), "bandpass") * np.exp(-t / 0.004) * ping
        out = (metal + self.wash * 0.5 * wash) * (1 - np.exp(-t / attack)) + stick
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

    kick: KickShape
    snare: SnareShape
    hats: MetalShape
    ride: MetalShape
    crash: MetalShape
    hat_decay: float
    open_decay: float
    ride_decay: float
    crash_decay: float
    toms: list[float]
    congas: list[float]

    @classmethod
    def draw(cls, rng: Rng) -> "KitShape":
        return cls(
            kick=KickShape.draw(rng),
            snare=SnareShape.draw(rng),
            hats=MetalShape.draw(rng, rng.uniform(2600, 4200), 16_500, 90),
            ride=MetalShape.draw(rng, rng.uniform(500, 1100), 15_500, 150),
            crash=MetalShape.draw(rng, rng.uniform(350, 700), 16_000, 160),
            hat_decay=rng.uniform(0.016, 0.042),
            open_decay=rng.uniform(0.14, 0.34),
            ride_decay=rng.uniform(0.22, 0.6),
            crash_decay=rng.uniform(0.55, 0.9),
            toms=[rng.uniform(78, 105) * 1.32**k for k in range(3)],
            congas=[rng.uniform(190, 270) * 1.28**k for k in range(3)],
        )

    @property
    def words(self) -> list[str]:
        """The kit as a listener might put it."""
        snare = "ringing" if self.snare.ring > 0.05 else ("bright" if self.snare.wire_high > 10_500 else "dry")
        return [
            "tight kick" if self.kick.decay < 0.08 else "booming kick",
            f"{snare} snare",
            "long ride" if self.ride_decay > 0.42 else "dry ride",
        ]

    def record(self, rng: Rng) -> Kit:
        """Every voice struck at several forces."""
        kick, snare, hats, ride = self.kick, self.snare, self.hats, self.ride
        return Kit(
            {
                "kick": [kick.strike(rng, force) for force in (0.55, 0.8, 0.9, 1.0)],
                "snare": [snare.strike(rng, force) for force in (0.7, 0.85, 0.95, 1.0)],
                "ghost": [snare.strike(rng, force) for force in (0.12, 0.2, 0.28, 0.38)],
                "rim": [snare.rim(rng) for _ in range(2)],
                "hat": [
                    hats.strike(rng, self.hat_decay * rng.uniform(0.8, 1.3), force) for force in (0.5, 0.7, 0.9, 1.0)
                ],
                "open": [hats.strike(rng, self.open_decay, force) for force in (0.8, 1.0)],
                "ride": [ride.strike(rng, self.ride_decay, force, ping=0.6) for force in (0.6, 0.8, 1.0)],
                "crash": [self.crash.strike(rng, self.crash_decay, 1.0, attack=0.003)],
                "tom": [_skin(rng, hz, 0.13, 0.25) for hz in self.toms],
                "conga": [_skin(rng, hz, 0.07, 0.5) for hz in self.congas],
                "shaker": [_shake(rng, force) for force in (0.5, 0.75, 1.0)],
            }
        )


def _skin(rng: Rng, hz: float, decay: float, slap: float) -> Array:
    t = seconds(decay * 4)
    clock = t + 0.004 * (1 - np.exp(-t / 0.03))
    hzs = hz * np.array([1.0, 1.593, 2.135, 2.65])
    gains, decays = np.array([1, 0.5, 0.25, 0.15]), decay * np.array([1, 0.6, 0.4, 0.3])
    body = _bent(t, clock, hzs, gains, decays, np.zeros(4))
    return _finish(body + slap * filtered(noise(rng, t.size), (500, 5000), "bandpass") * np.exp(-t / 0.006), 0.9)


def _shake(rng: Rng, force: float) -> Array:
    t = seconds(0.09)
    grains = filtered(noise(rng, t.size), (4500, 12000), "bandpass")
    return _finish(grains * np.sin(np.pi * np.minimum(t / 0.07, 1.0)) ** 2, 0.3 + 0.7 * force)
