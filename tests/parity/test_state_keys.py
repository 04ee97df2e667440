"""Golden set state_keys.json: names, shapes, types and counts of the full-size models."""

import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from audiocraft.models import builders


@pytest.mark.parametrize(
    "config, keys", [("musicgen_micro_none", "lm_micro_none"), ("musicgen_small_text2music", "lm_small_text2music")]
)
def test_names_and_shapes_at_full_size(golden: Path, config: str, keys: str):
    expected = json.loads((golden / "state_keys.json").read_text())[keys]
    with torch.device("meta"):
        lm = builders.get_lm_model(OmegaConf.load(golden / "configs" / f"{config}.yaml"))
    actual = {key: [list(v.shape), str(v.dtype).removeprefix("torch.")] for key, v in lm.state_dict().items()}
    assert list(actual.items()) == list(expected["keys"].items())
    assert sum(p.numel() for p in lm.parameters()) == expected["n_parameters"]


def test_micro_has_its_134_million_parameters(golden: Path):
    with torch.device("meta"):
        lm = builders.get_lm_model(OmegaConf.load(golden / "configs" / "musicgen_micro_none.yaml"))
    assert sum(p.numel() for p in lm.parameters()) == 134_246_400


def test_full_codec_has_the_names_shapes_and_size_of_the_peer(golden: Path) -> None:
    wanted = json.loads((golden / "state_keys.json").read_text())["codec_encodec_musicgen_32khz"]
    with torch.device("meta"):
        cfg = OmegaConf.load(golden / "configs" / "compression_encodec_musicgen_32khz.yaml")
        model = builders.get_compression_model(cfg)
    ours = {key: [list(v.shape), str(v.dtype).removeprefix("torch.")] for key, v in model.state_dict().items()}
    assert list(ours) == list(wanted["keys"]) and ours == wanted["keys"]
    assert sum(p.numel() for p in model.parameters()) == wanted["n_parameters"] == 56_884_674
