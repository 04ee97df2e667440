"""What is heard of one clip: the sums of `audiocraft.metrics.hearing`, taken of it alone."""

import torch

from audiocraft.metrics.hearing import HumSums, OnsetSums, PitchSums, power_spectrum, strongest_peaks
from audiocraft.utils.rhythm import onset_curve


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
