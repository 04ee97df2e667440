"""What makes sound out of numbers: sums of sines, oscillators, and instruments that are rows of a table."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .dsp import SR, Array, Rng, burst, edges, midi_hz, saw, seconds, spread, tilted, varispeed, wander

BLOCK = 256  # samples from one amplitude of `stack` to the next


def _summed(coarse: Array, fine: Array) -> Array:
    """Imaginary part of the sum over m of coarse [M, A] times fine [M, B], as [A, B].

    einsum and not @: BLAS may sum in another order on another number of threads, and the seed pins every bit.
    """
    return np.einsum("ma,mb->ab", coarse.real, fine.imag) + np.einsum("ma,mb->ab", coarse.imag, fine.real)


def modes(count: int, hz: Array, gains: Array, decays: Array, phases: Array) -> Array:
    """Sum of `count` samples of many decaying sines [T].

    A decaying sine is the imaginary part of c z^n. With n = 256 a + b, z^n is a product of two short tables, so the sum
    over all sines is one small matrix product.
    """
    log_z = (2j * np.pi * hz - 1.0 / decays)[:, None] / SR
    coarse = (gains * np.exp(1j * phases))[:, None] * np.exp(log_z * (BLOCK * np.arange(-(-count // BLOCK))))
    return _summed(coarse, np.exp(log_z * np.arange(BLOCK))).reshape(-1)[:count]


def stack(count: int, hz: Array, levels: Array, phases: Array) -> Array:
    """Steady sines [T] whose amplitudes move in straight lines between points; made as `modes` are.

    Args:
        hz: [M] frequencies.
        levels: [M, A] amplitudes at every `BLOCK`-th sample; A is at least ceil(T / BLOCK) + 1.
        phases: [M] radians.
    """
    blocks = -(-count // BLOCK)
    turn = 2j * np.pi * hz[:, None] / SR
    fine = np.exp(turn * np.arange(BLOCK))
    coarse = np.exp(turn * (BLOCK * np.arange(blocks)) + 1j * phases[:, None])
    ramp = fine * (np.arange(BLOCK) / BLOCK)  # the way of an amplitude from one block to the next
    out = _summed(coarse * levels[:, :blocks], fine) + _summed(coarse * np.diff(levels[:, : blocks + 1]), ramp)
    return out.reshape(-1)[:count]


def moving(rng: Rng, size: int, count: int, rate: float, low: float = 0.0) -> Array:
    """`size` slow random curves [size, A] between `low` and 1, as `stack` takes levels."""
    points = -(-count // BLOCK) + 1
    return np.stack([wander(rng, points * BLOCK, rate, low, 1.0)[::BLOCK] for _ in range(size)])


def bent(t: Array, clock: Array, hz: Array, gains: Array, decays: Array) -> Array:
    """Sum of decaying sines [T] at times `t`; `clock` [T] is a time that runs fast at first, so pitch falls."""
    rows = zip(hz, gains, decays)
    return np.sum([g * np.sin(2 * np.pi * f * clock) * np.exp(-t / d) for f, g, d in rows], axis=0)


def harmonics(hz: Array, levels: Sequence[float] | Array) -> Array:
    """Harmonics with the given levels along `hz` [T]; each falls silent before it would pass half the rate."""
    cycle = (2 * np.pi * (np.cumsum(hz / SR) % 1.0)).astype(np.float32)
    out = np.zeros(hz.size, np.float32)
    for number, level in enumerate(levels, start=1):
        if number * hz.min() < 19_000 and level > 0.003:
            room = np.clip((19_500 - number * hz) / 2500, 0, 1).astype(np.float32)
            out += np.float32(level) * room * np.sin(number * cycle)
    return out


def oscillators(rng: Rng, pitch: Array, voices: int, cents: float, wave: str = "saw") -> Array:
    """Detuned oscillators [2, T] along `pitch` [T] (MIDI), spread over the stereo field, each with a drift of its own.

    Args:
        cents: how far the outermost voices are from the pitch.
        wave: 'saw', 'pulse' or 'sine' (with a few overtones).
    """
    out = np.zeros((2, pitch.size), np.float32)
    base = 440.0 * 2.0 ** ((pitch - 69.0) / 12.0) / SR
    for place_in in np.linspace(-1.0, 1.0, voices) if voices > 1 else [0.0]:
        step = base * 2.0 ** ((place_in * cents + rng.normal(0, 1.5) + 3.0 * wander(rng, pitch.size, 0.4)) / 1200.0)
        phase = np.cumsum(step) + rng.random()
        if wave == "sine":
            cycle = 2 * np.pi * (phase % 1.0)
            sound = np.sin(cycle + 1.2 * np.sin(cycle) + 0.4 * np.sin(2 * cycle))
        else:
            sound = saw(phase, step)
            if wave == "pulse":
                sound = sound - saw(phase + wander(rng, pitch.size, 0.5, 0.12, 0.88), step)
        out += spread(sound, 0.75 * place_in * rng.choice([-1, 1]))
    return out / np.float32(np.sqrt(voices))


def chord(rng: Rng, notes: Sequence[float], t: Array, voices: int, cents: float, wave: str = "saw") -> Array:
    """`notes` held on `oscillators` [2, T]."""
    parts = [oscillators(rng, np.full(t.size, float(note)), voices, cents, wave) for note in notes]
    return np.sum(parts, axis=0) / np.float32(np.sqrt(len(notes)))


@dataclass(frozen=True)
class Partials:
    """An instrument of decaying partials: a bar, a bell, a hammered string.

    Attributes:
        ratios, levels, decays: of the partials: frequency over the pitch, amplitude, seconds to 1/e at `home`.
        octave: its register (4 holds middle C).
        knock_hz, knock: the noise of the blow and how loud it is.
        split: how far the two modes of a partial lie apart, which beat (no bell is quite round); 0 for one mode.
        home: Hz of the pitch that the decays are for; what is higher dies sooner.
    """

    ratios: tuple[float, ...]
    levels: tuple[float, ...]
    decays: tuple[float, ...]
    octave: int
    knock_hz: float
    knock: float
    split: float = 0.0
    home: float = 440.0

    def strike(self, rng: Rng, pitch: float, force: float) -> Array:
        """A blow [T]; a hard one brings out what lies above."""
        size, hz = len(self.ratios), midi_hz(pitch)
        levels = np.array(self.levels) * (0.42 + 0.58 * force) ** (np.arange(size) * (0.5 if self.split else 1.0))
        table = np.array([hz * np.array(self.ratios), levels, np.array(self.decays) * (self.home / hz) ** 0.45])
        if self.split:
            table = np.repeat(table, 2, axis=1)
            table[0] *= 1.0 + self.split * np.tile([-0.5, 0.5], size) * rng.uniform(0.3, 1.7, 2 * size)
            table[1] *= np.tile([1.0, 0.6], size)
        table *= 1.0 + np.array([[0.0006], [0.1], [0.08]]) * rng.normal(0, 1, table.shape).clip(-2, 2)
        table = table[:, table[0] < 17_500]
        count = round(min(7.0, 4.0 * table[2].max()) * SR)
        hzs, levels, decays = table
        out = modes(count, hzs, levels, decays, rng.uniform(0, 6.28, hzs.size))
        t = np.arange(count) / SR
        out += burst(rng, t, self.knock_hz, 0.007) * self.knock * force
        return edges(out * (1 - np.exp(-t / 0.0008)), 0.0003, min(0.4, 0.1 * count / SR))


def _stretched(count: int, tilt: float, stiffness: float, decay: float, node: float) -> Partials:
    """A stiff string under a hammer: partials spread upwards, those with a node where it strikes are weak."""
    n = np.arange(1, count + 1)
    levels = (0.1 + np.abs(np.sin(np.pi * n * node))) / n**tilt
    ratios, decays = n * np.sqrt(1 + stiffness * n * n), decay / (1 + 0.45 * (n - 1))
    return Partials(tuple(ratios), tuple(levels), tuple(decays), 4, 1800, 0.25)


# Ratios of bars and tines: N. Fletcher and T. Rossing, The Physics of Musical Instruments, 1998, ch. 19; of the church
# bell ch. 21: hum, prime, tierce, quint, nominal and what lies above.
BARS = {
    "marimba": Partials((1, 3.93, 9.24), (1, 0.3, 0.12), (0.42, 0.15, 0.05), 3, 1200, 0.5),
    "vibraphone": Partials((1, 3.98, 10.2, 17.9), (1, 0.32, 0.15, 0.06), (1.5, 0.7, 0.3, 0.15), 4, 2500, 0.2),
    "kalimba": Partials((1, 2.02, 5.9, 9.1), (1, 0.15, 0.2, 0.07), (0.6, 0.3, 0.12, 0.06), 4, 2600, 0.4),
    "music box": Partials((1, 2.01, 6.27, 11.6), (1, 0.12, 0.45, 0.15), (1.1, 0.5, 0.35, 0.15), 5, 7000, 0.3),
    "glasses": Partials((1, 2.32, 4.25, 6.63, 9.38), (1, 0.5, 0.3, 0.2, 0.1), (0.9, 0.6, 0.4, 0.3, 0.2), 5, 9000, 0.1),
    "piano": _stretched(18, 0.95, 3.5e-4, 1.3, 1 / 7.6),
    "harpsichord": _stretched(26, 0.35, 1e-4, 0.9, 1 / 5.3),
}
CHURCH = (0.5, 1.0, 1.19, 1.5, 2.0, 2.52, 2.66, 3.01, 4.17, 5.43, 6.79)
CHURCH_LEVELS = (0.6, 0.7, 0.9, 0.3, 1.0, 0.35, 0.3, 0.5, 0.3, 0.2, 0.12)
CHURCH_DECAYS = (3.4, 2.2, 1.9, 1.2, 1.3, 0.7, 0.6, 0.6, 0.35, 0.22, 0.15)
TUBE = (0.44, 1.0, 1.55, 2.0, 2.96, 4.0, 5.2, 6.6)
TUBE_LEVELS, TUBE_DECAYS = (0.2, 0.5, 0.4, 1.0, 0.8, 0.6, 0.35, 0.2), (1.8, 1.9, 1.5, 1.7, 1.1, 0.8, 0.5, 0.3)
BOWL, HAND = (1.0, 2.71, 5.15, 8.43), (1.0, 3.0, 5.4, 7.9)
CASTS = {
    "church bell": Partials(CHURCH, CHURCH_LEVELS, CHURCH_DECAYS, 4, 3000, 1.2, 0.0022, 260),
    "tubular bell": Partials(TUBE, TUBE_LEVELS, TUBE_DECAYS, 4, 4500, 1.2, 0.0008, 260),
    "singing bowl": Partials(BOWL, (1.0, 0.5, 0.2, 0.08), (3.8, 2.0, 0.9, 0.4), 3, 900, 1.2, 0.006, 260),
    "hand bell": Partials(HAND, (1.0, 0.7, 0.2, 0.1), (1.4, 0.8, 0.3, 0.2), 5, 6000, 1.2, 0.0012, 260),
}


def gong(rng: Rng, pitch: float, force: float) -> Array:
    """A gong or tam-tam [T]: low modes at once, then the upper ones bloom as the bronze passes energy on."""
    t = seconds(6.0)
    ratios = np.concatenate([[1.0, 1.52, 2.03], 1.0 + rng.uniform(0.0, 1.0, 53) ** 1.5 * 22.0])
    hz = midi_hz(pitch) * ratios
    levels = rng.exponential(1.0, 56).clip(0.1, 2.0) / ratios**0.55
    table = np.array([hz, levels, 3.0 / ratios**0.5 * rng.uniform(0.7, 1.2, 56), rng.uniform(0, 6.28, 56)])
    out = modes(t.size, *table[:, ratios < 5.0])
    out += modes(t.size, *table[:, (ratios >= 5.0) & (hz < 16_000)]) * (1 - np.exp(-t / 0.35)) * 1.6 * force
    return edges(out + burst(rng, t, 500 + 900 * force, 0.03), 0.003, 1.2)


@dataclass(frozen=True)
class Operators:
    """An instrument of two sine operators, frequency modulation (J. Chowning, 1973).

    Attributes:
        ratio: the modulator's frequency over the pitch.
        index, rest, fall: how far it bends the carrier at the blow, what stays of that, and seconds to 1/e between.
        attack, decay: seconds of the loudness to 1/e.
        octave: its register.
        tine: level of a second modulator at 14 times the pitch: the tine of an electric piano.
    """

    ratio: float
    index: float
    rest: float
    fall: float
    attack: float
    decay: float
    octave: int
    tine: float = 0.0

    def strike(self, rng: Rng, pitch: float, force: float) -> Array:
        """A note [T]."""
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
        if 14 * hz < 14_000:
            bend += self.tine * force * np.sin(14.0 * cycle) * np.exp(-t / 0.12)
        return edges(np.sin(cycle + bend) * np.exp(-t / decay) * (1 - np.exp(-t / self.attack)), 0.001, 0.06)


TONES = {
    "electric piano": Operators(1.0, 1.6, 0.4, 0.5, 0.001, 1.1, 4, 0.5),
    "fm bell": Operators(3.5, 3.2, 0.1, 1.1, 0.001, 1.5, 5),
    "fm chime": Operators(1.414, 4.5, 0.3, 1.6, 0.002, 1.9, 4),
    "fm brass": Operators(1.0, 0.6, 3.6, 0.09, 0.04, 1.0, 3),
    "fm bass": Operators(2.0, 4.5, 0.8, 0.12, 0.001, 0.5, 2),
    "fm clang": Operators(2.76, 7.0, 1.0, 0.4, 0.001, 0.7, 3),
    "fm reed": Operators(2.0, 1.2, 2.2, 0.2, 0.025, 0.9, 4),
}


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
    out = np.zeros(1 + rows * period)  # one sample of silence before the first
    out[1 : 1 + period] = np.fft.irfft(spectrum, period)
    for row in range(1, rows):
        now = 1 + row * period
        out[now : now + period] = loss * ((1 - soft) * out[now - period : now] + soft * out[now - period - 1 : now - 1])
    return varispeed(out[1:].astype(np.float32), speed)


@dataclass(frozen=True)
class Strings:
    """A stringed instrument; ranges as `string` takes them, `body` the resonances of its box (Hz, dB)."""

    pick_hz: float
    decay: float
    soft: float
    position: float
    octave: int
    body: tuple[tuple[float, float], ...]

    def strike(self, rng: Rng, pitch: float, force: float) -> Array:
        """A pluck [T]."""
        decay = self.decay * (220.0 / midi_hz(pitch)) ** 0.5
        pick = self.pick_hz * (0.35 + 0.9 * force)
        # The filter works once a period: short strings need less of it.
        soft = self.soft * min(1.0, 300.0 / midi_hz(pitch))
        sound = string(rng, pitch, min(3.0, 0.75 * decay), pick, decay, soft, self.position * rng.uniform(0.9, 1.1))
        for hz, gain in self.body:
            sound = tilted(sound, "peak", hz, gain, 1.5)
        knock = burst(rng, np.arange(sound.size) / SR, 2.0 * pick, 0.003)
        return edges(sound + 0.1 * force * np.abs(sound[:2000]).max() * knock, 0.0006, 0.05)


STRINGS = {
    "nylon guitar": Strings(1900, 3.0, 0.4, 0.22, 3, ((105, 4), (215, 3), (1500, -3))),
    "steel guitar": Strings(5200, 5.0, 0.22, 0.13, 3, ((100, 4), (190, 4), (3200, 3))),
    "harp": Strings(2600, 3.6, 0.3, 0.35, 4, ((180, 3), (420, 2))),
    "zither": Strings(9000, 4.0, 0.12, 0.06, 4, ((330, 4), (900, 3), (2600, 4))),
    "bass string": Strings(1500, 4.5, 0.35, 0.18, 1, ((90, 3), (700, 2))),
    "muted string": Strings(2200, 0.5, 0.5, 0.25, 3, ((240, 5), (600, 3))),
}


def hoover(rng: Rng, notes: Sequence[float], t: Array) -> Array:
    """Pulses whose pitch swoops up into the note, thick with detuning [2, T]."""
    pitch = -7.0 * np.exp(-t / 0.06)
    parts = [oscillators(rng, note + pitch, 4, 16.0, "pulse") for note in (notes[0], notes[0] + 12, notes[1])]
    return np.sum(parts, axis=0) * np.exp(-t / 0.6)


def drawbars(rng: Rng, notes: Sequence[float], t: Array, drawn: Array) -> Array:
    """An organ's chord [T]: `drawn` are the levels of eight drawbars, from 16' to 1'."""
    hz = np.array([midi_hz(note) for note in notes])[:, None] * np.array([0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0])
    levels = np.tile(drawn, len(notes))[:, None] * np.ones(-(-t.size // BLOCK) + 1)
    click = burst(rng, t, (800.0, 5000.0), 0.005)
    return stack(t.size, hz.reshape(-1), levels, rng.uniform(0, 6.28, hz.size)) + 0.3 * click
