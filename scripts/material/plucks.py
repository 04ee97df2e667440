"""Plucked and struck notes: strings by Karplus-Strong, bars, tines and hammers as decaying partials."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .drums import modes
from .dsp import SR, Array, db, edges, filtered, midi_hz, noise, place, seconds, tilted, varispeed
from .tune import FIGURES, Note, Tune

Rng = np.random.Generator
Strike = Callable[[Rng, float, float], Array]  # dice, MIDI pitch, force in 0..1 -> mono sound [T]


def string(rng: Rng, pitch: float, length: float, pick_hz: float, decay: float, soft: float, position: float) -> Array:
    """A plucked string [T] (K. Karplus and A. Strong, 1983).

    Args:
        length: seconds that are rendered.
        pick_hz: where the pick's noise begins to fall off: the harder, the higher.
        decay: seconds until the lowest partial has fallen by 60 dB, or less where the filter takes more.
        soft: weight of the older tap of the loop's filter, 0 (all partials ring as long) to 0.5 (the upper ones die).
        position: of the pick along the string, 0 to 0.5; partials with a node there are missing.
    """
    hz = midi_hz(pitch)
    period = max(8, int(SR / hz))
    # The loop is a whole number of samples and the filter's delay; how fast it is played sets the exact pitch.
    speed = hz * (period + soft) / SR
    rows = int(np.ceil(length * SR * speed / period)) + 1
    spectrum = np.fft.rfft(rng.standard_normal(period))
    n = np.arange(spectrum.size)
    spectrum *= np.sin(np.pi * n * position) / (1.0 + (n * hz / pick_hz) ** 2)
    kept = abs(1.0 - soft + soft * np.exp(-2j * np.pi * hz / SR))
    loss = min(0.99999, 10.0 ** (-3.0 / (hz * decay)) / kept)
    new, old = loss * (1.0 - soft), loss * soft
    out = np.empty((rows, period))
    out[0] = np.fft.irfft(spectrum, period)
    before = 0.0
    for row in range(1, rows):
        last = out[row - 1]
        np.multiply(last, new, out=out[row])
        out[row, 1:] += old * last[:-1]
        out[row, 0] += old * before
        before = last[-1]
    return varispeed(out.reshape(-1).astype(np.float32), speed)


@dataclass(frozen=True)
class Strings:
    """One stringed instrument; ranges as `string` takes them, `body` the resonances of its box (Hz, dB)."""

    pick_hz: float
    decay: float
    soft: float
    position: float
    octave: int
    body: tuple[tuple[float, float], ...]

    def strike(self, rng: Rng, pitch: float, force: float) -> Array:
        decay = self.decay * (220.0 / midi_hz(pitch)) ** 0.5
        pick = self.pick_hz * (0.35 + 0.9 * force)
        # The filter works once a period: short strings need less of it.
        soft = self.soft * min(1.0, 300.0 / midi_hz(pitch))
        sound = string(rng, pitch, min(3.0, 0.75 * decay), pick, decay, soft, self.position * rng.uniform(0.9, 1.1))
        for hz, gain in self.body:
            sound = tilted(sound, "peak", hz, gain, 1.5)
        knock = filtered(noise(rng, round(0.02 * SR)), 2.0 * pick) * np.exp(-seconds(0.02) / 0.003)
        sound[: knock.size] += 0.1 * force * np.abs(sound[:2000]).max() * knock
        return edges(sound, 0.0006, 0.05)


STRINGS = {
    "nylon guitar": Strings(1900, 3.0, 0.4, 0.22, 3, ((105, 4), (215, 3), (1500, -3))),
    "steel guitar": Strings(5200, 5.0, 0.22, 0.13, 3, ((100, 4), (190, 4), (3200, 3))),
    "harp": Strings(2600, 3.6, 0.3, 0.35, 4, ((180, 3), (420, 2))),
    "zither": Strings(9000, 4.0, 0.12, 0.06, 4, ((330, 4), (900, 3), (2600, 4))),
    "bass string": Strings(1500, 4.5, 0.35, 0.18, 1, ((90, 3), (700, 2))),
    "muted string": Strings(2200, 0.5, 0.5, 0.25, 3, ((240, 5), (600, 3))),
}


@dataclass(frozen=True)
class Partials:
    """One instrument of decaying partials: frequency ratios, levels, seconds to 1/e, its register and its knock."""

    ratios: tuple[float, ...]
    levels: tuple[float, ...]
    decays: tuple[float, ...]
    octave: int
    knock_hz: float
    knock: float

    def strike(self, rng: Rng, pitch: float, force: float) -> Array:
        hz = midi_hz(pitch) * np.array(self.ratios) * rng.normal(1.0, 0.0006, len(self.ratios))
        kept = hz < 17_000
        index = np.arange(hz.size)
        # A hard blow brings out what lies above; a high bar dies sooner than a low one.
        levels = np.array(self.levels) * (0.4 + 0.6 * force) ** index * rng.uniform(0.85, 1.15, hz.size)
        decays = np.array(self.decays) * (440.0 / midi_hz(pitch)) ** 0.4 * rng.uniform(0.9, 1.1, hz.size)
        count = round(min(4.0, 5.0 * decays.max()) * SR)
        out = modes(count, hz[kept], levels[kept], decays[kept], rng.uniform(0, 6.28, hz.size)[kept])
        t = seconds(0.05)
        knock = filtered(noise(rng, t.size), self.knock_hz) * np.exp(-t / 0.006) * self.knock * force
        out[: t.size] += knock[:count]
        return edges(out * (1 - np.exp(-np.arange(count) / SR / 0.0008)), 0.0003, 0.03)


def _stretched(count: int, tilt: float, stiffness: float, decay: float, node: float) -> Partials:
    """A stiff string under a hammer: partials spread upwards, those with a node where it strikes are weak."""
    n = np.arange(1, count + 1)
    ratios = n * np.sqrt(1 + stiffness * n * n)
    levels = (0.1 + np.abs(np.sin(np.pi * n * node))) / n**tilt
    decays = decay / (1 + 0.45 * (n - 1))
    return Partials(tuple(ratios), tuple(levels), tuple(decays), 4, 1800.0, 0.25)


# Ratios of bars and tines: N. Fletcher and T. Rossing, The Physics of Musical Instruments, 1998, ch. 19.
BARS = {
    "marimba": Partials((1, 3.93, 9.24), (1, 0.3, 0.12), (0.42, 0.15, 0.05), 3, 1200, 0.5),
    "vibraphone": Partials((1, 3.98, 10.2, 17.9), (1, 0.32, 0.15, 0.06), (1.5, 0.7, 0.3, 0.15), 4, 2500, 0.2),
    "kalimba": Partials((1, 2.02, 5.9, 9.1), (1, 0.15, 0.2, 0.07), (0.6, 0.3, 0.12, 0.06), 4, 2600, 0.4),
    "music box": Partials((1, 2.01, 6.27, 11.6), (1, 0.12, 0.45, 0.15), (1.1, 0.5, 0.35, 0.15), 5, 7000, 0.3),
    "glasses": Partials((1, 2.32, 4.25, 6.63, 9.38), (1, 0.5, 0.3, 0.2, 0.1), (0.9, 0.6, 0.4, 0.3, 0.2), 5, 9000, 0.1),
    "piano": _stretched(18, 0.95, 3.5e-4, 1.3, 1 / 7.6),
    "harpsichord": _stretched(26, 0.35, 1e-4, 0.9, 1 / 5.3),
}
PLUCKS = (*STRINGS, *BARS)


def perform(rng: Rng, notes: list[Note], count: int, strike: Strike, width: float, damp: float | None = None) -> Array:
    """`notes` played on one instrument [2, T] of `count` samples.

    Every pitch has a few takes, soft and hard, so that repeated notes differ a little, as on a real one.

    Args:
        width: how far low and high notes stand apart, 0 to 1.
        damp: seconds of fade once a note's length is over; None lets it ring.
    """
    takes: dict[tuple[int, int, int], Array] = {}
    out = np.zeros((2, count), np.float32)
    for note in notes:
        force = int(note.velocity > 0.55) + int(note.velocity > 0.8)
        name = (round(note.pitch * 100), force, int(rng.integers(2)))
        if name not in takes:
            takes[name] = strike(rng, note.pitch, (0.35, 0.65, 1.0)[force])
        sound = takes[name]
        if damp is not None:
            kept = min(sound.shape[-1], round((note.length + damp) * SR))
            sound = edges(sound[..., :kept], 0.0, damp)
        pan = float(np.clip(width * ((note.pitch - 60) / 24 + rng.normal(0, 0.1)), -0.8, 0.8))
        place(out, sound, note.at, db(-24.0 * (1.0 - note.velocity)), pan)
    return out


def pluck(rng: Rng, tune: Tune, count: int, variety: str) -> Array:
    """A figure on one of `PLUCKS` [2, T]: a melody, an arpeggio, strums, or single notes."""
    player = STRINGS[variety] if variety in STRINGS else BARS[variety]
    figures = ["melody", "arpeggio", "sparse", "strums"]
    chances = [0.5, 0.15, 0.35, 0.0] if variety == "bass string" else [0.3, 0.3, 0.2, 0.2]
    figure = FIGURES[str(rng.choice(figures, p=chances))]
    octave = player.octave + (int(rng.choice([-1, 0, 0, 0, 1])) if player.octave > 1 else 0)
    notes = figure(rng, tune, count, octave)
    damp = float(rng.uniform(0.04, 0.15)) if rng.random() < 0.4 else None
    out = perform(rng, notes, count, player.strike, rng.uniform(0.0, 0.9), damp)
    if variety == "vibraphone":
        t = np.arange(count) / SR
        out *= (1.0 - rng.uniform(0.1, 0.5) * (0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(3, 7) * t))).astype(
            np.float32
        )
    return out
