"""A codec run becomes an asset with a card."""

import json
import shutil
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
from audiocraft.checkpoints.checkpoint import load_checkpoint
from audiocraft.commands import codec
from audiocraft.data.manifest import AudioMeta, save_audio_meta
from audiocraft.environment import resource_dir
from audiocraft.models.loaders import load_compression_model

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
            "optim.updates_per_epoch=null",
            "dataset.train.num_samples=7",
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


def changed(trained: Path, folder: Path, *overrides: str) -> Path:
    """A copy of a run that says it was made with other settings."""
    state = load_checkpoint(trained / "checkpoint.th")
    cfg = OmegaConf.merge(OmegaConf.create(state["xp.cfg"]), OmegaConf.from_dotlist(list(overrides)))
    folder.mkdir()
    torch.save({**state, "xp.cfg": OmegaConf.to_yaml(cfg)}, folder / "checkpoint.th")
    return folder


def test_steps_are_those_that_were_done(trained: Path, tmp_path: Path) -> None:
    """An epoch is shorter than asked for where there are not as many segments."""
    run = changed(trained, tmp_path / "run", "optim.updates_per_epoch=100")
    assert make_codec_asset.main([str(run), "--out", str(tmp_path / "asset")]) == 0
    assert json.loads((tmp_path / "asset" / "training.json").read_text())["steps"] == 3


def test_what_a_codec_went_on_from_is_told_but_not_where_it_lay(trained: Path, tmp_path: Path) -> None:
    first = changed(trained, tmp_path / "first", "continue_from=facebook/encodec_32khz")
    second = changed(trained, tmp_path / "second", f"continue_from={first}")
    assert make_codec_asset.main([str(second), "--out", str(tmp_path / "asset")]) == 0
    text = (tmp_path / "asset" / "training.json").read_text()
    assert json.loads(text)["continue_from"] == ["first", "facebook/encodec_32khz"] and str(tmp_path) not in text
    for name, told in {
        "//pretrained/mini_32khz": "//pretrained/mini_32khz",
        "/home/me/x/model.safetensors": "x",
        "/c/hub/models--facebook--encodec_32khz/snapshots/1/model.safetensors": "facebook/encodec_32khz",
        "//pretrained//home/me/x": "//pretrained/x",
    }.items():
        assert make_codec_asset.begun_with({"continue_from": name}) == [told]


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


@pytest.fixture(scope="module")
def measured(asset: Path, sounds: Path) -> Path:
    """The asset, with an evaluation beside it."""
    done = CliRunner().invoke(codec.app, ["eval", str(asset), str(sounds), "--out", str(asset)])
    assert done.exit_code == 0
    return asset


@pytest.fixture
def folder(measured: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(measured, tmp_path / "my_codec"))


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
        assert all(f" | {hum:.1f} | " in text for hum in mean["hum_db"].values())
    assert "".join(f" hum {rate} Hz |" for rate in scores["codec"]["mean"]["hum_db"]) + " kb/s |" in text
    assert scores["codec"]["mean"]["hum_db"]
    assert f"| 4 | {scores['codec']['codebooks'][3]['used']} of 32 " in text
    assert "- It hums." in text and "Material: noise." in text
    assert str(sounds.parent) not in text
    assert (out / "training.png").read_bytes().startswith(b"\x89PNG")


def test_a_card_without_words_of_ones_own(folder: Path) -> None:
    assert codec_card.main([str(folder)]) == 0
    text = (folder / "README.md").read_text()
    assert "Material" not in text and "never saw" not in text and "None" not in text
    assert "## What it does to audio\n\n2 files, 0.1 minutes" in text
    assert "wherever a codec is asked for: `my_codec` from beside it" in text
    assert "MIT" not in text and "//pretrained/" not in text and "licence is whoever trained it to choose" in text


def test_a_card_says_what_the_codec_began_with(folder: Path) -> None:
    facts = json.loads((folder / "training.json").read_text())
    facts["continue_from"] = ["//sig/01234567", "facebook/encodec_32khz"]
    (folder / "training.json").write_text(json.dumps(facts))
    assert codec_card.main([str(folder)]) == 0
    text = (folder / "README.md").read_text()
    assert "begun with the weights of `//sig/01234567`, which went on from `facebook/encodec_32khz`" in text
    assert text.startswith("---\n") and "license: cc-by-nc-4.0" in text and "MIT" not in text


@pytest.mark.parametrize("name", ["mini_32khz", "spectral_32khz"])
def test_what_ships_is_said_to(name: str) -> None:
    folder = resource_dir("assets") / name
    paragraphs = codec_card.card(folder, "x", "y", []).split("\n\n")
    assert paragraphs[:3] == (folder / "README.md").read_text(encoding="utf-8").split("\n\n")[:3]
    assert paragraphs[1].endswith(f"It loads as `//pretrained/{name}`. Licence: MIT, as the code.")


def test_curves_are_those_of_the_history(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = json.loads((folder / "training.json").read_text())
    facts |= {"losses": {"l1": 0, "l2": 1, "mrstft": 0.1}, "history": [{"valid": {"l2": 0.5, "loss": 1.0}}]}
    (folder / "training.json").write_text(json.dumps(facts))
    assert codec_card.curves([facts]) == ["l2"]
    assert codec_card.main([str(folder)]) == 0 and "training.png" in (folder / "README.md").read_text()
    # A run that was stopped in its first epoch has none.
    (folder / "training.png").unlink()
    (folder / "training.json").write_text(json.dumps({**facts, "history": []}))
    assert codec_card.main([str(folder)]) == 0 and "training.png" not in (folder / "README.md").read_text()
    assert not (folder / "training.png").exists()


@pytest.mark.parametrize(
    "name, text", [("eval.json", "{}"), ("eval.json", "["), ("training.json", '{"history":[]}'), ("training.json", "[")]
)
def test_damaged_files_are_told(folder: Path, name: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / name).write_text(text)
    assert codec_card.main([str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {folder / name} ") and error.count("\n") == 1
    assert not (folder / "README.md").exists()


def test_a_spectral_codec_becomes_an_asset(sounds: Path, tmp_path: Path) -> None:
    for path in sounds.glob("*.wav"):
        wave, _ = soundfile.read(path)
        soundfile.write(tmp_path / path.name, np.repeat(wave, 2), 32000)
    save_audio_meta(tmp_path / "data.jsonl", [AudioMeta(str(tmp_path / f"{i}.wav"), 2.0, 32000) for i in range(2)])
    run = train.run(
        [
            "solver=compression/spectral_32khz",
            *(f"datasource.{split}={tmp_path}" for split in ("train", "valid", "evaluate", "generate")),
            f"dora.dir={tmp_path / 'runs'}",
            "device=cpu",
            "spectral.dimension=4",
            "rvq.kmeans_iters=1",
            "dataset.segment_duration=1",
            "dataset.batch_size=2",
            "dataset.num_workers=0",
            "dataset.valid.num_samples=2",
            "optim.epochs=1",
            "optim.updates_per_epoch=3",
            "generate.every=null",
            "evaluate.every=null",
            "logging.progress=off",
        ]
    )
    out = tmp_path / "asset"
    assert make_codec_asset.main([str(run.folder), "--out", str(out)]) == 0
    facts = json.loads((out / "training.json").read_text())
    assert facts["steps"] == 3 and facts["rvq"]["decay"] == 0.99 and "losses" not in facts and "optim" not in facts
    options = ["eval", str(out), str(tmp_path), "--seconds", "1", "--no-opus", "--out", str(out)]
    assert CliRunner().invoke(codec.app, options).exit_code == 0
    numbers = {"tones": {"pitch": 0.91}, "rhythm": {"pitch": None}}
    tried = {"about": "So.", "designs": [{"name": "A", "what": "x", **numbers}], "learned": {"A": {"nats": 1.5}}}
    (out / "designs.json").write_text(json.dumps(tried))
    assert codec_card.main([str(out), "--bend", str(tmp_path / "0.wav")]) == 0
    text = (out / "README.md").read_text()
    assert "A spectral codec, envelopes and partials without a network (mono, 32 kHz)" in text
    assert "4 codebooks of 2048 codes, 2.2 kb/s" in text and "hum 50 Hz | hum 200 Hz" in text
    assert "no gradients: codebooks are moving averages (decay 0.99)" in text and "adversaries" not in text
    assert "| A | 0.91 / – |" in text and "- A: x." in text and "| A | 1.500 |" in text
    bent = [line for line in text.splitlines() if line.startswith("| `--")]
    assert len(bent) == codec_card.BENDS + 1 and "--buzz" in bent[-1]


def test_folders_of_an_evaluation_have_means_of_their_own(measured: Path) -> None:
    evaluation = json.loads((measured / "eval.json").read_text())
    for score in evaluation["scores"]:
        for kind, file in zip(("low", "high"), score["files"]):
            file["file"] = f"{kind}/{file['file']}"
    low, high = evaluation["scores"][0]["files"]
    text = codec_card.means(evaluation)
    assert "| mean over high | log-mel |" in text and f"| tiny | {high['log_mel_db']:.2f} |" in text
    assert text.index("mean over high") < text.index("mean over low") and f"| tiny | {low['log_mel_db']:.2f} |" in text
