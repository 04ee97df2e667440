"""A codec run becomes an asset with a card."""

import json
from pathlib import Path

import codec_card
import make_codec_asset
import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf
from typer.testing import CliRunner

from audiocraft import train
from audiocraft.commands import codec
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
    loaded = load_compression_model(asset)
    ema = load_checkpoint(trained / "checkpoint.th")["ema"]["state"]["model"]
    for name, value in loaded.state_dict().items():
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


def test_an_asset_keeps_what_came_before_it(
    trained: Path, asset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for out, before in (("second", asset), ("third", tmp_path / "second")):
        options = ["--out", str(tmp_path / out), "--before", str(before / "training.json")]
        assert make_codec_asset.main([str(trained), *options]) == 0
    runs = make_codec_asset.trainings(tmp_path / "third" / "training.json")
    assert len(runs) == 3 and all(run["steps"] == 3 and "before" not in run for run in runs)
    options = ["--out", str(tmp_path / "fourth"), "--before", str(asset / "config.yaml")]
    assert make_codec_asset.main([str(trained), *options]) == 2
    assert "does not tell of a training" in capsys.readouterr().err
    assert not (tmp_path / "fourth").exists()


def test_the_card_says_what_the_files_say(
    trained: Path, asset: Path, sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "codec"
    options = [str(trained), "--out", str(out), "--before", str(asset / "training.json")]
    assert make_codec_asset.main(options) == 0
    options = [str(out), "--trained-on", "noise", "--held-out", "other noise", "--note", "It hums."]
    assert codec_card.main(options) == 2
    assert "eval.json is missing" in capsys.readouterr().err
    assert CliRunner().invoke(codec.app, ["eval", str(out), str(sounds), "--out", str(out)]).exit_code == 0
    assert codec_card.main(options) == 0
    text = (out / "README.md").read_text()
    scores = {score["name"]: score for score in json.loads((out / "eval.json").read_text())["scores"]}
    assert "4 codebooks of 32 codes" in text and text.count("3 steps of 2 × 0.25 s") == 2
    for name in ("codec", "codec, 1 codebook", "Opus 12 kb/s"):
        mean = scores[name]["mean"]
        assert f"| {name} | {mean['log_mel_db']:.2f} | {mean['log_mel_below_4khz_db']:.2f} |" in text
    assert f"| 4 | {scores['codec']['codebooks'][3]['used']} of 32 " in text
    assert "- It hums." in text and "Material: noise." in text
    assert str(sounds.parent) not in text
    assert (out / "training.png").read_bytes().startswith(b"\x89PNG")
