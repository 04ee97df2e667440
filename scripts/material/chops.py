"""Chops: a break cut at its 8ths and 16ths and put together again, with turns, rolls, stretches and pitch."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import signal

from .breaks import LEAD, Break
from .dsp import SR, Array, Rng, edges, place, varispeed

# One character per 16th: the hit wanted there, '-' lets the slice before it run on.
BARS = (
    "K-k-S--g-gK-S--g",
    "K-h-S--S-gK-S-h-",
    "K--KS--g-KK-S--g",
    "K-S--gS-K-h-S--S",
    "K--S--K-S-gK-S--",
    "h-K-S--gKgS--SK-",
    "K-K-S-h-gSK-hS-S",
    "K-h-S-K--gS-h-S-",
    "K-K---S--S--K-S-",
    "K-h-S--gSgK-S-SS",
    "K---S---g-K-S---",
    "K-KgS--S-SK-S-gS",
)


@dataclass
class Chop:
    """One slice as played: where (16ths of the bar), how long, from which break and 16th of it on, and how bent."""

    at: float
    length: float
    source: int
    start: float
    pitch: float = 0.0  # semitones
    reverse: bool = False
    gain: float = 1.0


def _pick(rng: Rng, source: Break, mark: str, place_in_bar: int) -> int:
    """A 16th of `source` that holds `mark`, rather one at the same place in the bar."""
    found = source.find(mark) or source.find("h") or [0]
    same = [index for index in found if index % 16 == place_in_bar]
    return int(rng.choice(same if same and rng.random() < 0.65 else found))


def straight(source: int, bar: int, bars: int) -> list[Chop]:
    """The break as it was played: bar `bar` of its `bars`, in 8ths."""
    return [Chop(at, 2, source, 16 * (bar % bars) + at) for at in range(0, 16, 2)]


def sequence_bar(rng: Rng, breaks: list[Break], source: int, pattern: str) -> list[Chop]:
    """The hits of `pattern` taken from the break number `source`; slices run on through '-'."""
    chops = []
    starts = [index for index, mark in enumerate(pattern) if mark != "-"]
    for index, stop in zip(starts, [*starts[1:], 16]):
        mark = pattern[index]
        gain = 0.8 if mark in "kgh" else 1.0
        chops.append(Chop(index, stop - index, source, _pick(rng, breaks[source], mark, index), gain=gain))
    return chops


def shuffled(rng: Rng, source: int, bar: int, bars: int) -> list[Chop]:
    """The break's own 8ths with a few swapped: its downbeat stays where it is."""
    order = list(range(8))
    for _ in range(int(rng.integers(1, 4))):
        i, j = rng.integers(1, 8, 2)
        order[i] = order[j] if rng.random() < 0.6 else int(rng.integers(0, 8))
    return [Chop(2 * slot, 2, source, 16 * (bar % bars) + 2 * piece) for slot, piece in enumerate(order)]


def edited(rng: Rng, chops: list[Chop], breaks: list[Break], madness: float, last: bool) -> list[Chop]:
    """A bar of chops with the editor's tricks on it; `madness` in 0..1 says how many, `last` asks for a fill."""
    out = []
    for chop in chops:
        dice = rng.random() / max(madness, 1e-9)
        if dice < 0.06 and chop.length >= 2:
            out.append(replace(chop, reverse=True))
        elif dice < 0.16:
            out.append(replace(chop, pitch=float(rng.choice([-5, -3, -2, 2, 3, 5, 7]))))
        elif dice < 0.24 and chop.length >= 2:
            half = chop.length / 2
            out += [replace(chop, length=half), replace(chop, at=chop.at + half, length=half, gain=0.8)]
        else:
            out.append(chop)
    if rng.random() < (0.25 + 0.7 * madness if last else 0.22 * madness):
        at = float(rng.choice([8, 12, 12, 14])) if last else float(rng.choice([6, 12, 14]))
        out = stopped(out, at) + _fill(rng, breaks, at)
    return out


def stopped(chops: list[Chop], at: float) -> list[Chop]:
    """A bar that falls silent at the 16th `at`: breath before what comes."""
    return [replace(chop, length=min(chop.length, at - chop.at)) for chop in chops if chop.at < at]


def _fill(rng: Rng, breaks: list[Break], at: float) -> list[Chop]:
    """A roll, a falling or rising snare run, a stretched hit or a backwards swell from `at` to the end of the bar."""
    source = int(rng.integers(len(breaks)))
    snare, span = _pick(rng, breaks[source], "S", 12), 16 - at
    kind = rng.choice(["roll", "run", "swell", "hits", "stretch"])
    if kind == "swell":
        kick = _pick(rng, breaks[source], "K", 0)
        swell = Chop(at, span / 2, source, snare, reverse=True, gain=0.9)
        return [swell, Chop(at + span / 2, span / 2, source, kick)]
    if kind == "hits":
        marks = rng.choice(list("KSSg"), int(span))
        return [Chop(at + k, 1.0, source, _pick(rng, breaks[source], str(m), 0)) for k, m in enumerate(marks)]
    # One hit again and again: how long it is each time, how far it creeps on, and semitones from the first to the last.
    length, creep, bend = {
        "roll": (rng.choice([0.5, 2 / 3, 1.0]), 0.0, rng.choice([0, 0, 5, -7, 12])),
        "run": (1.0, 0.0, span * rng.choice([-1, -2, 1, 2])),
        "stretch": (0.25, 0.5, rng.choice([0, -5, -12])),  # grains: the sound of a sampler's time stretch
    }[str(kind)]
    count, last = round(span / length), len(breaks[source].marks) - length
    return [
        Chop(at + k * length, length, source, min(snare + creep * length * k, last), bend * k / count, gain=gain)
        for k, gain in enumerate(np.linspace(0.55 if kind == "roll" else 0.9, 1.0, count).tolist())
    ]


def render_bar(out: Array, at: float, chops: list[Chop], breaks: list[Break], gain: float) -> None:
    """Add a bar of chops to `out` [2, T]; `at` is the bar's first sample (a fraction counts)."""
    for chop in chops:
        source = breaks[chop.source]
        rate = 2.0 ** (chop.pitch / 12.0)
        # Pitched-up slices run out sooner, so more of the break is taken; it may run into the next hit, as samplers do.
        sound = source.slice(chop.start, min(chop.length * rate, len(source.marks) - chop.start))
        sound = varispeed(sound, rate)
        limit = round(chop.length * source.step) + LEAD // 2
        sound = sound[:, :limit]
        if chop.reverse:
            sound = sound[:, ::-1]
        place(out, edges(sound, 0.0008, 0.004), round(at + chop.at * source.step) - LEAD, gain * chop.gain)


def kick_times(chops: list[Chop], breaks: list[Break], at: float) -> list[int]:
    """Samples at which a bar's chops strike a kick: what ducks the rest of the music."""
    return [
        round(at + chop.at * breaks[chop.source].step)
        for chop in chops
        if breaks[chop.source].marks[int(chop.start)] == "K"
    ]


def duck_curve(length: int, times: list[int], depth: float, release: float) -> Array:
    """Gain [T] that dips by `depth` (0..1) at each of `times` and comes back in about `release` seconds."""
    struck = np.bincount([time for time in times if 0 <= time < length], minlength=length)
    dip = signal.lfilter([depth], [1, -np.exp(-1.0 / (release * SR))], struck)
    return (1.0 - np.minimum(dip, depth)).astype(np.float32)
