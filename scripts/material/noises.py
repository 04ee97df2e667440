"""Noise: weather, fire, water, machines, radio, grains, and plain colours that move."""

import numpy as np
from scipy import fft

from .dsp import SR, Array, edges, filtered, noise, place, seconds, swept, varispeed, wander
from .harmony import bell, stab
from .plucks import BARS, STRINGS
from .textures import atmosphere, crackle
from .tune import Tune

Rng = np.random.Generator


def coloured(rng: Rng, count: int, slope: float) -> Array:
    """Noise [2, T] whose power falls by `slope` x 3 dB an octave: 0 white, 1 pink, 2 brown; unit variance."""
    size = fft.next_fast_len(count, real=True)
    spectrum = fft.rfft(noise(rng, 2, size))
    hz = fft.rfftfreq(size, 1 / SR)
    # What lies below 25 Hz is not heard and would be most of brown noise.
    gain = np.maximum(hz, 25.0) ** (-0.5 * slope) * np.minimum(1.0, hz / 25.0) ** 2
    out = fft.irfft(spectrum * gain.astype(np.float32), size)[:, :count]
    return (out / out.std()).astype(np.float32)


def _colours(rng: Rng, tune: Tune, count: int) -> Array:
    """Noise of some colour through a filter that moves slowly, or in time."""
    out = coloured(rng, count, rng.uniform(-0.7, 1.7))
    kind = str(rng.choice(["lowpass", "highpass", "bandpass"]))
    low, high = sorted(np.exp(rng.uniform(np.log(80), np.log(13_000), 2)))
    way = 0.5 + 0.5 * wander(rng, count, rng.uniform(0.1, 1.5))
    if rng.random() < 0.3:
        way = 0.5 + 0.5 * np.sin(2 * np.pi * np.arange(count) / tune.beat / rng.choice([1, 2, 4, 8]))
    cutoff = low * (max(high, 1.5 * low) / low) ** way.astype(np.float64)
    if kind == "bandpass":
        out = swept(swept(out, np.maximum(cutoff / 1.6, 30), "highpass", 5), cutoff * 1.6, bands=5)
    else:
        out = swept(out, cutoff, kind)
    return out * (0.7 + 0.3 * wander(rng, count, rng.uniform(0.2, 3.0)))


def _wind(rng: Rng, tune: Tune, count: int) -> Array:
    """Gusts: brown noise and two whistling bands that rise with it."""
    gust = np.clip(0.5 + 0.5 * wander(rng, count, rng.uniform(0.15, 0.5)) + 0.12 * wander(rng, count, 3.0), 0.02, 1.2)
    base = rng.uniform(180, 500)
    out = swept(coloured(rng, count, 0.5), base * 2.0 ** (2.4 * gust.astype(np.float64)), bands=5) * gust
    for _ in range(2):
        middle = rng.uniform(400, 1500) * 2.0 ** (0.8 * gust.astype(np.float64))
        band = swept(swept(noise(rng, 2, count), middle * 0.93, "highpass", 5), middle * 1.07, bands=5)
        out += np.float32(rng.uniform(0.1, 0.8)) * band * gust**2
    return filtered(out, rng.uniform(40, 160), "highpass", 1)


def _surf(rng: Rng, tune: Tune, count: int) -> Array:
    """Waves that come in, break and run out."""
    out = np.float32(0.08) * coloured(rng, count, 1.3)
    at, pause = -2.0, rng.uniform(3.5, 8.0)
    while at * SR < count:
        length = rng.uniform(4.0, 8.0)
        t = seconds(length)
        swell = np.exp(-(((t / length - 0.35) / 0.13) ** 2)) + 0.5 * np.exp(-(((t / length - 0.6) / 0.2) ** 2))
        wave = swept(coloured(rng, t.size, 0.8), 250 + 7000 * swell**1.5, bands=5) * swell
        place(
            out, edges(wave.astype(np.float32), 0.3, 0.5), round(at * SR), rng.uniform(0.4, 1), rng.uniform(-0.6, 0.6)
        )
        at += pause * rng.uniform(0.6, 1.4)
    return out


def _rain(rng: Rng, tune: Tune, count: int) -> Array:
    """Rain that comes and goes, with single drops on something near and now and then thunder."""
    out = atmosphere(rng, "rain", count) * (0.55 + 0.45 * wander(rng, count, 0.15))
    for _ in range(round(rng.uniform(1, 12) * count / SR)):
        t = seconds(rng.uniform(0.01, 0.05))
        drop = np.sin(2 * np.pi * rng.uniform(900, 5000) * t * (1 + 3 * t)) * np.exp(-t / (t[-1] * 0.25 + 1e-4))
        place(out, drop.astype(np.float32), int(rng.integers(count)), rng.exponential(0.4), rng.uniform(-0.9, 0.9))
    if rng.random() < 0.4:
        t = seconds(min(6.0, count / SR))
        boom = swept(coloured(rng, t.size, 1.6), 80 + 900 * np.exp(-t / 0.7), bands=4)
        boom *= np.exp(-t / 1.6) * (0.6 + 0.4 * wander(rng, t.size, 5.0)) * (1 - np.exp(-t / 0.03))
        place(out, boom.astype(np.float32), int(rng.integers(max(1, count // 2))), rng.uniform(0.8, 2.0))
    return out


def _fire(rng: Rng, tune: Tune, count: int) -> Array:
    """Crackle in bursts over a low roar, or the dust of an old record."""
    density = rng.uniform(8, 60)
    out = crackle(rng, count, density) * (0.6 + 0.4 * wander(rng, count, 0.8))
    out += 2.0 * filtered(crackle(rng, count, density / 6), (300, 2500), "bandpass", 1)
    roar = coloured(rng, count, 1.5) * (0.7 + 0.3 * wander(rng, count, 4.0))
    return out + np.float32(rng.uniform(0.01, 0.12)) * filtered(roar, 600)


def _water(rng: Rng, tune: Tune, count: int) -> Array:
    """Bubbles: short sines that rise as they come up (M. Minnaert, 1933), over a stream."""
    stream = filtered(noise(rng, 2, count), (350, 3500), "bandpass", 1) * (0.6 + 0.4 * wander(rng, count, 1.5))
    out = np.float32(rng.uniform(0.02, 0.2)) * stream
    for _ in range(round(rng.uniform(6, 40) * count / SR)):
        length = rng.uniform(0.02, 0.14)
        t = seconds(length)
        hz = rng.uniform(350, 2800) * (1 + rng.uniform(0.0, 6.0) * t)
        bubble = np.sin(2 * np.pi * np.cumsum(hz) / SR) * np.exp(-4.5 * t / length) * np.minimum(1, t / 0.002)
        place(out, bubble.astype(np.float32), int(rng.integers(count)), rng.exponential(0.35), rng.uniform(-0.8, 0.8))
    return out


def _machine(rng: Rng, tune: Tune, count: int) -> Array:
    """A motor, a fan or a train under changing load: bangs and hum that follow what turns, and air chopped by it."""
    load = 0.5 + 0.5 * wander(rng, count, rng.uniform(0.15, 0.6)).astype(np.float64)
    turns = np.exp(rng.uniform(np.log(1.5), np.log(70))) * 2.0 ** (rng.uniform(0.1, 1.3) * load)
    phase = np.cumsum(turns / SR)
    cycle = (phase % 1.0).astype(np.float32)
    chop = np.exp(-cycle * np.float32(rng.uniform(2, 12))) * np.minimum(1, cycle / 0.02)
    low = rng.uniform(150, 2500)
    air = filtered(noise(rng, 2, count), (low, low * rng.uniform(1.5, 6)), "bandpass", 1)
    # Every cylinder bangs as loud as it likes; the body around them rings.
    bangs = chop * np.resize(rng.uniform(0.5, 1.0, 4), int(phase[-1]) + 2)[phase.astype(np.int64)]
    bangs = bangs * (0.6 + 0.4 * filtered(noise(rng, count), 400))
    body = sum(
        filtered(bangs, (hz, 1.25 * hz), "bandpass", 1) for hz in np.exp(rng.uniform(np.log(60), np.log(1500), 4))
    )
    hum = 0.3 * np.sin(2 * np.pi * phase * float(rng.integers(8, 40)) + 0.6 * np.sin(2 * np.pi * phase)) * load
    mono = (body + rng.uniform(0.0, 0.4) * hum) * (0.4 + 0.6 * load)
    return mono + air * chop * np.float32(rng.uniform(0.1, 0.9)) * (0.3 + 0.7 * load)


def _radio(rng: Rng, tune: Tune, count: int) -> Array:
    """A receiver between stations: hiss, whistles that move, Morse and bursts, through a small speaker."""
    hiss = filtered(noise(rng, count), (400, 3800), "bandpass") * (0.6 + 0.4 * wander(rng, count, 1.2))
    out = 0.5 * hiss
    beat_hz = 900 * 2.0 ** (1.6 * wander(rng, count, 0.25).astype(np.float64))
    out += 0.35 * np.sin(2 * np.pi * np.cumsum(beat_hz) / SR) * np.clip(wander(rng, count, 0.3), 0, 1)
    dot, pitch = rng.uniform(0.04, 0.09), rng.uniform(450, 1100)
    keyed = np.repeat(rng.integers(0, 2, int(count / SR / dot) + 2), max(1, round(dot * SR)))[:count]
    keyed = filtered(keyed.astype(np.float32), 60) * (wander(rng, count, 0.15) > 0.1)
    out += 0.5 * np.sin(2 * np.pi * pitch * np.arange(count) / SR) * keyed
    out = filtered(np.tanh(1.5 * out), (300, 3600), "bandpass")
    return np.stack([out, out]) + np.float32(0.02) * noise(rng, 2, count)


def _grains(rng: Rng, tune: Tune, count: int) -> Array:
    """A cloud of grains cut out of one sound, at steps of the scale and of other sizes (C. Roads, Microsound, 2001)."""
    source = str(rng.choice(["string", "bar", "bell", "stab", "noise"]))
    pitch = tune.pitch(0, 4)
    if source == "noise":
        material = filtered(coloured(rng, 2 * SR, 1.0), rng.uniform(1500, 9000))
    elif source == "bell":
        material = bell(rng, round(pitch), 2.0)
    elif source == "stab":
        material = stab(rng, tune.chord(0, 55), str(rng.choice(["rave", "piano", "strings"])))
    else:
        table = STRINGS if source == "string" else BARS
        player = table[str(rng.choice(list(table)))]
        material = np.stack([player.strike(rng, pitch, 0.9)] * 2)
    size = rng.uniform(0.02, 0.16)
    density = min(rng.uniform(6, 45), 4.0 / size)
    ratios = 2.0 ** ((np.array([tune.pitch(step, 4) for step in (-7, -3, 0, 0, 0, 2, 4, 7)]) - pitch) / 12)
    pitched = np.clip(ratios if rng.random() < 0.7 else ratios * rng.uniform(0.6, 1.6, ratios.size), 0.3, 3.5)
    where, crowd = 0.5 + 0.5 * wander(rng, count, 0.3), 0.55 + 0.45 * wander(rng, count, 0.4)
    out = np.zeros((2, count), np.float32)
    for at in rng.integers(0, count, round(density * count / SR)):
        if rng.random() > crowd[at]:
            continue
        length = round(size * rng.uniform(0.6, 1.5) * SR)
        first = int(where[at] * max(1, material.shape[1] - length) + rng.normal(0, 0.02 * SR))
        first = int(np.clip(first, 0, max(0, material.shape[1] - length)))
        grain = varispeed(material[:, first : first + length], float(rng.choice(pitched)))
        grain = grain * np.hanning(grain.shape[1]).astype(np.float32)
        place(
            out, grain[:, ::-1] if rng.random() < 0.3 else grain, int(at), rng.uniform(0.3, 1.0), rng.uniform(-0.9, 0.9)
        )
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
