"""A codec run becomes an asset, and the report measures it."""

import json
from pathlib import Path

import codec_card
import codec_report
import make_codec_asset
import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf

from audiocraft import train
from audiocraft.data.manifest import AudioMeta, save_audio_meta
from audiocraft.models.loaders import load_compression_model
from audiocraft.utils.checkpoint import load_checkpoint

RATE = 16000


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two files in a manifest."""
    folder = tmp_path_factory.mktemp("sounds")
    rng = np.random.default_rng(0)
    paths = [folder / f"{i}.wav" for i in range(2)]
    for path in paths:
        soundfile.write(path, 0.1 * rng.standard_normal(2 * RATE), RATE)
    save_audio_meta(folder / "data.jsonl", [AudioMeta(str(path), 2.0, RATE) for path in paths])
    return folder


@pytest.fixture(scope="module")
def trained(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one epoch of three steps."""
    result = train.run(
        [
            "solver=compression/debug",
            *(f"datasource.{split}={sounds}" for split in ("train", "valid", "evaluate", "generate")),
            f"dora.dir={tmp_path_factory.mktemp('runs')}",
            f"sample_rate={RATE}",
            "dataset.segment_duration=0.25",
            "seanet.dimension=16",
            "rvq.bins=32",
            "optim.epochs=1",
            "optim.updates_per_epoch=3",
            "generate.every=null",
            "evaluate.every=null",
            "logging.progress=off",
        ]
    )
    return result.folder


@pytest.fixture(scope="module")
def asset(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("assets") / "tiny"
    assert make_codec_asset.main([str(trained), "--out", str(out)]) == 0
    return out


def test_the_asset_is_the_averaged_codec_of_the_run(asset: Path, trained: Path) -> None:
    codec = load_compression_model(asset)
    ema = load_checkpoint(trained / "checkpoint.th")["ema"]["state"]["model"]
    for name, value in codec.state_dict().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, ema[name], atol=1e-6, rtol=1e-3)


def test_the_asset_tells_how_it_was_trained_but_not_where(asset: Path, sounds: Path) -> None:
    facts = json.loads((asset / "training.json").read_text())
    assert (facts["steps"], facts["epochs"], facts["weights"], facts["batch_size"]) == (3, 1, "ema", 2)
    assert facts["losses"]["msspec"] == 2.0 and facts["history"][0]["train"]["loss"] > 0
    assert OmegaConf.load(asset / "config.yaml").seanet.n_filters == 4
    for name in ("config.yaml", "training.json"):
        assert str(sounds.parent) not in (asset / name).read_text()


def test_weights_too_large_for_float16_are_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = load_checkpoint(trained / "checkpoint.th")
    state["model"]["encoder.model.0.conv.conv.bias"] = torch.full((4,), 1e6)
    torch.save(state, tmp_path / "checkpoint.th")
    out = tmp_path / "asset"
    assert make_codec_asset.main([str(tmp_path), "--out", str(out), "--state", "model"]) == 2
    assert "--dtype float32" in capsys.readouterr().err
    assert not out.exists()
    assert make_codec_asset.main([str(tmp_path), "--out", str(out), "--state", "model", "--dtype", "float32"]) == 0


def test_an_asset_needs_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_codec_asset.main([str(tmp_path), "--out", str(tmp_path / "asset")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "asset").exists()


def test_report(asset: Path, sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers, figure = tmp_path / "report.json", tmp_path / "figure.png"
    options = ["--json", str(numbers), "--out", str(figure), "--excerpt", "0.5", "1"]
    assert codec_report.main([str(asset), str(sounds), *options]) == 0
    report = json.loads(numbers.read_text())
    assert [row["file"] for row in report["files"]] == ["0.wav", "1.wav"]
    assert report["mean"]["silence_log_mel_distance"] > report["mean"]["median_log_mel_distance"] > 0
    assert report["mean"]["log_mel_distance"] > 0
    assert [one["bins"] for one in report["codebooks"]] == [32] * 4
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "codebook 4" in capsys.readouterr().out


def test_the_card_says_what_the_files_say(asset: Path, sounds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [str(asset), "--trained-on", "noise", "--held-out", "other noise", "--note", "It hums."]
    assert codec_card.main(options) == 2
    assert "report.json is missing" in capsys.readouterr().err
    assert codec_report.main([str(asset), str(sounds), "--json", str(asset / "report.json")]) == 0
    assert codec_card.main(options) == 0
    text = (asset / "README.md").read_text()
    mean = json.loads((asset / "report.json").read_text())["mean"]
    assert "4 codebooks of 32 codes" in text and "3 steps of 2 × 0.25 s" in text
    assert f"| mean | {mean['log_mel_distance']:.2f} |" in text
    assert "- It hums." in text and "Material: noise." in text
    assert str(sounds.parent) not in text


def test_report_on_a_folder_without_audio(asset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert codec_report.main([str(asset), str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
