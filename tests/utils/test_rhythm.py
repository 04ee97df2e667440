"""Onset curves, beats and grids of sounds whose beats are known."""

import math

import numpy as np
import pytest
import torch

from audiocraft.utils import rhythm

RATE = 32000


def clicks(bpm: float, seconds: float, first: float = 0.1, rate: int = RATE) -> tuple[np.ndarray, np.ndarray]:
    """A click track [T] and the seconds of its clicks."""
    times = np.arange(first, seconds - 0.05, 60 / bpm)
    noise = np.random.default_rng(0).standard_normal(rate // 40) * np.exp(-np.arange(rate // 40) / (0.004 * rate))
    wav = np.zeros(round(seconds * rate), np.float32)
    for start in np.round(times * rate).astype(int):
        wav[start : start + len(noise)] += 0.3 * noise
    return wav, times


def plain_curve(wav: np.ndarray) -> np.ndarray:
    """The definition, all frames at once."""
    window = torch.hann_window(1024)
    magnitudes = torch.stft(torch.as_tensor(wav), 1024, 320, window=window, return_complex=True).abs().numpy()
    return np.maximum(np.diff(np.log1p(100 * magnitudes), axis=1), 0).sum(0)


def test_curve_and_beat_are_as_defined_also_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rhythm, "_BLOCK", 64)
    wav = clicks(133, 3)[0] + 0.01 * np.random.default_rng(1).standard_normal(3 * RATE).astype(np.float32)
    curve = plain_curve(wav)
    assert np.allclose(rhythm.onset_curve(wav), curve, rtol=1e-4, atol=1e-3)
    assert np.allclose(rhythm.onset_curve(torch.tensor(np.stack([wav, wav]))), curve, rtol=1e-4, atol=1e-3)
    centred = curve - curve.mean()
    plain = np.correlate(centred, centred, "full")[len(centred) - 1 :]
    assert rhythm.beat_and_lag(rhythm.onset_curve(wav))[0] == pytest.approx((plain / plain[0])[15:80].max(), abs=1e-4)


@pytest.mark.parametrize("rate", [RATE, 44100, 22050])
@pytest.mark.parametrize("bpm", [80, 120, 141.3, 170])
def test_grid_lies_on_clicks_for_minutes(bpm: float, rate: int) -> None:
    wav, times = clicks(bpm, 100, first=3.217, rate=rate)
    grid = rhythm.beat_grid(rhythm.onset_curve(wav, rate))
    assert grid.is_clear and grid.strength > 0.7
    assert rhythm.bpm(grid.period) == pytest.approx(bpm if bpm >= 90 else 2 * bpm, abs=0.05)
    beats = np.arange(grid.first, 99, grid.period)
    assert abs(beats[0] - 3.217) < 0.02
    assert np.abs(beats[:, None] - times).min(1).max() < 0.01


def test_no_beat_where_there_is_none() -> None:
    noise = np.random.default_rng(0).standard_normal(8 * RATE).astype(np.float32)
    for wav in (0.1 * noise, np.zeros(8 * RATE, np.float32), noise[: RATE // 10], noise[:100], noise[:0]):
        assert rhythm.beat_and_lag(rhythm.onset_curve(wav))[0] < rhythm.CLEAR_BEAT
        assert not rhythm.beat_grid(rhythm.onset_curve(wav)).is_clear
    assert math.isnan(rhythm.beat_and_lag(rhythm.onset_curve(noise[:100]))[1])
