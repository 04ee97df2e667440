"""Pitch, hum and onsets: golden numbers, and what each must and must not notice."""

import numpy as np
import pytest
import torch
from heard import hum, onset_correlation, pitch_kept

from audiocraft.metrics.hearing import (
    HumSums,
    OnsetSums,
    PitchSums,
    power_spectrum,
    strongest_peaks,
)
from audiocraft.utils.rhythm import onset_curve

RATE = 32000


def plucks(cents: float = 0.0, late: float = 0.0) -> np.ndarray:
    """3 s of decaying tones over a little noise, all of them `cents` higher and `late` seconds later."""
    time = np.arange(3 * RATE) / RATE
    wave = 1e-3 * np.random.default_rng(0).standard_normal(len(time))
    for i, note in enumerate((220.0, 330.0, 523.25, 98.0, 1760.0)):
        since = time - 0.1 - 0.55 * i - late
        decay = np.where(since > 0, np.exp(-3 * np.clip(since, 0, None)), 0.0)
        hz = note * 2 ** (cents / 1200)
        wave += 0.4 * decay * (np.sin(2 * np.pi * hz * since) + 0.3 * np.sin(4 * np.pi * hz * since))
    return wave.astype(np.float32)


def buzzing(wave: np.ndarray, rate: int, level: float) -> np.ndarray:
    """`wave` with an impulse train of `rate` Hz."""
    train = np.zeros(len(wave), np.float32)
    train[:: RATE // rate] = level
    return wave + train


def waves(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(array)[None] for array in arrays]


# From the definitions in numpy, written apart from this package: pitch, hum at 50, 100 and 400 Hz, onsets.
GOLDEN = [
    (plucks(40), 1.0000, 3.202, 4.804, 4.875, 0.9881),
    (plucks(70), 0.0000, 0.564, 2.909, 6.846, 0.9894),
    (plucks(late=0.02), 0.9915, 0.421, -0.225, 0.295, -0.1171),
    (buzzing(plucks(), 50, 0.2), 1.0000, 6.653, 3.074, 3.405, -0.0167),
    (buzzing(plucks(), 400, 0.2), 1.0000, 4.504, 8.115, 23.947, 0.9402),
]


@pytest.mark.parametrize(("wave", "pitch", "hum_50", "hum_100", "hum_400", "onsets"), GOLDEN)
def test_golden(wave: np.ndarray, pitch: float, hum_50: float, hum_100: float, hum_400: float, onsets: float) -> None:
    original, estimate = waves(plucks(), wave)
    assert pitch_kept(estimate, original, RATE) == pytest.approx(pitch, abs=0.01)
    hums = [hum(estimate, original, RATE, rate) for rate in (50, 100, 400)]
    assert hums == pytest.approx([hum_50, hum_100, hum_400], abs=0.02)
    assert onset_correlation(estimate, original, RATE) == pytest.approx(onsets, abs=1e-3)


def test_an_equal_signal_is_perfect_at_any_rate_and_with_more_channels() -> None:
    (wave,) = waves(plucks())
    for rate, same in ((RATE, wave), (8000, wave), (44100, wave.expand(2, -1))):
        assert pitch_kept(same, same, rate) == 1
        assert onset_correlation(same, same, rate) == pytest.approx(1)
        assert hum(same, same, rate, 50) == 0


def test_clips_add_up() -> None:
    """The pitches and powers of two halves are those of the whole but for the frames at the cut."""
    original, estimate = waves(plucks(), buzzing(plucks(20), 50, 0.2))
    pitch, hums, onsets = PitchSums(), HumSums(), OnsetSums()
    for half in (slice(0, 48000), slice(48000, None)):
        pair = [wave[:, half] for wave in (estimate, original)]
        pitch.add(*(strongest_peaks(wave, RATE) for wave in pair))
        hums.add(*(power_spectrum(wave, RATE) for wave in pair))
        onsets.add(*(torch.from_numpy(onset_curve(wave, RATE))[None] for wave in pair))
    assert pitch.value() == pytest.approx(pitch_kept(estimate, original, RATE), abs=0.05)
    assert hums.value(50) == pytest.approx(hum(estimate, original, RATE, 50), abs=3)
    assert onsets.value() == pytest.approx(onset_correlation(estimate, original, RATE), abs=0.1)


def test_what_cannot_be_said() -> None:
    silence, wave = waves(np.zeros(RATE, np.float32), plucks())
    assert pitch_kept(wave[:, :RATE], silence, RATE) is None
    assert onset_correlation(wave[:, :RATE], silence, RATE) is None
    assert pitch_kept(silence, wave[:, :RATE], RATE) == 0
    assert onset_correlation(silence, wave[:, :RATE], RATE) == 0
    assert hum(wave, wave, RATE, 20) is None and hum(wave, wave, RATE, 1600) is None
    assert hum(wave, wave, 4000, 1000) is None


@pytest.mark.parametrize("length", [1, 2, 100, 4096])
def test_any_length(length: int) -> None:
    wave, other = torch.randn(2, 2, length, generator=torch.Generator().manual_seed(0))
    assert pitch_kept(wave, other, RATE) in (None, 0, 1) and hum(wave, other, RATE, 50) is not None
    onset_correlation(wave, other, RATE)
