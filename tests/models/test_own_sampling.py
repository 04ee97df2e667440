"""The sampler's knobs that a model comes with: through every layout, and what comes before what."""

import json
import logging
from pathlib import Path

import pytest
import torch
import yaml
from tiny import run_player

from audiocraft.cli import app
from audiocraft.errors import UserError
from audiocraft.models import MusicGen
from audiocraft.models.export import export_model
from audiocraft.utils.takes import Sampling, chosen, own_knobs

OWN = {"temperature": 0.8, "top_p": 0.9, "min_p": 0.05, "cool": 0.95, "repetition": 1.5}


def run(*arguments: object) -> object:
    return app([str(argument) for argument in arguments], standalone_mode=False)


def knobs(model: MusicGen) -> dict[str, float]:
    return {name: model.settings[name] for name in (*OWN, "top_k")}


def change_config(folder: Path, sampling: object) -> None:
    """Write into the config of a folder in the peer's layout, or a run's checkpoint."""
    path = next(path for name in ("state_dict.bin", "checkpoint.th") if (path := folder / name).is_file())
    package = torch.load(path, weights_only=True)
    package["xp.cfg"] = yaml.safe_dump(yaml.safe_load(package["xp.cfg"]) | {"sampling": sampling})
    torch.save(package, path)


def test_what_comes_before_what() -> None:
    assert chosen({"temperature": None}, {}) == Sampling()
    assert vars(chosen({"temperature": None, "greedy": False}, OWN)) == vars(Sampling()) | OWN
    assert chosen({"temperature": 2.0, "min_p": 0}, OWN) == Sampling(**{**OWN, "temperature": 2.0, "min_p": 0})
    # The model's top_p would rule out the top_k that was asked for.
    assert chosen({"top_k": 5}, OWN) == Sampling(**{**OWN, "top_k": 5, "top_p": 0})
    assert chosen({"top_k": 5, "top_p": 0.5}, OWN) == Sampling(**{**OWN, "top_k": 5, "top_p": 0.5})
    assert chosen({"top_p": 0.5}, {"top_k": 9}) == Sampling(top_k=9, top_p=0.5)
    with pytest.raises(ValueError, match="min_p 2"):
        chosen({"min_p": 2}, OWN)


def test_what_a_model_says_is_looked_at() -> None:
    assert own_knobs(None) == own_knobs({}) == own_knobs({"top_k": None}) == ({}, [])
    good, wrong = own_knobs({"temperature": 1, "top_k": 30.0, "cool": None})
    assert good == {"temperature": 1.0, "top_k": 30} and type(good["top_k"]) is int and not wrong
    bad = {"temperature": 0, "top_k": 2.5, "top_p": "0.9", "min_p": True, "cool": float("nan"), "greedy": True}
    good, wrong = own_knobs({**bad, "repetition": [1], "depth": 3})
    assert not good and len(wrong) == 8
    assert [text.split()[0] for text in wrong] == [f"sampling.{name}" for name in (*bad, "repetition", "depth")]
    assert own_knobs(["temperature"])[1][0].startswith("sampling is ['temperature']")


@pytest.mark.parametrize("format", ["peer", "safetensors"])
@pytest.mark.parametrize("way", ["config", "option"])
def test_every_layout_keeps_them(run_folder: Path, tmp_path: Path, format: str, way: str) -> None:
    assert knobs(MusicGen.get_pretrained("cafe0123", "cpu")) == knobs(MusicGen.get_pretrained("debug", "cpu"))
    text = ",".join(f"{name}={value}" for name, value in OWN.items())
    if way == "config":
        change_config(run_folder, {**OWN, "top_k": None})
        assert knobs(MusicGen.get_pretrained("cafe0123", "cpu")) == {**OWN, "top_k": 250}
    run("export", "cafe0123", "--out", tmp_path / "m", "--format", format, *(["--sampling", text] * (way == "option")))
    model = MusicGen.get_pretrained(tmp_path / "m", "cpu")
    assert knobs(model) == {**OWN, "top_k": 250}
    model.set_generation_params(duration=3, temperature=1.0, top_k=7)
    assert knobs(model) == {**OWN, "temperature": 1.0, "top_k": 7, "top_p": 0.0}
    model.set_generation_params()
    assert knobs(model) == {**OWN, "top_k": 250}
    # Written once more, in the other layout, one of them anew.
    other = "peer" if format == "safetensors" else "safetensors"
    export_model(tmp_path / "m", tmp_path / "again", format=other, sampling={"cool": 1})
    assert knobs(MusicGen.get_pretrained(tmp_path / "again", "cpu")) == {**OWN, "cool": 1.0, "top_k": 250}


def test_takes_say_what_was_used(model_folder: Path, tmp_path: Path) -> None:
    export_model(model_folder, tmp_path / "m", sampling=OWN)
    make = ("--duration", 0.2, "--num", 1, "--seed", 3, "--device", "cpu", "--precision", "float32")
    told = ("--temperature", 0.8, "--top-p", 0.9, "--min-p", 0.05, "--cool", 0.95, "--repetition", 1.5)
    for out, model, options in (
        ("own", "m", ()),
        ("given", "model", told),
        ("over", "m", ("--cool", 1, "--top-k", 9)),
        ("none", "model", ()),
    ):
        run("generate", tmp_path / model, *make, "--out", tmp_path / out, *options)
    settings = {
        out: json.loads((tmp_path / out / "take_0001.json").read_text())["settings"]
        for out in ("own", "given", "over", "none")
    }
    assert settings["own"] == settings["given"] and settings["own"].items() >= {**OWN, "top_k": 250}.items()
    assert settings["over"] == {**settings["own"], "cool": 1.0, "top_k": 9, "top_p": 0.0}
    assert settings["none"].items() >= vars(Sampling(greedy=False)).items() - {("greedy", False)}
    sounds = [(tmp_path / out / "take_0001.wav").read_bytes() for out in ("own", "given", "none")]
    assert sounds[0] == sounds[1] != sounds[2]
    MusicGen.get_pretrained(tmp_path / "m", "cpu").set_generation_params(**settings["over"])


def test_a_player_keeps_them(model_folder: Path, tmp_path: Path) -> None:
    run("export", model_folder, "--format", "onnx", "--out", tmp_path / "p", "--sampling", "temperature=0.8,top_p=0.9")
    assert json.loads((tmp_path / "p" / "player.json").read_text())["sampling"] == {"temperature": 0.8, "top_p": 0.9}
    for options, expected in (
        ((), Sampling(0.8, 250, 0.9)),
        (("--top-k", "20", "--cool", "0.5"), Sampling(0.8, 20, cool=0.5)),
    ):
        done = run_player(tmp_path / "p", "--duration", "0.5", "--seed", "1", "--out", "takes", *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        (note,) = (tmp_path / "takes").glob("*.json")
        assert json.loads(note.read_text())["settings"] == {"duration": 0.5, **vars(expected)}
        note.unlink()
        note.with_suffix(".wav").unlink()
    facts = json.loads((tmp_path / "p" / "player.json").read_text())
    (tmp_path / "p" / "player.json").write_text(json.dumps(facts | {"sampling": {"temperature": -1, "top_k": 8}}))
    done = run_player(tmp_path / "p", "--duration", "0.5", "--out", "takes", cwd=tmp_path)
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("warning: in player.json sampling.temperature is -1 (") and done.returncode == 0
    (note,) = (tmp_path / "takes").glob("*.json")
    assert json.loads(note.read_text())["settings"] == {"duration": 0.5, **vars(Sampling(top_k=8))}


def test_what_does_not_work_is_left_out_and_told(model_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    change_config(model_folder, {"temperature": 0, "min_p": 0.1, "depth": 3})
    with caplog.at_level(logging.WARNING):
        model = MusicGen.get_pretrained(model_folder, "cpu")
    assert model.own_sampling == {"min_p": 0.1}
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2 and all(text.startswith(f"{model_folder}: in the model's config sampling.") for text in told)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("temperature", "says nothing"),
        ("temperature=hot", "says nothing"),
        ("heat=3", "sampling.heat is 3.0 .known are temperature"),
        ("top_k=2.5", "not a whole number"),
        ("min_p=0.1,cool=0", "cool 0 does not work"),
    ],
)
@pytest.mark.parametrize("format", ["peer", "onnx"])
def test_bad_options(model_folder: Path, tmp_path: Path, given: str, says: str, format: str) -> None:
    with pytest.raises(UserError, match=says):
        run("export", model_folder, "--out", tmp_path / "out", "--format", format, "--sampling", given)
    assert not (tmp_path / "out").exists()


def test_a_codec_has_none(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a codec and chooses no codes"):
        export_model("//pretrained/mini_32khz", tmp_path / "out", sampling=OWN)
    with pytest.raises(UserError, match="min_p 7"):
        export_model(model_folder, tmp_path / "out", sampling={"min_p": 7})
    assert not (tmp_path / "out").exists()
