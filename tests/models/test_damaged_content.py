"""Files that can be read, with something in them where another thing belongs: one line says so, on playing and on
export."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from audiocraft.errors import UserError
from audiocraft.models import MusicGen
from audiocraft.models.export import FORMATS, export_model

FILES = ("state_dict.bin", "compression_state_dict.bin")


def refused(folder: Path, out: Path, says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        MusicGen.get_pretrained(folder, "cpu")
    assert "\n" not in str(error.value)
    for format in FORMATS:
        with pytest.raises(UserError, match=says):
            export_model(folder, out, format=format)
    assert not out.exists()


@pytest.mark.parametrize("value", ["x", [1], 5, "${nowhere}"], ids=str)
@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("conditioners", "conditioners is .*; it takes keys of its own"),
        ("interleave_stereo_codebooks", "interleave_stereo_codebooks is .*; it takes keys of its own"),
        ("dataset", r"its dataset\.segment_duration is no number"),
        ("dataset.segment_duration", r"its dataset\.segment_duration is no number"),
        ("sample_rate", "its sample_rate is no number"),
    ],
)
def test_values_of_the_config(model_folder: Path, tmp_path: Path, key: str, says: str, value: Any) -> None:
    if value == 5 and key in ("dataset.segment_duration", "sample_rate"):
        value = -5
    path = model_folder / "state_dict.bin"
    package = torch.load(path, weights_only=True)
    cfg = yaml.safe_load(package["xp.cfg"])
    *parents, last = key.split(".")
    node = cfg
    for parent in parents:
        node = node[parent]
    node[last] = value
    torch.save({**package, "xp.cfg": yaml.safe_dump(cfg)}, path)
    refused(model_folder, tmp_path / "out", f"the config inside .*{says}")


@pytest.mark.parametrize(
    ("file", "key", "value", "says"),
    [
        (
            "compression_state_dict.bin",
            "seanet.dimension",
            0,
            r"dimension is 0; it takes a whole number from 1",
        ),
        ("compression_state_dict.bin", "seanet.compress", 0, r"seanet\.compress is 0; it takes a whole number from 1"),
        ("compression_state_dict.bin", "seanet.ratios", [0, 2], r"seanet\.ratios is \[0, 2\]; it takes a list"),
        ("compression_state_dict.bin", "seanet.activation_params", {"alpha": "x"}, "correct activation_params"),
        ("compression_state_dict.bin", "seanet.norm_params", "x", "norm_params is 'x'; it takes keys of its own"),
        ("compression_state_dict.bin", "seanet.norm_params", {"a": 1}, r"unknown key 'seanet\.norm_params\.a'"),
        (
            "compression_state_dict.bin",
            "encodec.channels",
            "x",
            "encodec.channels is 'x'; it takes a whole number",
        ),
        ("compression_state_dict.bin", "encodec.sample_rate", None, "does not work: encodec.sample_rate is null"),
        ("compression_state_dict.bin", "encodec.sample_rate", 100, "lasts over a second"),
        ("compression_state_dict.bin", "seanet.lstm", 10**9, "far larger than its weights"),
        ("compression_state_dict.bin", "rvq.n_q", 10**9, "far larger than its weights"),
        ("state_dict.bin", "transformer_lm.num_layers", 10**9, "far larger than its weights"),
    ],
)
def test_values_that_no_model_can_be_built_of(
    model_folder: Path, tmp_path: Path, file: str, key: str, value: Any, says: str
) -> None:
    package = torch.load(model_folder / file, weights_only=True)
    cfg = yaml.safe_load(package["xp.cfg"])
    node, name = key.split(".")
    cfg[node][name] = value
    torch.save({**package, "xp.cfg": yaml.safe_dump(cfg)}, model_folder / file)
    refused(model_folder, tmp_path / "out", f"the config inside .*{says}")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("kind", ["text", "number", "null", "list", "sparse", "integers", "nameless"])
def test_values_among_the_weights(model_folder: Path, tmp_path: Path, file: str, kind: str) -> None:
    path = model_folder / file
    package = torch.load(path, weights_only=True)
    state = package["best_state"]
    name = next(name for name, value in state.items() if name.endswith("bias"))
    others: dict[str, Any] = {
        "text": "x",
        "number": 3.0,
        "null": None,
        "list": [1.0],
        "sparse": torch.zeros_like(state[name]).to_sparse(),
        "integers": torch.zeros_like(state[name], dtype=torch.int64),
    }
    state[5 if kind == "nameless" else name] = others.get(kind, torch.zeros(1))
    torch.save(package, path)
    says = "is torch.int64, not torch.float32" if kind == "integers" else "something among its weights that is none"
    refused(model_folder, tmp_path / "out", f"{file} .*{says}")


@pytest.mark.parametrize("name", [None, 5, "", ["a"]], ids=str)
def test_the_name_of_a_codec(model_folder: Path, tmp_path: Path, name: Any) -> None:
    package = {"pretrained": name, "version": "1.3.0", "exported": True}
    torch.save(package, model_folder / "compression_state_dict.bin")
    refused(model_folder, tmp_path / "out", r"compression_state_dict\.bin names no codec")


def test_values_among_the_weights_of_a_run(run_folder: Path, tmp_path: Path) -> None:
    path = run_folder / "checkpoint.th"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["ema"]["state"]["model"]["out_norm.bias"] = "x"
    torch.save(checkpoint, path)
    refused(run_folder, tmp_path / "out", "something among its weights that is none")


@pytest.mark.parametrize("value", [5, "x", [5], {"state": 5, "count": 1}, torch.zeros(2)], ids=str)
@pytest.mark.parametrize("key", ["ema", "history", "best_state", "epoch_state", "xp.sig", "version"])
def test_a_run_is_exported_whatever_stands_beside_its_weights(
    run_folder: Path, tmp_path: Path, key: str, value: Any
) -> None:
    path = run_folder / "checkpoint.th"
    checkpoint = torch.load(path, weights_only=True)
    torch.save({**checkpoint, key: value}, path)
    export_model(run_folder, tmp_path / "out", state="model")
    package = torch.load(tmp_path / "out" / "state_dict.bin", weights_only=True)
    assert torch.equal(package["best_state"]["out_norm.bias"], checkpoint["model"]["out_norm.bias"])
    torch.save({**checkpoint, "model": value}, path)
    with pytest.raises(UserError, match=r"holds no trained weights|something among its weights"):
        export_model(run_folder, tmp_path / "other", state="model")
