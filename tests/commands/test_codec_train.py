"""`codec train` from nothing, and from another codec, tiny."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audiocraft.checkpoints.checkpoint import load_checkpoint
from audiocraft.cli import app
from audiocraft.errors import UserError
from audiocraft.models.loaders import load_compression_model
from audiocraft.models.spectral import SpectralModel
from audiocraft.train import RunResult

RATE = 16000
TINY = [
    f"sample_rate={RATE}",
    "device=cpu",
    "dataset.batch_size=2",
    "dataset.num_workers=0",
    "dataset.segment_duration=0.25",
    "dataset.valid.num_samples=2",
    "dataset.evaluate.num_samples=1",
    "dataset.evaluate.segment_duration=0.5",
    "generate.every=null",
    "optim.updates_per_epoch=4",
    "seanet.n_filters=2",
    "seanet.dimension=16",
    "rvq.bins=16",
    "logging.progress=off",
]
SPECTRAL = [each for each in TINY if not each.startswith(("sample_rate", "seanet", "rvq", "dataset.evaluate.seg"))]
SPECTRAL.append("evaluate.every=null")


def run(*arguments: object) -> RunResult:
    result = app(["codec", "train", *map(str, arguments)], standalone_mode=False)
    assert isinstance(result, RunResult)
    return result


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUDIOCRAFT_DORA_DIR", raising=False)
    rng = np.random.default_rng(0)
    (tmp_path / "sounds").mkdir()
    for i in range(3):
        soundfile.write(tmp_path / "sounds" / f"{i}.wav", 0.1 * rng.standard_normal(RATE), RATE)
    return tmp_path / "sounds"


def test_from_nothing_and_on_from_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run(folder, "--from", "nothing", "--kind", "encodec", "--epochs", 2, *TINY)
    assert first.finished and first.epochs == 2
    assert f"--codec //sig/{first.sig}" in capsys.readouterr().out
    held_out = {json.loads(line)["path"] for line in next(Path().glob("outputs/manifests/*/valid/data.jsonl")).open()}
    assert len(held_out) == 1

    second = run(folder, "--from", first.folder, "--epochs", 1, "optim.lr=0", "schedule.lr_scheduler=null", *TINY)
    assert second.sig != first.sig
    begun = load_compression_model(second.folder).state_dict()
    given = load_checkpoint(first.folder / "checkpoint.th")["ema"]["state"]["model"]
    for name, value in begun.items():
        if "_codebook" not in name:  # codebooks learn without a rate
            torch.testing.assert_close(value, given[name])


def test_from_the_one_that_ships_by_default(folder: Path) -> None:
    result = run(folder, "--epochs", 1, *SPECTRAL)
    before, after = (load_compression_model(name) for name in ("spectral_32khz", result.folder))
    assert isinstance(after, SpectralModel) and after.state_dict().keys() == before.state_dict().keys()
    with pytest.raises(UserError, match=r"continue_from=//pretrained/mini_32khz is another model"):
        run(folder, "--from", "mini_32khz", *TINY)


@pytest.mark.parametrize(
    "name, message", [("nope", "there is no model 'nope'"), ("", "--from is empty"), (" ", "empty")]
)
def test_a_codec_that_is_not_there_comes_first(folder: Path, name: str, message: str) -> None:
    """Before the folder is looked through and a run made."""
    with pytest.raises(UserError, match=message):
        run(folder, "--from", name, *TINY)
    assert not Path("outputs").exists()


def test_a_slip_comes_first(folder: Path) -> None:
    with pytest.raises(UserError, match=r"optim\.lrr"):
        run(folder, "optim.lrr=1")
    with pytest.raises(UserError, match="neither an option nor KEY=VALUE"):
        run(folder, "fast")


def test_a_spectral_codec_from_nothing_and_on(folder: Path) -> None:
    for path in folder.iterdir():
        soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(32000), 32000)
    tiny = [*SPECTRAL, "spectral.dimension=4", "rvq.kmeans_iters=1"]
    first = run(folder, "--from", "nothing", "--epochs", 1, *tiny)
    second = run(folder, "--from", first.folder, "--epochs", 1, *tiny)
    assert second.sig != first.sig
    before, after = (load_compression_model(one.folder).state_dict() for one in (first, second))
    assert before.keys() == after.keys() and torch.equal(before["quantizer.basis"], after["quantizer.basis"])
    with pytest.raises(UserError, match="--kind other is not served"):
        run(folder, "--kind", "other", *tiny)
