"""Sums over clips give what the whole gives."""

import pytest
import torch

from audiocraft.losses import MRSTFTLoss
from audiocraft.metrics import si_sdr
from audiocraft.metrics.sums import SiSdrSums, StftSums, stft_magnitudes


def pair(channels: int = 2, length: int = 24000) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    reference = 0.1 * torch.randn(channels, length, generator=generator)
    reference *= torch.linspace(0.01, 1, length)  # so that a mean of means would be something else
    estimate = 0.7 * reference + 0.02 * torch.randn(channels, length, generator=generator) + 0.1
    return estimate, reference


def test_si_sdr_of_clips_is_that_of_the_whole() -> None:
    estimate, reference = pair()
    sums = SiSdrSums()
    for x, y in zip(estimate.split(7000, dim=1), reference.split(7000, dim=1)):
        sums.add(x, y)
    assert sums.value() == pytest.approx(si_sdr(estimate[None], reference[None]).item(), abs=1e-4)
    assert sums.reference_power == pytest.approx(float(reference.var(dim=1, unbiased=False).mean()), rel=1e-4)


def test_si_sdr_of_equals_is_finite() -> None:
    _, reference = pair()
    sums = SiSdrSums()
    sums.add(reference, reference)
    assert 40 < sums.value() < 100


def test_one_clip_is_the_loss_itself() -> None:
    estimate, reference = pair()
    sums = StftSums()
    sums.add(stft_magnitudes(estimate), stft_magnitudes(reference))
    assert sums.value() == pytest.approx(MRSTFTLoss()(estimate[None], reference[None]).item(), rel=1e-5)


def test_stft_of_clips_is_near_the_whole() -> None:
    """But for the frames at the cuts; a mean over clips would be far off."""
    estimate, reference = pair()
    whole, sums, means = MRSTFTLoss()(estimate[None], reference[None]).item(), StftSums(), []
    for x, y in zip(estimate.split(6000, dim=1), reference.split(6000, dim=1)):
        sums.add(stft_magnitudes(x), stft_magnitudes(y))
        means.append(MRSTFTLoss()(x[None], y[None]).item())
    assert sums.value() == pytest.approx(whole, rel=0.02)
    assert abs(sum(means) / len(means) - whole) > 0.05 * whole


def test_too_short_for_the_window() -> None:
    sums = StftSums()
    sums.add(stft_magnitudes(torch.zeros(1, 3)), stft_magnitudes(torch.ones(1, 3)))
    assert sums.value() > 0
