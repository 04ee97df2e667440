"""Something to hear, and what is heard of one clip: the sums of `audiocraft.metrics.hearing`, taken of it alone."""

import numpy as np
import torch

from audiocraft.metrics.hearing import HumSums, OnsetSums, PitchSums, power_spectrum, strongest_peaks
from audiocraft.utils.rhythm import onset_curve


def music(seconds: float, seed: int, rate: int, levels: tuple[float, float] = (0.03, 0.09)) -> torch.Tensor:
    """Notes and hits at random times [1, T], each as loud as one of `levels` or in between."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    wave = np.zeros(len(time))
    for start in np.sort(rng.uniform(0, seconds, int(8 * seconds))):
        part = time[time >= start] - start
        note = np.sin(2 * np.pi * rng.uniform(80, 3000) * part) + 0.3 * rng.standard_normal(len(part))
        wave[-len(part) :] += rng.uniform(*levels) * note * np.exp(-rng.uniform(4, 20) * part)
    return torch.from_numpy(wave).float()[None]


def pitch_kept(estimate: torch.Tensor, reference: torch.Tensor, sample_rate: int) -> float | None:
    """As `PitchSums`, of waves [C, T]."""
    sums = PitchSums()
    sums.add(strongest_peaks(estimate, sample_rate), strongest_peaks(reference, sample_rate))
    return sums.value()


def hum(estimate: torch.Tensor, reference: torch.Tensor, sample_rate: int, rate: float) -> float | None:
    """As `HumSums`, of waves [C, T] at a rate in Hz."""
    sums = HumSums()
    sums.add(power_spectrum(estimate, sample_rate), power_spectrum(reference, sample_rate))
    return sums.value(rate)


def onset_correlation(estimate: torch.Tensor, reference: torch.Tensor, sample_rate: int) -> float | None:
    """As `OnsetSums`, of waves [C, T]."""
    sums = OnsetSums()
    sums.add(*(torch.from_numpy(onset_curve(wav, sample_rate))[None] for wav in (estimate, reference)))
    return sums.value()
