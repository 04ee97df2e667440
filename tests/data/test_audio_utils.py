"""Conversions and levels at their edges; the numbers themselves are in parity/."""

import math

import pytest
import torch

from audiocraft.data.audio_utils import (
    convert_audio,
    convert_audio_channels,
    loudness,
    normalize_audio,
    normalize_loudness,
    resample,
)
from audiocraft.errors import UserError


def tone(rate: int, seconds: float = 1.0, hertz: float = 440.0) -> torch.Tensor:
    return 0.5 * torch.sin(2 * torch.pi * hertz * torch.arange(int(seconds * rate)) / rate)[None]


@pytest.mark.parametrize("old, new", [(44101, 32000), (32000, 44099), (8001, 32000)])
def test_rates_with_a_large_ratio(old, new):
    """julius would need gigabytes here; the other resampler keeps pitch, place and level."""
    out = resample(torch.cat([tone(old), -tone(old)]), old, new)
    assert out.shape == (2, new)
    inner = slice(new // 20, -new // 20)
    torch.testing.assert_close(out[:, inner], torch.cat([tone(new), -tone(new)])[:, inner], rtol=0, atol=2e-3)


@pytest.mark.parametrize("old, new", [(44101, 32000), (96001, 32000), (192001, 8000), (1, 32000), (8000, 44101)])
def test_few_samples_at_a_rate_with_a_large_ratio(old, new):
    for samples in (1, 2, 3, 5, 16, 20, 33, 60, 100, 150):
        out = resample(torch.full((2, samples), 0.5), old, new)
        assert out.shape == (2, samples * new // old)
        assert samples < 16 or not out.shape[1] or out[:, -1] == pytest.approx(0.5, abs=0.1)


def test_batches_and_nothing_to_do():
    wav = torch.randn(3, 2, 1000, generator=torch.Generator().manual_seed(0))
    out = convert_audio(wav, 32000, 16000, 1)
    assert out.shape == (3, 1, 500)
    torch.testing.assert_close(out[1], convert_audio(wav[1], 32000, 16000, 1))
    assert convert_audio(wav, 32000, 32000, 2) is wav
    assert convert_audio(wav[..., :0], 44100, 32000, 1).shape == (3, 1, 0)


def test_channels():
    wav = torch.arange(12.0).view(3, 4)
    torch.testing.assert_close(convert_audio_channels(wav, 1), wav.mean(0, keepdim=True))
    assert torch.equal(convert_audio_channels(wav, 2), wav[:2])
    assert torch.equal(convert_audio_channels(wav[:1], 2), wav[[0, 0]])
    with pytest.raises(UserError, match="2 channels cannot become 3"):
        convert_audio_channels(wav[:2], 3)


def test_loudness_of_short_and_wide_signals():
    rate = 32000
    reference = loudness(tone(rate, 2.0), rate)
    # Shorter than the standard's block: whole periods, so going round changes nothing.
    assert loudness(tone(rate, 0.1), rate) == pytest.approx(reference, abs=0.1)
    # Equal channels add up in energy, beyond five of them too.
    assert loudness(tone(rate, 2.0).repeat(2, 1), rate) == pytest.approx(reference + 10 * math.log10(2), abs=1e-6)
    assert loudness(tone(rate, 2.0).repeat(8, 1), rate) == pytest.approx(reference + 10 * math.log10(8), abs=1e-6)
    assert loudness(torch.zeros(2, rate), rate) == -math.inf
    one_shot = normalize_loudness(tone(rate, 0.1), rate, loudness_headroom_db=20)
    assert loudness(one_shot, rate) == pytest.approx(-20, abs=1e-3)


@pytest.mark.parametrize("strategy", ["peak", "clip", "rms", "loudness", "none"])
def test_silence_and_nothing_stay(strategy):
    assert torch.equal(normalize_audio(torch.zeros(2, 100), strategy=strategy, sample_rate=32000), torch.zeros(2, 100))
    assert normalize_audio(torch.zeros(2, 0), strategy=strategy, sample_rate=32000).shape == (2, 0)


def test_clipping_is_told(capsys):
    loud = 4 * tone(32000, 0.1)
    out = normalize_audio(loud, strategy="rms", rms_headroom_db=0, log_clipping=True, stem_name="take")
    assert out.abs().max() == 1
    assert capsys.readouterr().err == "take: peaks cut at full scale, the largest was 1.41\n"


def test_wrong_arguments():
    with pytest.raises(UserError, match="choose peak, clip, rms, loudness or none"):
        normalize_audio(tone(32000), strategy="louder")
    with pytest.raises(UserError, match="without a sample rate"):
        normalize_audio(tone(32000), strategy="loudness")
