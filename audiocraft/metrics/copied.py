"""How much of what a model plays is copied from what it was trained on, judged by codes.

Two stretches are the same where at least 80 % of the codes of the first codebook agree, frame by frame. It is exact,
and fast because of the pigeonhole principle: 40 of 50 frames that agree leave room for 10 that do not, so that at least
4 in a row agree, and only places where 4 in a row do are looked at.
"""

import math
import typing as tp

import numpy as np
import torch

Codes = torch.Tensor | np.ndarray

AGREEMENT = 0.8
# Of a window at least so much must sound, or it is left out.
_SOUNDING = 0.5
_NOWHERE = -1  # no code: keeps the items of a material apart
_BATCH = 1 << 21  # codes compared at once


class Closest(tp.NamedTuple):
    """Of each window of a take the closest of a material: how like they are (1: the same), in which item it lies (-1
    where there is none), and at which of its frames it begins."""

    likeness: np.ndarray  # float [windows]
    item: np.ndarray  # int [windows]
    frame: np.ndarray  # int [windows]


class Material:
    """Codes of a material, indexed once to look up many takes in.

    Args:
        codes: of each item [K, F] or [F]; only the first codebook is used. Codes are from 0 on.
        window: frames that are compared at a time, such as a second of the codec's.
        agreement: share of them that must be equal, above 0.
    """

    def __init__(self, codes: tp.Sequence[Codes], window: int = 50, agreement: float = AGREEMENT) -> None:
        if window < 1 or not 0 < agreement <= 1:
            raise ValueError(f"window {window} must be 1 or more, agreement {agreement} above 0 and up to 1")
        self.window, self.needed = window, math.ceil(agreement * window - 1e-9)
        gap = np.full(window, _NOWHERE)
        items = [_first(item) for item in codes]
        self._codes = np.concatenate([gap, *(part for item in items for part in (item, gap))]).astype(np.int32)
        # Of each item where it begins among them; there is a gap before the first.
        self._begins = window + np.cumsum([0, *(len(item) + window for item in items)])
        self._base = int(self._codes.max()) + 2
        # Frames in a row that must agree; not more than fit into 63 bits.
        run = math.ceil(self.needed / (window - self.needed + 1))
        self._run = min(run, max(1, int(62 // math.log2(self._base + 1))))
        runs = self._runs(self._codes)
        self._order = np.argsort(runs, kind="stable")
        self._sorted = runs[self._order]

    def found(self, codes: Codes) -> np.ndarray:
        """Which windows of a take's codes [K, F] or [F] are the same as the material somewhere: bool [F - window + 1],
        one for each frame that a window begins at; [0] for a take shorter than a window."""
        return self.closest(codes).item >= 0

    def closest(self, codes: Codes) -> "Closest":
        """Of each window of a take's codes [K, F] or [F] the window of the material with most frames the same, where
        that is the share `agreement` or more; likeness is the share."""
        take = _first(codes).astype(np.int32)
        # Codes that the material has not, and holes, are all alike: they equal nothing.
        take[(take < 0) | (take > self._base - 2)] = self._base - 1
        starts = max(0, len(take) - self.window + 1)
        most, place = np.zeros(starts, dtype=np.int32), np.zeros(starts, dtype=np.int64)
        shifts = self._shifts(take) if starts else np.zeros(0, dtype=np.int64)
        # The take lies against the material at each shift; beyond its ends is nothing.
        beyond = np.full(len(take), _NOWHERE, dtype=np.int32)
        places = np.lib.stride_tricks.sliding_window_view(np.concatenate([beyond, self._codes, beyond]), len(take))
        for part in np.array_split(shifts, -(-len(shifts) * len(take) // _BATCH) or 1) if len(shifts) else ():
            same = (places[part + len(take)] == take).cumsum(1, dtype=np.int32)
            same = np.pad(same, ((0, 0), (1, 0)))
            same = same[:, self.window :] - same[:, : -self.window]
            best = same.argmax(0)
            count = same[best, np.arange(starts)]
            more = count > most
            most[more], place[more] = count[more], (part[best] + np.arange(starts))[more]
            if (most == self.window).all():
                break
        # A window may begin before its item or end behind it, where the rest is enough.
        item = np.searchsorted(self._begins, place + self.window - 1, side="right") - 1
        enough = most >= self.needed
        return Closest(
            np.where(enough, most / self.window, 0.0),
            np.where(enough, item, -1),
            np.where(enough, (place - self._begins[item]).clip(0), 0),
        )

    def _shifts(self, take: np.ndarray) -> np.ndarray:
        """Where the take may begin in the material so that some window agrees."""
        runs = self._runs(take)
        begin, end = (np.searchsorted(self._sorted, runs, side) for side in ("left", "right"))
        marked = np.zeros(len(take) + len(self._codes), dtype=bool)
        for frame, (first, last) in enumerate(zip(begin, end)):
            if runs[frame] >= 0:
                marked[self._order[first:last] - frame + len(take)] = True
        return np.flatnonzero(marked) - len(take)

    def _runs(self, codes: np.ndarray) -> np.ndarray:
        """Each stretch of so many frames in a row as one number; negative where it holds what is no code."""
        count = len(codes) - self._run + 1
        total = np.zeros(max(0, count), dtype=np.int64)
        outside = np.zeros(max(0, count), dtype=bool)
        for i in range(self._run):
            part = codes[i : i + count]
            total = total * self._base + part
            outside |= part < 0
        total[outside] = _NOWHERE
        return total


def copied_windows(
    takes: tp.Sequence[Codes],
    material: tp.Sequence[Codes] | Material,
    sounding: tp.Sequence[Codes] | None = None,
    window: int = 50,
) -> float | None:
    """Share of all takes' windows that are the same as the material at some place, at any shift.

    Args:
        takes: codes [K, F] or [F] of each; only the first codebook is used.
        material: codes of what the model was trained on, or these indexed (with a window of their own).
        sounding: bool [F] of each take, which frames can be heard; windows of which less than half can are left out.
        window: frames, such as a second.

    Returns:
        0 to 1; None where no window is left.
    """
    index = material if isinstance(material, Material) else Material(material, window)
    same = [index.found(take) for take in takes]
    if sounding is not None:
        same = [found[audible_windows(mask, index.window)] for found, mask in zip(same, sounding)]
    joined = np.concatenate([np.zeros(0, dtype=bool), *same])
    return float(joined.mean()) if len(joined) else None


def audible_windows(sounding: Codes, window: int) -> np.ndarray:
    """Which windows [F - window + 1] count, of frames [F] of which some sound."""
    sums = np.concatenate([[0], np.cumsum(np.asarray(sounding, dtype=np.int64))])
    return sums[window:] - sums[: max(0, len(sums) - window)] >= _SOUNDING * window


def _first(codes: Codes) -> np.ndarray:
    """The first codebook's codes [F], a copy."""
    array = codes.detach().cpu().numpy() if isinstance(codes, torch.Tensor) else np.asarray(codes)
    return np.array(array[0] if array.ndim == 2 else array)
