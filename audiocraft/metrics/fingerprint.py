"""Where a sound comes from, judged by its wave: shifts below a codec's frame, gain and lossy coding change little.

A fingerprint holds how the levels of 24 bands (mel, 60 Hz to 4 kHz) change within 40 ms, in dB, less what all bands
share. Two windows of a second are as like as these changes correlate. What two pieces of a kind have in common (the
colour of instruments, loudness, a beat) is mostly in what is taken away.

Material is looked at every 40 ms and a take every 10 ms, so that some of its windows lie within 5 ms of any window of
the material. Every window is compared with every other; to know the closest, nothing is left out.
"""

import typing as tp

import numpy as np
import torch

from ..losses.specloss import mel_filters
from .copied import Closest

FRAMES = 25  # a second, of a material
PHASES = 4  # times as many of a take
BANDS, LOWEST, HIGHEST = 24, 60.0, 4000.0
WINDOW_SECONDS = 0.085
_FLOOR = 1e-8  # -80 dBFS in a band: what lies below makes no difference
_LEAST_CHANGE = 0.1  # dB: what changes no more tells no places apart
_ROWS, _PLACES = 256, 2048  # windows of a take and of the material that are compared at once


def fingerprint(blocks: tp.Iterable[torch.Tensor], rate: int, phases: int = 1) -> torch.Tensor:
    """Changes float16 [frames, BANDS] of a wave, 25 * phases frames a second; of whole seconds so many are whole.

    Args:
        blocks: the wave as blocks [C, t].
        rate: Hz, a multiple of 25 * phases (see `fits`).
        phases: 1 for a material, PHASES for a take.
    """
    assert fits(rate, phases), rate
    hop, size = rate // (FRAMES * phases), max(2, round(WINDOW_SECONDS * rate))
    window, length = torch.hann_window(size), 1 << (size - 1).bit_length()
    bins = min(length // 2 + 1, int(HIGHEST * length / rate) + 2)
    filters = mel_filters(length // 2 + 1, BANDS, rate, LOWEST, HIGHEST)[:, :bins].T
    filters = filters * (2 / (length * float(window.square().sum())))  # Parseval: mean squares
    half, held, parts = size // 2, torch.zeros(0), []

    def read(samples: torch.Tensor) -> torch.Tensor:
        """Take the levels of all frames that are whole; returns what the next begins with."""
        if len(samples) < size:
            return samples
        frames = samples.unfold(0, size, hop)
        power = torch.fft.rfft(frames * window, length)[:, :bins].abs().square()
        parts.append(10 * torch.log10(power @ filters + _FLOOR))
        return samples[len(frames) * hop :]

    for block in blocks:
        mix = block.mean(0)
        # A frame lies around its time, and a wave is mirrored where it begins and ends: all edges would be alike.
        held = read(torch.cat([held, mix] if len(held) or parts else [mix[:half].flip(0), mix]))
    read(torch.cat([held, held[half - size :].flip(0)]))
    if not parts:
        return torch.zeros(0, BANDS).half()
    levels = torch.cat(parts)
    changes = levels[phases:] - levels[:-phases]
    return (changes - changes.mean(1, keepdim=True)).half()


def fits(rate: int, phases: int = 1) -> bool:
    """Whether a frame is a whole number of samples; else a wave is to be resampled."""
    return rate % (FRAMES * phases) == 0


class Fingerprints:
    """Fingerprints of a material, to look up takes in.

    Args:
        items: of each file [frames, BANDS], as `fingerprint` makes it; one shorter than a second is never found.
    """

    def __init__(self, items: tp.Sequence[torch.Tensor]) -> None:
        sizes = [len(item) for item in items]
        self._begins = np.cumsum([0, *sizes])
        self._changes = torch.cat([torch.zeros(0, BANDS), *(item.float() for item in items)])
        # What spans two files is infinitely large, so that nothing is like it.
        first = np.arange(max(0, len(self._changes) - FRAMES + 1))
        inside = np.repeat(self._begins[1:], sizes)[: len(first)] >= first + FRAMES
        self._norms = torch.where(torch.from_numpy(inside), _norms(self._changes), torch.inf)

    def closest(self, take: torch.Tensor) -> Closest:
        """For windows of a take [frames, BANDS] of PHASES that begin within each 40 ms, the closest of the material.

        Returns:
            One window for every 40 ms, likeness -1 to 1: the correlation.
        """
        count = max(0, -(-len(take) // PHASES) - FRAMES + 1)
        likeness, place = torch.full((count,), -1.0), torch.full((count,), -1)
        for phase in range(PHASES if len(self._norms) else 0):
            changes = take[phase::PHASES].float()
            norms = _norms(changes)
            for row in range(0, len(norms), _ROWS):
                rows = slice(row, min(row + _ROWS, len(norms)))
                found, at = self._closest(changes[row : row + _ROWS + FRAMES - 1])
                found /= norms[rows]
                more = found > likeness[rows]
                likeness[rows][more], place[rows][more] = found[more], at[more]
        places = place.numpy()
        item = np.searchsorted(self._begins, places, side="right") - 1
        item[places < 0] = -1
        return Closest(likeness.numpy(), item, np.where(item < 0, 0, places - self._begins[item]))

    def _closest(self, changes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The highest product of windows of changes with windows of the material, over the latter's size, and where."""
        best = torch.full((len(changes) - FRAMES + 1,), -torch.inf)
        place = torch.full((len(best),), -1)
        for start in range(0, len(self._norms), _PLACES):
            norms = self._norms[start : start + _PLACES]
            products = changes @ self._changes[start : start + len(norms) + FRAMES - 1].T
            found, at = (_diagonal_sums(products, FRAMES) / norms).max(1)
            more = found > best
            best[more], place[more] = found[more], at[more] + start
        return best, place


def _norms(changes: torch.Tensor) -> torch.Tensor:
    """Sizes [windows] of all windows of a second."""
    sums = torch.cat([torch.zeros(1).double(), changes.double().square().sum(1).cumsum(0)])
    return (sums[FRAMES:] - sums[:-FRAMES] + FRAMES * BANDS * _LEAST_CHANGE**2).sqrt().float()


def _diagonal_sums(values: torch.Tensor, count: int) -> torch.Tensor:
    """Sums of `count` values in a row down the diagonals of [rows, columns]: [rows - count + 1, columns - count + 1].

    By doubling: sums of 16, 8 and 1 make one of 25.
    """
    rows, columns = (size - count + 1 for size in values.shape)
    total, done, width = torch.zeros(rows, columns), 0, 1
    while True:
        if count & width:
            total += values[done : done + rows, done : done + columns]
            done += width
        if done == count:
            return total
        values = values[:-width, :-width] + values[width:, width:]
        width *= 2
