"""Does it play or replay? For every second of takes, the second of the training material that is closest to it.

By codes (`copied`) what a model repeats word for word is found at any frame shift, a fifth of the codes may differ; by
fingerprints (`fingerprint`) what is shifted by less than a frame, louder, or was coded anew. What was held out from
training says how near new music of the kind comes by itself, and where copies begin.

    report = judge([trace("take", wav, fingerprints, codes, material)], held_out=[...])
    report.copied(TAKES), report.longest(TAKES), report.worst(8)
"""

import typing as tp
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional as F

from .copied import AGREEMENT, Closest, Codes, Material, audible_windows
from .fingerprint import FRAMES, PHASES, Fingerprints, fingerprint
from .sound_features import RATE, SILENT_DB, levels_db

TAKES, HELD_OUT = "takes", "held out"
FALSE_ALARMS = 0.01  # share of held-out windows that may count as copied
# From which likeness on a window is copied: new jungle comes to 0.65, copies as Opus at 24 kb/s to 0.83. What was held
# out can raise it, to a little above what that comes to.
LIKENESS, MOST_LIKENESS, _MARGIN = 0.7, 0.85, 0.03
_STRICTER = {"codes": (0.9, 1.0), "sound": (0.8, 0.9, 0.95)}
_BLOCK = 30 * RATE
_BINS = np.linspace(0, 1, 41)  # of the histogram of likeness
_APART = FRAMES  # windows between two stretches that are shown


@dataclass
class Trace:
    """A take's windows of a second, 25 begin each second: the closest of the material by codes (a share of equal codes,
    0 where it is below AGREEMENT) and by sound (likeness, up to 1), and which [windows] can be heard. Places are in
    25ths of a second."""

    name: str
    seconds: float
    codes: Closest | None
    sound: Closest
    audible: np.ndarray


def trace(
    name: str,
    wav: torch.Tensor,
    fingerprints: Fingerprints,
    codes: Codes | None = None,
    material: Material | None = None,
) -> Trace:
    """Look up a take: wav [1, T] at 32 kHz, of a second or more to have windows, and its codes [K, F]."""
    sound = fingerprints.closest(fingerprint(wav.split(_BLOCK, dim=1), RATE, PHASES))
    count, hop = len(sound.likeness), RATE // FRAMES
    heard = levels_db(F.pad(wav, (0, -wav.shape[1] % hop)), hop).numpy() > SILENT_DB
    audible = audible_windows(heard, FRAMES)[:count]
    by_codes = None
    if codes is not None and material is not None:
        by_codes = _resampled(material.closest(codes), material.window, count)
    return Trace(name, wav.shape[1] / RATE, by_codes, sound, np.pad(audible, (0, count - len(audible))))


def _resampled(found: Closest, rate: int, count: int) -> Closest:
    """Of windows at `rate` a second the best of those that begin within each 25th of one; `count` of these."""
    if not len(found.likeness):
        return Closest(np.zeros(count), np.full(count, -1), np.zeros(count, dtype=np.int64))
    first = np.arange(count) * rate // FRAMES
    last = np.maximum(first, (np.arange(count) + 1) * rate // FRAMES - 1)
    best = np.minimum(first, len(found.likeness) - 1)
    for step in range(1, int((last - first).max(initial=0)) + 1):
        other = np.minimum(np.minimum(first + step, last), len(found.likeness) - 1)
        best = np.where(found.likeness[other] > found.likeness[best], other, best)
    return Closest(found.likeness[best], found.item[best], found.frame[best] * FRAMES // rate)


@dataclass(frozen=True)
class Case:
    """A stretch of a take and the place of the material that it is closest to; all times in seconds.

    `agreement` is the share of equal codes, None below AGREEMENT; `start` and `at` lie at its most alike window, and
    `copied` says how long the stretch is, 0 where it is none.
    """

    take: int
    start: float
    item: int
    at: float
    likeness: float
    agreement: float | None
    copied: float


@dataclass
class NoveltyReport:
    """What `judge` found: traces by group, and from which share of codes and which likeness on a window is copied."""

    groups: dict[str, list[Trace]]
    from_codes: float = AGREEMENT
    from_likeness: float = LIKENESS
    notes: list[str] = field(default_factory=list)

    def flags(self, one: Trace) -> np.ndarray:
        """Which windows of a take are copied and can be heard."""
        copied = one.sound.likeness >= self.from_likeness
        if one.codes is not None:
            copied = copied | (one.codes.likeness >= self.from_codes)
        return copied & one.audible

    def copied(self, group: str, take: int | None = None) -> float | None:
        """Share of the windows that can be heard, of all takes or of one; None where none can."""
        traces = self._of(group, take)
        heard = sum(int(one.audible.sum()) for one in traces)
        return sum(int(self.flags(one).sum()) for one in traces) / heard if heard else None

    def longest(self, group: str, take: int | None = None) -> float:
        """Seconds of the longest stretch of which every second is copied, wherever from."""
        return max((length for one in self._of(group, take) for _, length in _runs(self.flags(one))), default=0.0)

    def shares(self, group: str, kind: str) -> dict[float, float | None]:
        """By `codes` or by `sound`: the share of windows at each level of strictness, the lowest first."""
        least = self.from_codes if kind == "codes" else self.from_likeness
        values = _heard(self.groups[group], kind)
        levels = [least, *(level for level in _STRICTER[kind] if level > least + 0.01)]
        return {round(level, 3): float((values >= level).mean()) if len(values) else None for level in levels}

    def median(self, group: str) -> float | None:
        """Likeness of the closest second, median over windows that can be heard; None where none can."""
        values = _heard(self.groups[group], "sound")
        return float(np.median(values)) if len(values) else None

    def histogram(self, group: str) -> list[float]:
        """Share of windows in each of 40 bins of likeness from 0 to 1."""
        values = _heard(self.groups[group], "sound").clip(0, 1)
        return (np.histogram(values, _BINS)[0] / max(1, len(values))).tolist()

    def worst(self, most: int) -> list[Case]:
        """Stretches of the takes that are closest to the material: copies first, the longest before others."""
        cases = []
        for number, one in enumerate(self.groups[TAKES]):
            score = one.sound.likeness.astype(float)
            if one.codes is not None:
                score = np.maximum(score, one.codes.likeness)
            score[~one.audible] = -1
            runs = _runs(self.flags(one))
            for _ in range(most):
                if not len(score) or score.max() < 0:
                    break
                at = int(score.argmax())
                first, last, length = at, at, 0.0
                for start, seconds in runs:
                    if start <= at < start + round((seconds - 1) * FRAMES) + 1:
                        first, last, length = start, start + round((seconds - 1) * FRAMES), seconds
                cases.append(self._case(number, one, at, length))
                score[max(0, first - _APART) : last + _APART + 1] = -1
        return sorted(cases, key=lambda case: (-case.copied, -max(case.likeness, case.agreement or 0)))[:most]

    def _case(self, number: int, one: Trace, at: int, copied: float) -> Case:
        share = 0.0 if one.codes is None else float(one.codes.likeness[at])
        place = one.codes if one.codes is not None and share > one.sound.likeness[at] else one.sound
        likeness, item, frame = float(one.sound.likeness[at]), int(place.item[at]), int(place.frame[at])
        return Case(number, at / FRAMES, item, frame / FRAMES, likeness, share or None, copied)

    def _of(self, group: str, take: int | None) -> list[Trace]:
        return self.groups[group] if take is None else [self.groups[group][take]]

    def record(self) -> dict[str, tp.Any]:
        """Everything as plain values, without names of the material's files."""
        found: dict[str, tp.Any] = {
            "copied_from": {"codes": self.from_codes, "likeness": round(self.from_likeness, 4)},
            "notes": self.notes,
        }
        for name, traces in self.groups.items():
            found[name] = {
                "seconds": round(sum(one.seconds for one in traces), 2),
                "windows": sum(int(one.audible.sum()) for one in traces),
                "copied": _rounded(self.copied(name)),
                "longest_seconds": round(self.longest(name), 2),
                "median_likeness": _rounded(self.median(name)),
                **{kind: {str(k): _rounded(v) for k, v in self.shares(name, kind).items()} for kind in _STRICTER},
                "histogram": [round(share, 5) for share in self.histogram(name)],
                "each": [
                    {
                        "name": one.name,
                        "seconds": round(one.seconds, 3),
                        "copied": _rounded(self.copied(name, i)),
                        "longest_seconds": round(self.longest(name, i), 2),
                    }
                    for i, one in enumerate(traces)
                ],
            }
        return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _runs(flags: np.ndarray) -> list[tuple[int, float]]:
    """Stretches of windows in a row: where they begin, and how many seconds they span."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(begin), float(end - begin - 1) / FRAMES + 1) for begin, end in edges.reshape(-1, 2)]


def _heard(traces: tp.Sequence[Trace], kind: str) -> np.ndarray:
    """Values of all windows that can be heard."""
    parts = [np.zeros(0)]
    for one in traces:
        found = one.sound if kind == "sound" else one.codes
        if found is not None:
            parts.append(found.likeness[one.audible])
    return np.concatenate(parts)


def judge(takes: tp.Sequence[Trace], held_out: tp.Sequence[Trace] = ()) -> NoveltyReport:
    """Say what is copied. With traces of what was held out from training, copies begin where at most a hundredth of its
    windows reaches, of codes and likeness each, but not below AGREEMENT and LIKENESS."""
    report = NoveltyReport({TAKES: list(takes)})
    sound, codes = (_heard(held_out, kind) for kind in ("sound", "codes"))
    if not len(sound):
        return report
    report.groups[HELD_OUT] = list(held_out)
    reached = float(np.quantile(sound, 1 - FALSE_ALARMS)) + _MARGIN
    report.from_likeness = float(np.clip(reached, LIKENESS, MOST_LIKENESS))
    if len(codes):
        report.from_codes = _least_codes(codes)
    if (share := report.copied(HELD_OUT) or 0.0) > FALSE_ALARMS:
        report.notes.append(
            f"{100 * share:.0f} % of what was held out is copied from the training material too: the two share "
            "recordings, so it says little about how near new music comes"
        )
    return report


def _least_codes(held_out: np.ndarray) -> float:
    """The least share of codes, in hundredths from AGREEMENT on, that few enough of the held-out windows reach."""
    for level in np.arange(round(100 * AGREEMENT), 100) / 100:
        if (held_out >= level).mean() <= FALSE_ALARMS:
            return float(level)
    return 1.0
