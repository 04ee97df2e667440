"""Training of the spectral codec, from nothing and on."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiocraft import train
from audiocraft.data.manifest import AudioMeta, save_audio_meta
from audiocraft.errors import UserError
from audiocraft.models.loaders import load_compression_model
from audiocraft.models.spectral import SpectralModel

RATE = 32000


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    rng = np.random.default_rng(0)
    time = np.arange(4 * RATE) / RATE
    paths = [folder / f"{i}.wav" for i in range(2)]
    for i, path in enumerate(paths):
        wave = 0.3 * np.sin(2 * np.pi * 220 * (i + 1) * time) * np.exp(-3 * (time % 1))
        soundfile.write(path, wave + 0.01 * rng.standard_normal(len(time)), RATE)
    save_audio_meta(folder / "data.jsonl", [AudioMeta(str(path), 4.0, RATE) for path in paths])
    return folder


def overrides(sounds: Path, runs: Path, *more: str) -> list[str]:
    return [
        "solver=compression/spectral_32khz",
        *(f"datasource.{split}={sounds}" for split in ("train", "valid", "evaluate", "generate")),
        f"dora.dir={runs}",
        "device=cpu",
        "spectral.dimension=8",
        "rvq.kmeans_iters=2",
        "dataset.segment_duration=1",
        "dataset.batch_size=2",
        "dataset.num_workers=0",
        "dataset.valid.num_samples=2",
        "dataset.evaluate.num_samples=2",
        "dataset.generate.num_samples=1",
        "dataset.generate.segment_duration=1",
        "optim.updates_per_epoch=3",
        "logging.progress=off",
        *more,
    ]


@pytest.fixture(scope="module")
def trained(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> train.RunResult:
    runs = tmp_path_factory.mktemp("runs")
    return train.run(overrides(sounds, runs, "optim.epochs=2", "generate.every=2", "evaluate.every=2"))


def test_a_run_from_nothing(trained: train.RunResult) -> None:
    assert trained.finished and trained.epochs == 2
    codec = load_compression_model(trained.folder)
    assert isinstance(codec, SpectralModel) and codec.quantizer.rvq.vq.started
    assert len(list((trained.folder / "samples" / "2").glob("*_reconstruction.wav"))) == 1
    wav, _ = soundfile.read(next((trained.folder / "samples" / "2").glob("*_original.wav")))
    assert len(wav) == RATE


def test_a_run_goes_on_from_another(trained: train.RunResult, sounds: Path, tmp_path: Path) -> None:
    settings = ["optim.epochs=1", "generate.every=null", "evaluate.every=null", f"continue_from={trained.folder}"]
    result = train.run(overrides(sounds, tmp_path / "runs", *settings))
    before, after = (load_compression_model(folder).quantizer for folder in (trained.folder, result.folder))
    assert np.array_equal(before.basis, after.basis) and not np.array_equal(before.codebooks, after.codebooks)


def test_what_it_refuses(sounds: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="averages already"):
        train.run(overrides(sounds, tmp_path, "optim.ema.use=true"))
    with pytest.raises(UserError, match="no spectral codec"):
        train.run(overrides(sounds, tmp_path, "continue_from=//pretrained/mini_32khz"))
