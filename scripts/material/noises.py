"""Noise and air: weather, fire, water, machines, radio, grains, colours that move; risers, impacts and sirens."""

import typing as tp

import numpy as np
from scipy import fft

from .dsp import (
    SR,
    Array,
    Rng,
    burst,
    edges,
    filtered,
    log_uniform,
    noise,
    place,
    saw,
    seconds,
    swept,
    varispeed,
    wander,
)
from .harmony import stab
from .synthesis import BARS, STRINGS, TONES
from .tune import Tune


def riser(rng: Rng, length: float) -> Array:
    """Noise and a tone that climb for `length` seconds, [2, T]."""
    t = seconds(length)
    way = t / length
    air = swept(noise(rng, 2, t.size), 300.0 * 2.0 ** (5.2 * way), "highpass", bands=5)
    step = rng.uniform(90, 180) * 2.0 ** (rng.uniform(1.5, 3.0) * way**1.3) / SR
    tone = saw(np.cumsum(step), step) * (0.5 + 0.5 * np.sin(2 * np.pi * np.cumsum(4.0 + 12.0 * way) / SR))
    return edges((0.5 * air + 0.35 * filtered(tone, 3500)) * way**1.7, 0.01, 0.01)


def impact(rng: Rng) -> Array:
    """A boom that falls with a burst of noise on it, [2, T]: where a section begins."""
    t = seconds(2.2)
    boom = np.tanh(2.0 * np.sin(2 * np.pi * np.cumsum(34 + 70 * np.exp(-t / 0.12)) / SR) * np.exp(-t / 0.6))
    top = rng.uniform(2500, 6000)
    return edges(0.8 * boom + 0.35 * np.stack([burst(rng, t, top, 0.25) for _ in range(2)]), 0.001, 0.2)


def siren(rng: Rng, length: float) -> Array:
    """A sound-system siren [2, T]: a square tone swung up and down, later fed to the echo."""
    t = seconds(length)
    rate, depth = rng.uniform(1.5, 7.0), rng.uniform(0.15, 0.5)
    hz = rng.uniform(420, 900) * 2.0 ** (depth * np.sin(2 * np.pi * rate * t) - rng.uniform(0, 0.8) * t / length)
    tone = np.tanh(4 * np.sin(2 * np.pi * np.cumsum(hz) / SR)) * np.minimum(1, (length - t) / 0.1)
    return edges(np.stack([filtered(tone, 2600)] * 2), 0.004, 0.03)


def crackle(rng: Rng, count: int, density: float) -> Array:
    """Dust in a groove [2, T]: `density` clicks a second, most of them tiny."""
    out = np.zeros((2, count), np.float32)
    number = max(1, round(density * count / SR))
    size = (rng.pareto(2.2, number) + 0.1).clip(0, 6) * rng.choice([-1, 1], number)
    at = rng.integers(0, count, number)
    for side in out:
        np.add.at(side, at, size * rng.uniform(0.4, 1.0, number))
    return filtered(out, (700, 9000), "bandpass", 1)


def coloured(rng: Rng, count: int, slope: float) -> Array:
    """Noise [2, T] whose power falls by `slope` x 3 dB an octave: 0 white, 1 pink, 2 brown; unit variance."""
    size = fft.next_fast_len(count, real=True)
    hz = fft.rfftfreq(size, 1 / SR)
    # What lies below 25 Hz is not heard and would be most of brown noise.
    gain = np.maximum(hz, 25.0) ** (-0.5 * slope) * np.minimum(1.0, hz / 25.0) ** 2
    out = fft.irfft(fft.rfft(noise(rng, 2, size)) * gain.astype(np.float32), size)[:, :count]
    return (out / out.std()).astype(np.float32)


def _scattered(out: Array, rng: Rng, sounds: list[Array], loud: float) -> Array:
    """`out` with sounds at places and levels that the dice say, most of them soft."""
    for sound in sounds:
        place(out, sound, int(rng.integers(out.shape[1])), rng.exponential(loud), rng.uniform(-0.9, 0.9))
    return out


def _colours(rng: Rng, tune: Tune, count: int) -> Array:
    """Noise of some colour through a filter that moves slowly, or in time."""
    out = coloured(rng, count, rng.uniform(-0.7, 1.7))
    low, high = sorted(log_uniform(rng, 80, 13_000) for _ in range(2))
    way = wander(rng, count, rng.uniform(0.1, 1.5), 0.0)
    if rng.random() < 0.3:
        way = 0.5 + 0.5 * np.sin(2 * np.pi * np.arange(count) / tune.beat / rng.choice([1, 2, 4, 8]))
    cutoff = low * (max(high, 1.5 * low) / low) ** way.astype(np.float64)
    out = swept(out, cutoff, str(rng.choice(["lowpass", "highpass", "bandpass"])))
    return out * wander(rng, count, rng.uniform(0.2, 3.0), 0.4)


def _wind(rng: Rng, tune: Tune, count: int) -> Array:
    """Gusts: brown noise and two whistling bands that rise with it."""
    gust = np.clip(wander(rng, count, rng.uniform(0.15, 0.5), 0.0) + 0.12 * wander(rng, count, 3.0), 0.02, 1.2)
    rise = gust.astype(np.float64)
    out = swept(coloured(rng, count, 0.5), rng.uniform(180, 500) * 2.0 ** (2.4 * rise), bands=5) * gust
    for _ in range(2):
        band = swept(noise(rng, 2, count), rng.uniform(400, 1500) * 2.0 ** (0.8 * rise), "bandpass", 5, 1.07)
        out += np.float32(rng.uniform(0.1, 0.8)) * band * gust**2
    return filtered(out, rng.uniform(40, 160), "highpass", 1)


def _surf(rng: Rng, tune: Tune, count: int) -> Array:
    """Waves that come in, break and run out."""
    out = np.float32(0.08) * coloured(rng, count, 1.3)
    at, pause = -2.0, rng.uniform(3.5, 8.0)
    while at * SR < count:
        t = seconds(rng.uniform(4.0, 8.0))
        way = t / t[-1]
        swell = np.exp(-(((way - 0.35) / 0.13) ** 2)) + 0.5 * np.exp(-(((way - 0.6) / 0.2) ** 2))
        wave = edges(swept(coloured(rng, t.size, 0.8), 250 + 7000 * swell**1.5, bands=5) * swell, 0.3, 0.5)
        place(out, wave, round(at * SR), rng.uniform(0.4, 1), rng.uniform(-0.6, 0.6))
        at += pause * rng.uniform(0.6, 1.4)
    return out


def _rain(rng: Rng, tune: Tune, count: int) -> Array:
    """Rain that comes and goes, with single drops on something near and now and then thunder."""
    fine = np.zeros((2, count), np.float32)
    at = rng.integers(0, count, max(1, count // 1200))
    fine[rng.integers(0, 2, at.size), at] = rng.exponential(1.0, at.size)
    out = 0.4 * filtered(noise(rng, 2, count), (900, 7500), "bandpass", 1)
    out = (out + 3.0 * filtered(fine, (1200, 6000), "bandpass", 1)) * wander(rng, count, 0.15, 0.1)
    drops = []
    for _ in range(round(rng.uniform(1, 12) * count / SR)):
        t = seconds(rng.uniform(0.01, 0.05))
        drops.append(np.sin(2 * np.pi * rng.uniform(900, 5000) * t * (1 + 3 * t)) * np.exp(-4 * t / t[-1]))
    if rng.random() < 0.4:
        t = seconds(min(6.0, count / SR))
        boom = swept(coloured(rng, t.size, 1.6), 80 + 900 * np.exp(-t / 0.7), bands=4)
        boom *= np.exp(-t / 1.6) * wander(rng, t.size, 5.0, 0.2) * (1 - np.exp(-t / 0.03))
        place(out, boom, int(rng.integers(max(1, count // 2))), rng.uniform(0.8, 2.0))
    return _scattered(out, rng, drops, 0.4)


def _fire(rng: Rng, tune: Tune, count: int) -> Array:
    """Crackle in bursts over a low roar, or the dust of an old record."""
    density = rng.uniform(8, 60)
    out = crackle(rng, count, density) * wander(rng, count, 0.8, 0.2)
    out += 2.0 * filtered(crackle(rng, count, density / 6), (300, 2500), "bandpass", 1)
    roar = coloured(rng, count, 1.5) * wander(rng, count, 4.0, 0.4)
    return out + np.float32(rng.uniform(0.01, 0.12)) * filtered(roar, 600)


def _water(rng: Rng, tune: Tune, count: int) -> Array:
    """Bubbles: short sines that rise as they come up (M. Minnaert, 1933), over a stream."""
    stream = filtered(noise(rng, 2, count), (350, 3500), "bandpass", 1) * wander(rng, count, 1.5, 0.2)
    bubbles = []
    for _ in range(round(rng.uniform(6, 40) * count / SR)):
        t = seconds(rng.uniform(0.02, 0.14))
        cycles = np.cumsum(rng.uniform(350, 2800) * (1 + rng.uniform(0.0, 6.0) * t)) / SR
        bubbles.append(np.sin(2 * np.pi * cycles) * np.exp(-4.5 * t / t[-1]) * np.minimum(1, t / 0.002))
    return _scattered(np.float32(rng.uniform(0.02, 0.2)) * stream, rng, bubbles, 0.35)


def _machine(rng: Rng, tune: Tune, count: int) -> Array:
    """A motor, a fan or a train under changing load: bangs and hum that follow what turns, and air chopped by it."""
    load = wander(rng, count, rng.uniform(0.15, 0.6), 0.0).astype(np.float64)
    phase = np.cumsum(log_uniform(rng, 1.5, 70) * 2.0 ** (rng.uniform(0.1, 1.3) * load) / SR)
    cycle = (phase % 1.0).astype(np.float32)
    chop = np.exp(-cycle * np.float32(rng.uniform(2, 12))) * np.minimum(1, cycle / 0.02)
    low = rng.uniform(150, 2500)
    air = filtered(noise(rng, 2, count), (low, low * rng.uniform(1.5, 6)), "bandpass", 1)
    # Every cylinder bangs as loud as it likes; the body around them rings.
    bangs = chop * np.resize(rng.uniform(0.5, 1.0, 4), int(phase[-1]) + 2)[phase.astype(np.int64)]
    bangs = bangs * (0.6 + 0.4 * filtered(noise(rng, count), 400))
    rings = [log_uniform(rng, 60, 1500) for _ in range(4)]
    body = np.sum([filtered(bangs, (hz, 1.25 * hz), "bandpass", 1) for hz in rings], axis=0)
    hum = 0.3 * np.sin(2 * np.pi * phase * float(rng.integers(8, 40)) + 0.6 * np.sin(2 * np.pi * phase)) * load
    mono = (body + rng.uniform(0.0, 0.4) * hum) * (0.4 + 0.6 * load)
    return mono + air * chop * np.float32(rng.uniform(0.1, 0.9)) * (0.3 + 0.7 * load)


def _radio(rng: Rng, tune: Tune, count: int) -> Array:
    """A receiver between stations: hiss, whistles that move, Morse and bursts, through a small speaker."""
    out = 0.5 * filtered(noise(rng, count), (400, 3800), "bandpass") * wander(rng, count, 1.2, 0.2)
    beat_hz = 900 * 2.0 ** (1.6 * wander(rng, count, 0.25).astype(np.float64))
    out += 0.35 * np.sin(2 * np.pi * np.cumsum(beat_hz) / SR) * np.clip(wander(rng, count, 0.3), 0, 1)
    dot, pitch = rng.uniform(0.04, 0.09), rng.uniform(450, 1100)
    keyed = np.repeat(rng.integers(0, 2, int(count / SR / dot) + 2), max(1, round(dot * SR)))[:count]
    keyed = filtered(keyed.astype(np.float32), 60) * (wander(rng, count, 0.15) > 0.1)
    out += 0.5 * np.sin(2 * np.pi * pitch * np.arange(count) / SR) * keyed
    return filtered(np.tanh(1.5 * out), (300, 3600), "bandpass") + np.float32(0.02) * noise(rng, 2, count)


def _grains(rng: Rng, tune: Tune, count: int) -> Array:
    """A cloud of grains cut out of one sound, at steps of the scale and of other sizes (C. Roads, Microsound, 2001)."""
    source = str(rng.choice(["string", "bar", "tone", "stab", "noise"]))
    pitch = tune.pitch(0, 4)
    if source == "noise":
        material = filtered(coloured(rng, 2 * SR, 1.0), rng.uniform(1500, 9000))
    elif source == "stab":
        material = stab(rng, tune.chord(0, 55), str(rng.choice(["rave", "piano", "strings"])))
    else:
        tables: dict[str, dict[str, tp.Any]] = {"string": STRINGS, "bar": BARS, "tone": TONES}
        instrument = tables[source][str(rng.choice(list(tables[source])))]
        material = np.stack([instrument.strike(rng, pitch, 0.9)] * 2)
    size = rng.uniform(0.02, 0.16)
    density = min(rng.uniform(6, 45), 4.0 / size)
    ratios = 2.0 ** ((np.array([tune.pitch(step, 4) for step in (-7, -3, 0, 0, 0, 2, 4, 7)]) - pitch) / 12)
    pitched = np.clip(ratios if rng.random() < 0.7 else ratios * rng.uniform(0.6, 1.6, ratios.size), 0.3, 3.5)
    where, crowd = wander(rng, count, 0.3, 0.0), wander(rng, count, 0.4, 0.1)
    out = np.zeros((2, count), np.float32)
    for at in rng.integers(0, count, round(density * count / SR)):
        if rng.random() > crowd[at]:
            continue
        length = round(size * rng.uniform(0.6, 1.5) * SR)
        last = max(0, material.shape[1] - length)
        first = int(np.clip(where[at] * last + rng.normal(0, 0.02 * SR), 0, last))
        grain = varispeed(material[:, first : first + length], float(rng.choice(pitched)))
        grain = grain[:, :: int(rng.choice([-1, 1, 1]))] * np.hanning(grain.shape[1])
        place(out, grain, int(at), rng.uniform(0.3, 1.0), rng.uniform(-0.9, 0.9))
    return out


NOISES = {
    "coloured noise": _colours,
    "wind": _wind,
    "surf": _surf,
    "rain": _rain,
    "fire crackle": _fire,
    "water": _water,
    "machine": _machine,
    "radio": _radio,
    "granular cloud": _grains,
}


def texture(rng: Rng, tune: Tune, count: int, variety: str) -> Array:
    """One of `NOISES` [2, T]."""
    return NOISES[variety](rng, tune, count).astype(np.float32)
