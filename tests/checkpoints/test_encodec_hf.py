import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from omegaconf import OmegaConf

from audiocraft.checkpoints.encodec_hf import map_hf_config, map_hf_key
from audiocraft.errors import UserError
from audiocraft.models import builders
from audiocraft.models.loaders import load_compression_model


def test_names() -> None:
    assert map_hf_key("encoder.layers.3.conv.weight_v", {3}) == "encoder.model.3.conv.conv.weight_v"
    assert map_hf_key("decoder.layers.3.conv.bias", {3}) == "decoder.model.3.convtr.convtr.bias"
    assert map_hf_key("decoder.layers.4.block.1.conv.bias", {3}) == "decoder.model.4.block.1.conv.conv.bias"
    assert map_hf_key("decoder.layers.4.shortcut.conv.bias", {3}) == "decoder.model.4.shortcut.conv.conv.bias"
    assert map_hf_key("encoder.layers.0.norm.weight", {3}) == "encoder.model.0.conv.norm.weight"
    newer = "encoder.layers.0.conv.parametrizations.weight.original0"
    assert map_hf_key(newer, {3}) == "encoder.model.0.conv.conv.weight_g"


def test_other_shapes_of_the_family(golden: Path, tmp_path: Path) -> None:
    """Causal with a learned shortcut, and a norm over time: every key finds its place."""
    base = json.loads((golden / "codec_hf" / "config.json").read_text())
    for change in (
        {"use_causal_conv": True, "use_conv_shortcut": True, "num_residual_layers": 2},
        {"norm_type": "time_group_norm", "audio_channels": 2, "normalize": True},
    ):
        config = {**base, **change}
        ours = builders.get_compression_model(OmegaConf.create(map_hf_config(config, 2))).state_dict()
        theirs = {}
        for key, value in ours.items():
            key = key.replace(".model.", ".layers.").replace("convtr.convtr", "conv").replace("conv.conv", "conv")
            key = key.replace("convtr.norm", "norm").replace("conv.norm", "norm")
            theirs[key.replace("quantizer.vq.", "quantizer.").replace("._codebook.", ".codebook.")] = value
        (tmp_path / "config.json").write_text(json.dumps(config))
        safetensors.torch.save_file(theirs, tmp_path / "model.safetensors")
        loaded = load_compression_model(tmp_path)
        assert all(torch.equal(value, ours[key]) for key, value in loaded.state_dict().items())
        assert loaded.total_codebooks == 2 and loaded.channels == config["audio_channels"]


def test_damaged_folders_say_what_is_wrong(golden: Path, tmp_path: Path) -> None:
    source = golden / "codec_hf"
    config = json.loads((source / "config.json").read_text())

    def attempt(match: str) -> None:
        with pytest.raises(UserError, match=match):
            load_compression_model(tmp_path)

    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    attempt(r"holds none of .* model\.safetensors with config\.json")
    (tmp_path / "config.json").write_text("{")
    attempt(r"config\.json is damaged")
    shutil.copy(source / "config.json", tmp_path)
    attempt("damaged")
    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    attempt("no codebooks")
    shutil.copy(source / "model.safetensors", tmp_path)
    for change, match in (
        ({"num_filters": 8}, "do not fit"),
        ({"model_type": "t5"}, "EnCodec"),
        ({"chunk_length_s": 1.0}, "chunk_length_s"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        attempt(match)
    del config["num_filters"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    attempt("num_filters")
