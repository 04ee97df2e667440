"""Air around the music: risers, impacts, swells, crackle, hum and weather."""

import numpy as np

from .dsp import SR, Array, edges, filtered, noise, saw, seconds, swept

Rng = np.random.Generator
ATMOSPHERES = ("rain", "wind", "crackle", "machine")


def riser(rng: Rng, length: float) -> Array:
    """Noise and a tone that climb for `length` seconds, [2, T]."""
    t = seconds(length)
    place = t / length
    air = swept(noise(rng, 2, t.size), 300.0 * 2.0 ** (5.2 * place), "highpass", bands=5)
    hz = rng.uniform(90, 180) * 2.0 ** (rng.uniform(1.5, 3.0) * place**1.3)
    step = hz / SR
    tone = saw(np.cumsum(step), step) * (0.5 + 0.5 * np.sin(2 * np.pi * np.cumsum(4.0 + 12.0 * place) / SR))
    tone = filtered(tone, 3500)
    out = (0.5 * air + 0.35 * tone) * place**1.7
    return edges(out.astype(np.float32), 0.01, 0.01)


def impact(rng: Rng) -> Array:
    """A boom that falls with a burst of noise on it, [2, T]: where a section begins."""
    t = seconds(2.2)
    hz = 34 + 70 * np.exp(-t / 0.12)
    boom = np.tanh(2.0 * np.sin(2 * np.pi * np.cumsum(hz) / SR) * np.exp(-t / 0.6))
    burst = filtered(noise(rng, 2, t.size), rng.uniform(2500, 6000)) * np.exp(-t / 0.25)
    return edges((0.8 * boom + 0.35 * burst).astype(np.float32), 0.001, 0.2)


def siren(rng: Rng, length: float) -> Array:
    """A sound-system siren [2, T]: a square tone swung up and down, later fed to the echo."""
    t = seconds(length)
    rate, depth = rng.uniform(1.5, 7.0), rng.uniform(0.15, 0.5)
    hz = rng.uniform(420, 900) * 2.0 ** (depth * np.sin(2 * np.pi * rate * t) - rng.uniform(0, 0.8) * t / length)
    tone = np.tanh(4 * np.sin(2 * np.pi * np.cumsum(hz) / SR)) * np.minimum(1, (length - t) / 0.1)
    return edges(np.stack([filtered(tone, 2600)] * 2), 0.004, 0.03)


def atmosphere(rng: Rng, kind: str, count: int) -> Array:
    """`count` samples of a place [2, T], one of `ATMOSPHERES`."""
    t = np.arange(count) / SR
    if kind == "rain":
        out = filtered(noise(rng, 2, count), (900, 7500), "bandpass", 1) * 0.4
        drops = np.zeros((2, count), np.float32)
        at = rng.integers(0, count, max(1, count // 1200))
        drops[rng.integers(0, 2, at.size), at] = rng.exponential(1.0, at.size)
        return out + 3.0 * filtered(drops, (1200, 6000), "bandpass", 1)
    if kind == "wind":
        slow = np.sin(2 * np.pi * 0.06 * t + rng.uniform(0, 6)) + 0.6 * np.sin(2 * np.pi * 0.17 * t + rng.uniform(0, 6))
        return swept(noise(rng, 2, count), 500.0 * 2.0 ** (0.9 * slow), bands=4)
    if kind == "machine":
        pitch = rng.uniform(45, 62)
        hum = sum(np.sin(2 * np.pi * pitch * n * t + rng.uniform(0, 6.28)) / n for n in (2, 3, 5, 7))
        beat = 0.6 + 0.4 * np.sin(2 * np.pi * rng.uniform(0.2, 2.0) * t)
        return 0.25 * np.asarray(hum * beat, np.float32) + 0.5 * filtered(
            noise(rng, 2, count), (200, 2200), "bandpass", 1
        )
    return crackle(rng, count, 14.0) + 0.2 * filtered(noise(rng, 2, count), (300, 5000), "bandpass", 1)


def crackle(rng: Rng, count: int, density: float) -> Array:
    """Dust in a groove [2, T]: `density` clicks a second, most of them tiny."""
    out = np.zeros((2, count), np.float32)
    number = max(1, round(density * count / SR))
    at = rng.integers(0, max(1, count - 4), number)
    size = (rng.pareto(2.2, number) + 0.1).clip(0, 6) * rng.choice([-1, 1], number)
    for side in range(2):
        np.add.at(out[side], at, size * rng.uniform(0.4, 1.0, number))
    return filtered(out, (700, 9000), "bandpass", 1)
