"""What a folder of audio is like, on one screen, before a model is trained on it."""

import math
import typing as tp
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ..utils.rhythm import beat_grid, bpm, onset_curve
from ..utils.segments import AudioMeta
from .audio import read_stretch

# Of a longer file three excerpts are looked at, of this many seconds in all.
EXCERPT_SECONDS = 45.0
_EXCERPTS = 3
# Rule of thumb: minutes of sound, silence and copies not counted, from which on a scale learns more than to repeat
# them; about half a minute a million parameters, and for small models somewhat more.
ENOUGH_MINUTES = {"pico": 5, "nano": 15, "micro": 60, "xsmall": 5, "small": 200, "medium": 700, "large": 1600}
_BLOCK_SECONDS = 0.05
_SILENCE_DB = -60.0  # RMS of a block, below which it is silent
_FULL_SCALE = 0.999
_CLIPPED_SHARE = 1e-4  # of a file's samples, from which on it is told
_STEADY = 0.02  # by which tempi of one file may differ, octaves apart
_SAME = 0.995  # correlation of fingerprints
_SAME_SECONDS = 0.1  # by which lengths of copies may differ: some containers fill up
_LISTED = 3


@dataclass
class Look:
    """What was heard of one file.

    Attributes:
        duration: seconds of the whole file.
        silent: share of its blocks below -60 dB.
        clipped: share of its samples inside runs of three or more at full scale.
        level: dB full scale (RMS) of what is not silent; -inf if all is.
        tempo: BPM, 90 to 180; None without a clear beat.
        steady: whether all excerpts have that tempo.
        fingerprint: [64 * 24], level and container left out; zeros for silence.
    """

    path: str
    duration: float
    silent: float
    clipped: float
    level: float
    tempo: float | None
    steady: bool
    fingerprint: np.ndarray


@dataclass
class Material:
    """What `look_at` heard; `copies` are groups of files that hold the same sound."""

    looks: list[Look]
    failed: list[tuple[str, str]] = field(default_factory=list)
    copies: list[list[Look]] = field(default_factory=list)

    @property
    def minutes(self) -> float:
        """Minutes that there are to learn from: without silence, and each sound once."""
        again = {look.path for group in self.copies for look in group[1:]}
        return sum(look.duration * (1 - look.silent) for look in self.looks if look.path not in again) / 60

    def lines(self, scale: str | None = None) -> list[str]:
        """The screen as lines of text; with a scale, whether there is enough for it."""
        if not self.looks:
            return ["the material could not be looked at"]
        total = sum(look.duration for look in self.looks)
        silent = sum(look.duration * look.silent for look in self.looks) / max(total, 1e-9)
        mute = [look for look in self.looks if look.silent == 1]
        out = [f"the material: {total / 60:.1f} min in {len(self.looks)} file{'s' * (len(self.looks) != 1)}"]
        out.append(f"  silence:  {100 * silent:.0f} %" + _names(mute, "silent throughout"))
        levels = [look.level for look in self.looks if look.level > -math.inf]
        if levels:
            low, high = np.percentile(levels, (5, 95))
            wide = "; quiet files are learned as quiet" if high - low > 12 else ""
            out.append(f"  loudness: {low:.0f} to {high:.0f} dB RMS{wide}")
        clipped = [look for look in self.looks if look.clipped > _CLIPPED_SHARE]
        out.append("  clipping: " + (_names(clipped, "at full scale for runs of samples", "") or "none"))
        out.append(f"  tempo:    {self._tempi()}")
        twice = sum(len(group) - 1 for group in self.copies)
        text = f"{twice} cop{'y' if twice == 1 else 'ies'} of other files" if twice else "none"
        out.append("  doubles:  " + text)
        out += [f"    {' = '.join(Path(look.path).name for look in group)}" for group in self.copies[:_LISTED]]
        if self.failed:
            out.append(f"  not looked at: {len(self.failed)} (the first: {': '.join(self.failed[0])})")
        return out + ([self._verdict(scale)] if scale in ENOUGH_MINUTES else [])

    def _tempi(self) -> str:
        found = [look for look in self.looks if look.tempo is not None]
        if not found:
            return "no clear beat"
        # To the nearest 2 BPM: an excerpt tells no tempo better where people play.
        bins = Counter(2 * round((look.tempo or 0) / 2) for look in found)
        most = ", ".join(f"{tempo} BPM ({count})" for tempo, count in bins.most_common(_LISTED))
        more = f" and {len(bins) - _LISTED} others" if len(bins) > _LISTED else ""
        steady = sum(look.steady for look in found)
        clear = f"{len(found)} of {len(self.looks)} files have a clear beat, {steady} a steady one"
        return f"{most}{more}; {clear} (half and double count as one)"

    def _verdict(self, scale: str | None) -> str:
        need, have = ENOUGH_MINUTES[str(scale)], self.minutes
        rule = f"rule of thumb: {need} min of sound, each once"
        if have >= need:
            return f"  enough for {scale} ({rule})"
        told = f"  {have:.1f} min are little for {scale} ({rule}): it will learn these {have:.1f} minutes by heart"
        fits = [name for name in ("micro", "nano", "pico") if ENOUGH_MINUTES[name] <= have]
        return told + (f"; --scale {fits[0]} has enough" if fits else "")


def look_at(meta: tp.Sequence[AudioMeta], progress: bool = False, workers: int = 4) -> Material:
    """Listen to files, of long ones to excerpts (`EXCERPT_SECONDS`), and find those that hold the same sound.

    A file that cannot be looked at is passed over, whatever is wrong with it: who trains on it will say.
    """
    from tqdm import tqdm

    def one(item: AudioMeta) -> Look | str:
        try:
            return look_at_file(item)
        except Exception as error:  # of any reader or library
            return getattr(error, "reason", None) or f"{type(error).__name__}: {error}"

    out = Material([])
    with ThreadPoolExecutor(max(1, workers)) as pool:
        bar = tqdm(pool.map(one, meta), "Listening", len(meta), unit="file", disable=not progress, delay=1.0)
        for item, look in zip(meta, bar):
            if isinstance(look, Look):
                out.looks.append(look)
            else:
                out.failed.append((item.path, look))
    out.copies = _copies(out.looks)
    return out


def look_at_file(item: AudioMeta) -> Look:
    """What one file is like. Raises UnreadableAudio as reading does."""
    tempi: list[tuple[float, float | None]] = []
    powers, clipped, samples, prints = [], 0, 0, []
    for start, seconds in _excerpts(item.duration):
        wav, file = read_stretch(item.path, start, seconds)
        if not wav.shape[-1]:
            continue
        full = wav.abs() >= _FULL_SCALE
        clipped += int((full[:, :-2] & full[:, 1:-1] & full[:, 2:]).sum())
        samples += wav.numel()
        mono = wav.mean(0)
        size = max(1, int(_BLOCK_SECONDS * file.rate))
        padded = torch.nn.functional.pad(mono, (0, -len(mono) % size)).view(-1, size)
        powers.append(padded.square().mean(1).numpy())
        prints.append(_spectra(mono, file.rate, 64 if seconds < 0 else -(-64 // _EXCERPTS)))
        grid = beat_grid(onset_curve(mono, file.rate))
        tempi.append((grid.strength, bpm(grid.period) if grid.is_clear else None))
    power = np.concatenate(powers) if powers else np.zeros(1)
    sounds = power > 10 ** (_SILENCE_DB / 10)
    tempo = max(tempi, key=lambda each: each[0], default=(0.0, None))[1]
    return Look(
        item.path,
        item.duration,
        float(1 - sounds.mean()),
        clipped / max(1, samples),
        float(10 * np.log10(power[sounds].mean())) if sounds.any() else -math.inf,
        tempo,
        tempo is not None and all(each is not None and _octaves_apart(each, tempo) < _STEADY for _, each in tempi),
        _fingerprint(np.concatenate(prints)) if sounds.any() else np.zeros(64 * 24, np.float32),
    )


def _excerpts(duration: float) -> list[tuple[float, float]]:
    """(start, seconds) of what is looked at; whole seconds, so that copies in other containers are cut alike."""
    if duration <= EXCERPT_SECONDS:
        return [(0.0, -1.0)]
    each = EXCERPT_SECONDS / _EXCERPTS
    return [(float(int(i * (duration - each) / (_EXCERPTS - 1))), each) for i in range(_EXCERPTS)]


def _spectra(mono: torch.Tensor, rate: int, count: int) -> np.ndarray:
    """Energies in 24 bands from 60 Hz to 10 kHz at `count` places: [count, 24]."""
    window = max(64, int(0.12 * rate))
    mono = torch.nn.functional.pad(mono, (0, max(0, window - len(mono))))
    starts = np.linspace(0, len(mono) - window, count).astype(int)
    frames = torch.stack([mono[start : start + window] for start in starts.tolist()])
    power = torch.fft.rfft(frames * torch.hann_window(window)).abs().square().numpy()
    edges = np.geomspace(60, min(10000, rate / 2), 25) * window / rate
    return np.add.reduceat(power, np.maximum(1, edges[:-1].astype(int)), axis=1)


def _fingerprint(energy: np.ndarray) -> np.ndarray:
    """Log energies less their mean, of unit length: a gain leaves it as it is."""
    energy = energy[:64]
    logs = np.log10(energy + 1e-5 * energy.max()).ravel()
    logs -= logs.mean()
    return (logs / max(1e-9, float(np.linalg.norm(logs)))).astype(np.float32)


def _copies(looks: list[Look]) -> list[list[Look]]:
    """Groups of files of the same length and sound, in another container or at another level too; a copy that is cut or
    moved is not found."""
    order = sorted(looks, key=lambda look: look.duration)
    lengths = np.array([look.duration for look in order])
    prints = np.stack([look.fingerprint for look in order]) if order else np.zeros((0, 1))
    groups, taken = [], np.zeros(len(order), bool)
    for i in range(len(order)):
        last = int(np.searchsorted(lengths, lengths[i] + _SAME_SECONDS, side="right"))
        same = (prints[i + 1 : last] @ prints[i] > _SAME) & ~taken[i + 1 : last]
        if not taken[i] and same.any():
            taken[i + 1 : last] |= same
            groups.append([order[i], *(order[i + 1 + int(j)] for j in np.flatnonzero(same))])
    return groups


def _octaves_apart(one: float, other: float) -> float:
    """By how much two tempi differ, as a share, where half and double are the same."""
    octaves = math.log2(one / other)
    return abs(2 ** (octaves - round(octaves)) - 1)


def _names(looks: list[Look], what: str, before: str = "; ") -> str:
    if not looks:
        return ""
    names = ", ".join(Path(look.path).name for look in looks[:_LISTED])
    more = f" and {len(looks) - _LISTED} more" if len(looks) > _LISTED else ""
    return f"{before}{what}: {names}{more}"
