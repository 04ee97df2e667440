"""Segments that begin on the beat."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiocraft.data import beats
from audiocraft.data.audio_dataset import AudioDataset
from audiocraft.data.manifest import AudioMeta

RATE = 16000
FRAME = 0.02  # seconds, of the codecs


def write(path: Path, bpm: float | None, seconds: float, first: float) -> tuple[AudioMeta, np.ndarray]:
    rng = np.random.default_rng(0)
    wav = 0.1 * rng.standard_normal(int(seconds * RATE)) if bpm is None else np.zeros(int(seconds * RATE))
    times = np.arange(first, seconds - 0.1, 60 / bpm) if bpm else np.zeros(0)
    for time in times:
        wav[int(time * RATE) :][:400] += 0.3 * rng.standard_normal(400) * np.exp(-np.arange(400) / 60)
    soundfile.write(path, wav, RATE)
    return AudioMeta(str(path), seconds, RATE), times


def starts(meta: AudioMeta, **options: object) -> np.ndarray:
    settings = {"segment_duration": 2.0, "num_samples": 60, "sample_rate": RATE, "channels": 1, "short": "join"}
    dataset = AudioDataset([meta], **{**settings, **options})  # type: ignore[arg-type]
    dataset.start_epoch(1)
    return np.array([dataset.sample_segment(index)[1] for index in range(60)])


@pytest.mark.parametrize("block", [120, 7])
@pytest.mark.parametrize("bpm", [84, 120, 170])
def test_starts_lie_on_clicks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bpm: float, block: int) -> None:
    monkeypatch.setattr(beats, "_BLOCK_SECONDS", block)
    meta, times = write(tmp_path / "clicks.wav", bpm, 60, 0.3)
    found, anywhere = starts(meta, on_beat=True), starts(meta)
    late = found[found > 0.3 - FRAME]
    assert np.abs(late[:, None] - times).min(1).max() < FRAME
    assert len(late) > 50 and len(np.unique(late.round(2))) > 20 and late.max() <= 58
    assert (found <= anywhere + 1e-9).all() and np.abs(anywhere[:, None] - times).min(1).max() > 0.1


def test_anywhere_without_a_clear_beat(tmp_path: Path) -> None:
    meta, _ = write(tmp_path / "noise.wav", None, 10, 0)
    assert np.array_equal(starts(meta, on_beat=True), starts(meta))
