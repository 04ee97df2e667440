"""Files written here hold what the peer's loader and builders look for: keys, types, config; at full size and tiny."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from audiocraft import train
from audiocraft.models import builders
from audiocraft.models.export import export_encodec, export_lm, export_model

OVERRIDES = json.loads((Path(__file__).parents[1] / "golden/configs/overrides.json").read_text())
# Nodes that the peer's builders hand on whole: a key too many is an error there.
HANDED_ON = ("transformer_lm", "seanet", "encodec", "rvq", "fuser")
# Of every model that the peer trains: its keys in golden/state_keys.json, command, node of the export, file.
MODELS = {
    "lm_micro_none": ("musicgen_micro_none", "state_dict.bin"),
    "lm_small_text2music": ("musicgen_small_text2music", "state_dict.bin"),
    "codec_encodec_musicgen_32khz": ("compression_encodec_musicgen_32khz", "compression_state_dict.bin"),
}


def leaves(node: dict, prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in node.items():
        out |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return out


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict]:
    """What `torch.save` is given, by file name, so that models of full size need no values and no disk."""
    written: dict[str, dict] = {}

    def save(package: dict, path: Path) -> None:
        written[path.suffix] = package
        Path(path).write_bytes(b"")

    monkeypatch.setattr(torch, "save", save)
    return written


@pytest.mark.parametrize("name", MODELS)
def test_a_run_of_the_peers_command_exports_the_peers_file(
    golden: Path, tmp_path: Path, recorded: dict[str, dict], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    command, file = MODELS[name]
    cfg = train.main.make_xp(OVERRIDES[command]).cfg
    is_codec = command.startswith("compression")
    with torch.device("meta"):
        model = builders.get_compression_model(cfg) if is_codec else builders.get_lm_model(cfg)
    checkpoint = {"model": model.state_dict(), "xp.cfg": OmegaConf.to_yaml(cfg), "history": [{}]}
    monkeypatch.setattr("audiocraft.models.export.read_content", lambda path: checkpoint)
    (export_encodec if is_codec else export_lm)(tmp_path / "checkpoint.th", tmp_path / file)
    package = recorded[".bin"]
    assert set(package) == {"best_state", "xp.cfg", "version", "exported"} and package["exported"] is True
    wanted = json.loads((golden / "state_keys.json").read_text())[name]
    made = {key: [list(v.shape), str(v.dtype).removeprefix("torch.")] for key, v in package["best_state"].items()}
    assert list(made.items()) == list(wanted["keys"].items())
    assert sum(value.numel() for value in package["best_state"].values()) == wanted["n_state_elements"]
    # The config: key by key that of the peer, apart from what only says where this machine keeps things.
    peer = leaves(yaml.safe_load((golden / "configs" / f"{command}.yaml").read_text()))
    ours = leaves(yaml.safe_load(package["xp.cfg"]))
    here = ("dora.", "datasource.max_")
    peer = {key: value for key, value in peer.items() if not key.startswith(here)}
    ours = {key: value for key, value in ours.items() if not key.startswith(here)}
    assert ours.keys() - peer.keys() <= {"optim.adam.eps"} and not peer.keys() - ours.keys()
    different = {key for key in ours.keys() & peer.keys() if ours[key] != peer[key]}
    assert different <= {"num_threads", "optim.ema.device", "conditioners"}
    for node in HANDED_ON:
        assert {k for k in ours if k.startswith(f"{node}.")} == {k for k in peer if k.startswith(f"{node}.")}
    # Its loader looks into the conditioners, and fails on null.
    assert is_codec or yaml.safe_load(package["xp.cfg"])["conditioners"] is not None


def package_card(path: Path) -> int:
    return yaml.safe_load(torch.load(path, weights_only=True)["xp.cfg"])["transformer_lm"]["card"]


def codec_of(golden: Path, card: int) -> dict:
    """The peer's codec with only the first `card` codes of each codebook."""
    package = torch.load(golden / "codec_ac" / "compression_state_dict.bin", weights_only=True)
    cfg = yaml.safe_load(package["xp.cfg"])
    bins, cfg["rvq"]["bins"] = cfg["rvq"]["bins"], card
    for key, value in package["best_state"].items():
        if "_codebook." in key and value.shape[0] == bins:
            package["best_state"][key] = value[:card].clone()
    return {**package, "xp.cfg": yaml.safe_dump(cfg)}


@pytest.mark.parametrize("name", ["lm_none", "lm_rope", "lm_text"])
def test_what_the_peer_wrote_comes_back_as_it_was(golden: Path, tmp_path: Path, name: str) -> None:
    """Into our layout and back: no tensor, no type and no key of the config is lost."""
    first = golden / name / "state_dict.bin"
    source = shutil.copytree(golden / name, tmp_path / "source")
    codec = source / "compression_state_dict.bin"
    torch.save(codec_of(golden, package_card(first)), codec)
    back = export_model(export_model(source, tmp_path / "own", format="safetensors"), tmp_path / "back")
    before, after = (torch.load(path, weights_only=True) for path in (first, back / "state_dict.bin"))
    assert before["best_state"].keys() == after["best_state"].keys()
    for key, value in before["best_state"].items():
        assert value.dtype == after["best_state"][key].dtype and torch.equal(value, after["best_state"][key]), key
    one, two = (leaves(yaml.safe_load(package["xp.cfg"])) for package in (before, after))
    assert one | {"conditioners": {}} == two | {"conditioners": {}} if name != "lm_text" else one == two
    before, after = (torch.load(p, weights_only=True) for p in (codec, back / "compression_state_dict.bin"))
    one, two = (leaves(yaml.safe_load(package["xp.cfg"])) for package in (before, after))
    assert two == {key: value for key, value in one.items() if not key.startswith("dora.")}
