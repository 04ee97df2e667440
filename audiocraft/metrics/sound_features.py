"""Features of windows of sound, timbre and rhythm, and the Fréchet distance between two sets of them.

Waves are mono [1, T] at 32 kHz. A window is 2.5 s: long enough for a bar of fast music, short enough that 16 takes of
10 s give 64 of them. A wave is brought to one level first, which both parts would hear otherwise; level is told by
itself.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional as F

from ..losses.specloss import mel_filters
from ..utils.rhythm import autocorrelation, onset_curve
from .hearing import magnitudes

RATE = 32000
WINDOW_SECONDS = 2.5
SIZE, HOP = 1024, 320  # of the STFT: 32 ms, 100 frames a second, as of `onset_curve`
FRAMES = 100
BANDS, LOWEST = 32, 60.0
FLOOR_DB = -80.0  # what is quieter in a band counts as this quiet: below it a codec's dither would decide
CEPSTRA = 13
SMOOTHING = 5  # frames (50 ms) over which attacks are blurred before they are compared at fixed lags
LAGS = tuple(range(12, 101, 8))  # frames: 0.12 to 1 s
ONSET_GAP = 5  # frames (50 ms) on either side within which an onset is the highest value
TIMBRE, RHYTHM = slice(0, 2 * CEPSTRA - 1), slice(2 * CEPSTRA - 1, 2 * CEPSTRA + 2 + len(LAGS))
REFERENCE_DB = -20.0  # dBFS that waves are brought to before their features are taken
SILENT_DB = -60.0  # dBFS below which nothing is heard
SAME_SOUND = 0.8  # correlation of log-mels; loops come to 0.9 even between frames and through a codec, noise to 0.1
_LEAST_CHANGE = 1.0  # dB²: a second that changes less than this does not tell places apart
_LEAST_SCALE = 0.05  # of a feature that hardly differs within a material


@lru_cache(maxsize=1)
def _filters() -> torch.Tensor:
    return mel_filters(SIZE // 2 + 1, BANDS, RATE, LOWEST, None)


@lru_cache(maxsize=1)
def _cosines() -> torch.Tensor:
    """Orthonormal DCT-II, [CEPSTRA, BANDS]."""
    basis = torch.cos(math.pi / BANDS * torch.outer(torch.arange(CEPSTRA), torch.arange(BANDS) + 0.5))
    basis *= math.sqrt(2 / BANDS)
    basis[0] /= math.sqrt(2)
    return basis


def log_mels(wav: torch.Tensor) -> torch.Tensor:
    """dB [BANDS, frames] of wav [1, T], 100 frames a second; 0 dB is a full-scale sine."""
    full_scale = torch.hann_window(SIZE).sum() / 2
    power = _filters() @ (magnitudes(wav, SIZE, HOP) / full_scale).square()
    return 10 * torch.log10(power.clamp(min=10 ** (FLOOR_DB / 10)))


def onsets(curve: np.ndarray) -> np.ndarray:
    """Where something sets in: frames at which the onset curve [frames] is highest within 50 ms on either side, and a
    standard deviation above its mean."""
    if len(curve) == 0 or curve.max() <= 0:
        return np.zeros(0, dtype=np.int64)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(curve, ONSET_GAP), 2 * ONSET_GAP + 1).max(1)
    return np.flatnonzero((curve >= around) & (curve > curve.mean() + curve.std()))


def window_features(wav: torch.Tensor) -> np.ndarray:
    """Features [windows, 40] of wav [1, T], windows of 2.5 s side by side; a shorter wave is one window.

    Timbre, 25: log-mel cepstra, means of 1 to 12 and deviations of 0 to 12 (Davis & Mermelstein 1980). Rhythm, 15:
    the onset curve's autocorrelation at 12 lags between 0.12 and 1 s, onsets per second, the logarithm of the curve's
    mean, and its deviation over its mean. The wave is brought to REFERENCE_DB first, unless it is silent.
    """
    level = float(levels_db(wav, wav.shape[1]))
    if level > SILENT_DB:
        wav = wav * 10 ** ((REFERENCE_DB - level) / 20)
    cepstra, curve = _cosines() @ log_mels(wav), onset_curve(wav, RATE)
    size = round(WINDOW_SECONDS * FRAMES)
    count = max(1, len(curve) // size)
    rows = []
    for start in range(0, count * size, size):
        part, rises = cepstra[:, start : start + size], curve[start : start + size]
        timbre = [part[1:].mean(1).numpy(), part.std(1, correction=0).numpy()]
        rows.append(np.concatenate([*timbre, _rhythm(rises)]))
    return np.stack(rows).astype(np.float64)


def _rhythm(curve: np.ndarray) -> np.ndarray:
    if len(curve) == 0:
        curve = np.zeros(1, dtype=np.float32)
    smooth = np.convolve(curve, np.hanning(SMOOTHING + 2)[1:-1], "same") if len(curve) > SMOOTHING else curve
    found = np.zeros(LAGS[-1] + 1)
    values = autocorrelation(smooth)[: LAGS[-1] + 1]
    found[: len(values)] = values
    rate = len(onsets(curve)) * FRAMES / len(curve)
    return np.array([*found[list(LAGS)], rate, math.log1p(curve.mean()), curve.std() / (curve.mean() + 1e-9)])


def levels_db(wav: torch.Tensor, block: int) -> torch.Tensor:
    """RMS level in dBFS of each block of so many samples of wav [1, T], the last one filled up with zeros; at least
    -120."""
    blocks = F.pad(wav[0], (0, -wav.shape[1] % block)).view(-1, block)
    return 10 * torch.log10(blocks.square().mean(1).clamp(min=1e-12))


def repetition(wav: torch.Tensor) -> float | None:
    """Share of the windows of a second of wav [1, T] that come again elsewhere in it, at a place that does not overlap.

    A window comes again where the log-mels of the two, each band's mean over the whole wave removed, correlate by
    SAME_SOUND or more. What never changes, a steady tone or noise, holds nothing that could come again: 0. Windows of
    which less than half sounds are left out; None where none is left, or nothing shorter than two seconds.
    """
    mels = log_mels(wav)
    mels -= mels.mean(1, keepdim=True)
    frames = mels.shape[1]
    count = frames - FRAMES + 1
    if count <= FRAMES:
        return None
    power = _window_means(mels.square().mean(0)) + _LEAST_CHANGE
    best = torch.zeros(count)
    for lag in range(FRAMES, count):
        product = _window_means((mels[:, lag:] * mels[:, :-lag]).mean(0))
        alike = product / (power[: count - lag] * power[lag:]).sqrt()
        best[: count - lag] = torch.maximum(best[: count - lag], alike)
        best[lag:] = torch.maximum(best[lag:], alike)
    sounds = F.pad((levels_db(wav, HOP) > SILENT_DB).float(), (0, 1))[:frames]
    used = _window_means(sounds) >= 0.5
    return float((best[used] >= SAME_SOUND).float().mean()) if used.any() else None


def _window_means(values: torch.Tensor) -> torch.Tensor:
    """Means over every second of values [frames]: [frames - FRAMES + 1]."""
    sums = F.pad(values.double().cumsum(0), (1, 0))
    return ((sums[FRAMES:] - sums[:-FRAMES]) / FRAMES).float()


@dataclass(frozen=True)
class Whitening:
    """Mean [D] and whitening matrix [D, D] of a material's features, after which its features have about unit variance
    and no correlation; `scale` [D] are its plain deviations."""

    mean: np.ndarray
    scale: np.ndarray
    matrix: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> "Whitening":
        """Of features [N, D], over all windows of a material."""
        mean, scale = features.mean(0), features.std(0) + _LEAST_SCALE
        values, vectors = np.linalg.eigh(_covariance((features - mean) / scale))
        return cls(mean, scale, vectors / np.sqrt(values) @ vectors.T)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return (features - self.mean) / self.scale @ self.matrix


def _covariance(features: np.ndarray) -> np.ndarray:
    """Covariance [D, D] of features [N, D], drawn towards a multiple of the identity so that few windows suffice.

    By how much: Ledoit & Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices".
    """
    count, size = features.shape
    centred = features - features.mean(0)
    covariance = centred.T @ centred / count
    mean = np.trace(covariance) / size
    spread = np.square(covariance - mean * np.eye(size)).sum()
    noise = (np.square(centred).sum(1) ** 2).sum() / count**2 - np.square(covariance).sum() / count
    share = float(np.clip(noise / spread, 0, 1)) if spread > 0 else 1.0
    return (1 - share) * covariance + (share * mean + 1e-6) * np.eye(size)


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance between normal distributions fitted to features a [N, D] and b [M, D], whitened before: squared
    distance of their means plus that of their covariances (Dowson & Landau 1982). 0 for equal sets."""
    first, second = _covariance(a), _covariance(b)
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(values) @ vectors.T
    crossed = np.sqrt(np.clip(np.linalg.eigvalsh(root @ second @ root), 0, None)).sum()
    apart = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(first) + np.trace(second) - 2 * crossed
    return max(0.0, float(apart))
