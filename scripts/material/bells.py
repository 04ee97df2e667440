"""Bells, bowls and gongs as clouds of modes, and tones by frequency modulation (J. Chowning, 1973)."""

from dataclasses import dataclass

import numpy as np

from .drums import modes
from .dsp import SR, Array, edges, filtered, midi_hz, noise, seconds
from .plucks import perform
from .tune import FIGURES, Tune

Rng = np.random.Generator


@dataclass(frozen=True)
class Cast:
    """One kind of bell: ratios to the pitch heard, levels, seconds to 1/e at middle C, register, doublets, blow."""

    ratios: tuple[float, ...]
    levels: tuple[float, ...]
    decays: tuple[float, ...]
    octave: int
    split: float
    clapper_hz: float

    def strike(self, rng: Rng, pitch: float, force: float) -> Array:
        """A blow [T]; every mode is two that beat, for no bell is quite round."""
        size = len(self.ratios)
        hz = np.repeat(midi_hz(pitch) * np.array(self.ratios), 2)
        hz *= 1.0 + self.split * np.tile([-0.5, 0.5], size) * rng.uniform(0.3, 1.7, 2 * size)
        levels = np.repeat(np.array(self.levels) * (0.45 + 0.55 * force) ** (0.5 * np.arange(size)), 2)
        levels *= np.tile([1.0, 0.6], size) * rng.uniform(0.6, 1.2, 2 * size)
        decays = np.repeat(self.decays, 2) * (260.0 / midi_hz(pitch)) ** 0.5 * rng.uniform(0.85, 1.15, 2 * size)
        kept = hz < 18_000
        count = round(min(7.0, 3.5 * decays.max()) * SR)
        out = modes(count, hz[kept], levels[kept], decays[kept], rng.uniform(0, 6.28, 2 * size)[kept])
        t = seconds(0.06)
        blow = filtered(noise(rng, t.size), (300, self.clapper_hz), "bandpass", 1) * np.exp(-t / 0.008)
        out[: t.size] += 1.2 * force * blow
        return edges(out, 0.0008, 0.4)


# Church bell after Fletcher and Rossing, ch. 21: hum, prime, tierce, quint, nominal and what lies above.
CASTS = {
    "church bell": Cast(
        (0.5, 1.0, 1.19, 1.5, 2.0, 2.52, 2.66, 3.01, 4.17, 5.43, 6.79),
        (0.6, 0.7, 0.9, 0.3, 1.0, 0.35, 0.3, 0.5, 0.3, 0.2, 0.12),
        (3.4, 2.2, 1.9, 1.2, 1.3, 0.7, 0.6, 0.6, 0.35, 0.22, 0.15),
        4,
        0.0022,
        3000,
    ),
    "tubular bell": Cast(
        (0.44, 1.0, 1.55, 2.0, 2.96, 4.0, 5.2, 6.6),
        (0.2, 0.5, 0.4, 1.0, 0.8, 0.6, 0.35, 0.2),
        (1.8, 1.9, 1.5, 1.7, 1.1, 0.8, 0.5, 0.3),
        4,
        0.0008,
        4500,
    ),
    "singing bowl": Cast((1.0, 2.71, 5.15, 8.43), (1.0, 0.5, 0.2, 0.08), (3.8, 2.0, 0.9, 0.4), 3, 0.006, 900),
    "hand bell": Cast((1.0, 3.0, 5.4, 7.9), (1.0, 0.7, 0.2, 0.1), (1.4, 0.8, 0.3, 0.2), 5, 0.0012, 6000),
}


def gong(rng: Rng, pitch: float, force: float) -> Array:
    """A gong or tam-tam [T]: low modes at once, then the upper ones bloom as the bronze passes energy on."""
    base = midi_hz(pitch)
    count = round(6.0 * SR)
    t = np.arange(count) / SR
    ratios = 1.0 + rng.uniform(0.0, 1.0, 56) ** 1.5 * 22.0
    ratios[:3] = (1.0, 1.52, 2.03)
    hz = base * ratios
    levels = rng.exponential(1.0, 56).clip(0.1, 2.0) / ratios**0.55
    decays = 3.0 / ratios**0.5 * rng.uniform(0.7, 1.2, 56)
    phases = rng.uniform(0, 6.28, 56)
    low = hz < 5.0 * base
    out = modes(count, hz[low], levels[low], decays[low], phases[low])
    high = (~low) & (hz < 16_000)
    out += modes(count, hz[high], levels[high], decays[high], phases[high]) * (1 - np.exp(-t / 0.35)) * 1.6 * force
    blow = filtered(noise(rng, count), 500 + 900 * force) * np.exp(-t / 0.03)
    return edges(out + blow, 0.003, 1.2)


@dataclass(frozen=True)
class Operators:
    """Two sine operators: the modulator's ratio, its index from the blow to what stays, times to 1/e, register."""

    ratio: float
    index: float
    rest: float
    fall: float
    attack: float
    decay: float
    octave: int
    second: float = 0.0  # level of a modulator at 14 times the pitch: the tine of an electric piano

    def strike(self, rng: Rng, pitch: float, force: float) -> Array:
        hz = midi_hz(pitch)
        decay = self.decay * (260.0 / hz) ** 0.35
        t = seconds(min(5.0, 4.0 * decay))
        ratio = self.ratio * rng.normal(1.0, 0.0015)
        # Fewer sidebands for high notes: beyond half the rate they would come back as other ones.
        room = min(1.0, 7000.0 / (hz * (1 + ratio)))
        index = room * (0.35 + 0.65 * force) * (self.rest + (self.index - self.rest) * np.exp(-t / self.fall))
        drift = 1.0 + 0.0012 * np.sin(2 * np.pi * rng.uniform(4.0, 6.0) * t + rng.uniform(0, 6.28))
        cycle = 2 * np.pi * hz * np.cumsum(drift) / SR
        bend = index * np.sin(ratio * cycle)
        if self.second and 14 * hz < 14_000:
            bend += self.second * force * np.sin(14.0 * cycle) * np.exp(-t / 0.12)
        out = np.sin(cycle + bend) * np.exp(-t / decay) * (1 - np.exp(-t / self.attack))
        return edges(out, 0.001, 0.06)


TONES = {
    "electric piano": Operators(1.0, 1.6, 0.4, 0.5, 0.001, 1.1, 4, 0.5),
    "fm bell": Operators(3.5, 3.2, 0.1, 1.1, 0.001, 1.5, 5),
    "fm chime": Operators(1.414, 4.5, 0.3, 1.6, 0.002, 1.9, 4),
    "fm brass": Operators(1.0, 0.6, 3.6, 0.09, 0.04, 1.0, 3),
    "fm bass": Operators(2.0, 4.5, 0.8, 0.12, 0.001, 0.5, 2),
    "fm clang": Operators(2.76, 7.0, 1.0, 0.4, 0.001, 0.7, 3),
    "fm reed": Operators(2.0, 1.2, 2.2, 0.2, 0.025, 0.9, 4),
}
BELLS = (*CASTS, "gong", *TONES)


def bell(rng: Rng, tune: Tune, count: int, variety: str) -> Array:
    """A figure on one of `BELLS` [2, T]; large bells are struck seldom and ring into one another."""
    width = rng.uniform(0.1, 0.9)
    if variety == "gong":
        notes = FIGURES["sparse"](rng, tune, count, int(rng.integers(1, 4)))[:: int(rng.integers(1, 4))]
        return perform(rng, notes, count, gong, width)
    if variety in CASTS:
        cast = CASTS[variety]
        figure = str(rng.choice(["melody", "sparse", "arpeggio"], p=[0.3, 0.55, 0.15]))
        notes = FIGURES[figure](rng, tune, count, cast.octave)
        return perform(rng, notes, count, cast.strike, width, 0.3 if figure == "arpeggio" else None)
    tone = TONES[variety]
    figure = str(rng.choice(["melody", "arpeggio", "sparse", "strums"], p=[0.4, 0.25, 0.2, 0.15]))
    notes = FIGURES[figure](rng, tune, count, tone.octave + int(rng.choice([-1, 0, 0, 1])))
    return perform(rng, notes, count, tone.strike, width, float(rng.uniform(0.05, 0.4)))
