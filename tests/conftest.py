"""Fixtures shared by all tests, which find what lies beside this file."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml

torch.set_num_threads(1)

HERE = str(Path(__file__).resolve().parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of the reference numbers that our code is held against."""
    return Path(__file__).parent / "golden"


@pytest.fixture
def model_folder(golden: Path, tmp_path: Path) -> Path:
    """A MusicGen exported by the peer with `conditioner=none`, and a codec that fits it."""
    folder = tmp_path / "model"
    folder.mkdir()
    shutil.copy(golden / "lm_none" / "state_dict.bin", folder)
    shutil.copy(golden / "codec_ac" / "compression_state_dict.bin", folder)
    return folder


@pytest.fixture
def run_folder(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished MusicGen run of signature `cafe0123` in the outputs folder, made of `model_folder`.

    Its averaged weights are those of the model folder, `model` is these + 1, `best_state` these + 2; epoch 1, + 3, was
    kept.
    """
    outputs = tmp_path / "outputs"
    monkeypatch.setenv("AUDIOCRAFT_DORA_DIR", str(outputs))
    package = torch.load(model_folder / "state_dict.bin", weights_only=True)
    cfg = yaml.safe_load(package["xp.cfg"])
    cfg["compression_model_checkpoint"] = str(model_folder / "compression_state_dict.bin")
    cfg["dataset"]["segment_duration"] = 2
    cfg["dataset"]["valid"]["num_samples"] = 1
    cfg["dataset"]["short"] = "join"
    cfg["tokens"]["cache"] = "auto"

    def shifted(shift: int) -> dict[str, torch.Tensor]:
        return {name: value + shift for name, value in package["best_state"].items()}

    checkpoint = {
        "model": shifted(1),
        "ema": {"state": {"model": shifted(0)}, "count": 1.0},
        "best_state": {"model": shifted(2)},
        "xp.cfg": yaml.safe_dump(cfg),
        "xp.sig": "cafe0123",
        "version": "0.1.0",
        "history": [{"train": {"ce": 4.0}, "valid": {"ce": 4.1}}, {"train": {"ce": 3.0}, "valid": {"ce": 3.5}}],
    }
    folder = outputs / "xps" / "cafe0123"
    folder.mkdir(parents=True)
    torch.save(checkpoint, folder / "checkpoint.th")
    torch.save({**checkpoint, "ema": None, "model": shifted(3)}, folder / "checkpoint_1.th")
    return folder
