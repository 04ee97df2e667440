import math

import pytest
import torch

from audiocraft.errors import UserError
from audiocraft.metrics import codebook_usage, log_mel_distance, si_sdr
from audiocraft.metrics.codebooks import count_codes, usage_of_counts


def noise(seed: int, *shape: int) -> torch.Tensor:
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_equal_signals_are_at_zero_and_per_item():
    reference = noise(0, 2, 1, 8000)
    estimate = reference.clone()
    estimate[1] += noise(1, 1, 8000)
    distance = log_mel_distance(estimate, reference, 32000)
    assert distance.shape == (2,)
    assert distance[0] == 0
    assert distance[1] > 1


def test_log_mel_distance_is_in_db():
    reference = noise(0, 1, 1, 32000)
    # Far above the floor a gain of 6.02 dB is a distance of 6.02 dB.
    assert log_mel_distance(200 * reference, 100 * reference, 32000).item() == pytest.approx(6.02, abs=0.02)


def test_si_sdr_ignores_gain_and_measures_noise():
    reference = noise(0, 1, 1, 64000)
    assert si_sdr(reference, reference).item() > 50
    assert si_sdr(0.3 * reference, reference).item() > 40
    assert si_sdr(reference + 0.1 * noise(1, 1, 1, 64000), reference).item() == pytest.approx(20, abs=0.2)
    assert si_sdr(torch.zeros_like(reference), reference).item() <= 0


def test_codebook_usage_counts_what_is_used():
    codes = torch.stack([torch.arange(16) % 4, torch.full((16,), 7)])[None]
    even, single = codebook_usage(codes, 8)
    assert (even.used, even.bins) == (4, 8)
    assert even.perplexity == pytest.approx(4)
    assert even.top_share == pytest.approx(0.25)
    assert single.used == 1
    assert math.isclose(single.perplexity, 1)


def test_band_limit_leaves_out_what_is_above():
    reference = noise(0, 1, 1, 32000)
    spec = torch.fft.rfft(noise(1, 1, 1, 32000))
    spec[..., :8000] = 0  # 1 Hz a bin
    hiss = torch.fft.irfft(spec, 32000)
    estimate = reference + 0.1 * hiss / hiss.std()
    assert log_mel_distance(estimate, reference, 32000).item() > 1
    assert log_mel_distance(estimate, reference, 32000, 4000).item() < 0.1
    assert log_mel_distance(estimate, reference, 32000, 16000) == log_mel_distance(estimate, reference, 32000)


def test_present_numbers_of_log_mel_distance():
    """Recorded before there was a band limit: tables of earlier codecs stay comparable."""
    estimate, reference = noise(0, 1, 2, 32000), noise(1, 1, 2, 32000)
    assert log_mel_distance(estimate, reference, 32000).item() == pytest.approx(3.0054452, rel=1e-5)


def test_band_limit_without_a_band_is_refused():
    with pytest.raises(UserError, match="no mel band"):
        log_mel_distance(noise(0, 1, 1, 32000), noise(1, 1, 1, 32000), 32000, 50)


def test_counts_add_up():
    codes = torch.randint(8, (2, 3, 50), generator=torch.Generator().manual_seed(0))
    parts = sum(count_codes(part, 8) for part in codes.split(20, dim=-1))
    assert usage_of_counts(parts) == codebook_usage(codes, 8)
    even = codebook_usage((torch.arange(16) % 4)[None, None], 8)[0]
    assert even.bits == pytest.approx(2)
