"""A T5 in a folder: it goes where the model goes, and the model finds it there."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from audiocraft.errors import UserError
from audiocraft.models import MusicGen, loaders
from audiocraft.models.export import export_model

T5 = {"t5/config.json", "t5/model.safetensors", "t5/spiece.model"}


@pytest.fixture
def folder(golden: Path, tmp_path: Path) -> Path:
    """A text model as the peer exports it, with its T5 in `t5`, and a codec."""
    folder = shutil.copytree(golden / "lm_text", tmp_path / "text")
    shutil.copy(golden / "codec_ac" / "compression_state_dict.bin", folder)
    return folder


def rename(path: Path, name: str) -> None:
    """Have the config in a `state_dict.bin` name its T5 that."""
    package = torch.load(path, weights_only=True)
    cfg = yaml.safe_load(package["xp.cfg"])
    cfg["conditioners"]["description"]["t5"]["name"] = name
    torch.save({**package, "xp.cfg": yaml.safe_dump(cfg)}, path)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def t5_name(folder: Path) -> str:
    config = folder / "config.yaml"
    text = config.read_text() if config.is_file() else torch.load(folder / "state_dict.bin")["xp.cfg"]
    return yaml.safe_load(text)["conditioners"]["description"]["t5"]["name"]


def codes(name: str | Path) -> torch.Tensor:
    pytest.importorskip("transformers")
    model = MusicGen.get_pretrained(name, "cpu")
    model.set_generation_params(duration=0.4, use_sampling=False)
    return model.generate(["slow strings"], return_tokens=True)[1]


def test_texts_and_the_t5_beside_them(folder: Path, tmp_path: Path) -> None:
    out = export_model(folder, tmp_path / "out", format="safetensors")
    assert files(out) >= T5
    card = (out / "README.md").read_text()
    assert "from texts (description)" in card and "--text" in card and "model.generate([" in card
    lm = loaders.load_lm_model(out)
    assert lm.condition_provider.conditioners["description"].name == str(out / "t5")


@pytest.mark.parametrize("place", [".", "deep/er"])
@pytest.mark.parametrize("format", ["peer", "safetensors"])
def test_a_t5_anywhere_in_the_folder(folder: Path, tmp_path: Path, place: str, format: str) -> None:
    """Also beside the model itself, whose files have names that a T5's have too."""
    wanted = codes(folder)
    (folder / place).mkdir(parents=True, exist_ok=True)
    for file in (folder / "t5").iterdir():
        file.rename(folder / place / file.name)
    (folder / "t5").rmdir()
    rename(folder / "state_dict.bin", f"./{place}".removesuffix("."))
    (folder / "secret.txt").write_text("of nobody's concern")
    out = export_model(folder, tmp_path / "out", format=format)
    assert {name for name in files(out) if name.startswith("t5")} == T5
    assert not {"secret.txt", "io.safetensors"} & {Path(name).name for name in files(out)}
    assert t5_name(out) == "./t5"
    for gone in folder.iterdir():
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    assert torch.equal(codes(out), wanted)
    state = load_file(out / "model.safetensors") if format == "safetensors" else {}
    assert "shared.weight" not in state


def test_a_t5_that_would_be_the_model_itself(folder: Path, tmp_path: Path) -> None:
    out = export_model(folder, tmp_path / "out", format="safetensors")
    shutil.copy(out / "t5" / "config.json", out)
    text = (out / "config.yaml").read_text()
    (out / "config.yaml").write_text(text.replace("name: ./t5", "name: ./"))
    with pytest.raises(UserError, match=r"both the model and its T5; put the T5 into a folder of its own"):
        export_model(out, tmp_path / "again")


def test_two_t5s(folder: Path, tmp_path: Path) -> None:
    package = torch.load(folder / "state_dict.bin", weights_only=True)
    cfg = yaml.safe_load(package["xp.cfg"])
    node = cfg["conditioners"]["description"]
    shutil.copytree(folder / "t5", folder / "other")
    cfg["conditioners"] = {
        "description": node,
        "title": {**node, "t5": {**node["t5"], "name": "./other"}},
        "mood": {**node, "t5": {**node["t5"], "name": "./other"}},
    }
    cfg["fuser"]["cross"] = list(cfg["conditioners"])
    state = dict(package["best_state"])
    for name, value in package["best_state"].items():
        if "conditioners.description." in name:
            state[name.replace("description", "title")] = state[name.replace("description", "mood")] = value
    torch.save({**package, "best_state": state, "xp.cfg": yaml.safe_dump(cfg)}, folder / "state_dict.bin")
    out = export_model(folder, tmp_path / "out", format="safetensors")
    conditioners = yaml.safe_load((out / "config.yaml").read_text())["conditioners"]
    assert [node["t5"]["name"] for node in conditioners.values()] == ["./t5", "./t5_2", "./t5_2"]
    assert {name for name in files(out) if name.startswith("t5")} == T5 | {name.replace("t5/", "t5_2/") for name in T5}
    loaders.load_lm_model(out)
