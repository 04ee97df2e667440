"""What ships here has a short name: language models as codecs."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from audiocraft.checkpoints import locate
from audiocraft.cli import app
from audiocraft.errors import UserError
from audiocraft.models import MusicGen, loaders
from audiocraft.models.export import export_model


@pytest.fixture
def assets(tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An assets folder with a model that names its codec, which ships too."""
    folder = tmp_path / "assets"
    export_model(model_folder, folder / "jungle_pico", format="safetensors", sampling={"temperature": 0.7})
    shutil.move(folder / "jungle_pico" / "codec", folder / "tiny_codec")
    config = folder / "jungle_pico" / "config.yaml"
    text = config.read_text()
    assert "./codec" in text
    config.write_text(text.replace("./codec", "//pretrained/tiny_codec"))
    monkeypatch.setattr(locate, "resource_dir", lambda kind: tmp_path / kind)
    return folder


def run(*arguments: object) -> object:
    return app([str(argument) for argument in arguments], standalone_mode=False)


def same_codec(one: str | Path, two: str | Path) -> bool:
    ours, theirs = (loaders.load_compression_model(name).state_dict() for name in (one, two))
    return all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_a_model_that_ships(assets: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = MusicGen.get_pretrained("//pretrained/jungle_pico", "cpu")
    assert model.files == {
        "model": str(assets / "jungle_pico" / "model.safetensors"),
        "codec": "//pretrained/tiny_codec",
    }
    expected = MusicGen.get_pretrained(model_folder, "cpu").lm.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.lm.state_dict().items())
    # Asked for a codec, a model passes on to its own.
    for name in ("//pretrained/tiny_codec", "tiny_codec", "//pretrained/jungle_pico"):
        assert same_codec(name, model_folder)
    # A folder of that name comes before it, unless the prefix says what is meant.
    assert locate.find_lm("jungle_pico") == assets / "jungle_pico" / "model.safetensors"
    shutil.copytree(model_folder, "jungle_pico")
    assert locate.find_lm("jungle_pico") == Path("jungle_pico/state_dict.bin")
    assert locate.find_lm("//pretrained/jungle_pico") == assets / "jungle_pico" / "model.safetensors"
    # It is exported as any other, and with all its own.
    export_model("//pretrained/jungle_pico", tmp_path / "out", format="peer")
    assert MusicGen.get_pretrained(tmp_path / "out", "cpu").settings["temperature"] == 0.7
    with pytest.raises(UserError, match="is a codec and makes nothing by itself"):
        loaders.load_lm_model("//pretrained/tiny_codec")


def test_commands_play_it_unless_told_otherwise(assets: Path, tmp_path: Path) -> None:
    run("generate", "--duration", 0.2, "--num", 1, "--out", tmp_path / "takes")
    notes = json.loads((tmp_path / "takes" / "take_0001.json").read_text())
    assert notes["model"] == "//pretrained/jungle_pico" and notes["settings"]["temperature"] == 0.7
    run("stream", "--duration", 0.2, "--out", tmp_path / "one.wav", "--min-p", 0.1)
    assert (tmp_path / "one.wav").stat().st_size == 44 + 2 * 6400
    shutil.rmtree(assets / "jungle_pico")
    for command in ("generate", "stream"):
        with pytest.raises(UserError, match="nothing that ships here is called jungle_pico; give a local folder"):
            run(command, "--duration", 0.2, "--out", tmp_path / "new")
    assert not (tmp_path / "new").exists()
