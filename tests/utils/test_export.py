"""Exports: what is in them, which weights, and that they play as the run did."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from audiocraft.checkpoints.configs import export_config
from audiocraft.checkpoints.weights import fingerprint
from audiocraft.errors import UserError
from audiocraft.models import MusicGen, loaders
from audiocraft.train import main
from audiocraft.utils.export import export_encodec, export_lm, export_model, export_pretrained_compression_model


def read(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def shift(folder: Path, model_folder: Path) -> float:
    """How far the exported weights are from those of the model folder."""
    mine, other = read(folder / "state_dict.bin")["best_state"], read(model_folder / "state_dict.bin")["best_state"]
    assert mine.keys() == other.keys()
    assert all(value.dtype == torch.float32 for value in mine.values())
    return (mine["out_norm.bias"] - other["out_norm.bias"]).mean().item()


def test_run_to_folder(run_folder: Path, model_folder: Path, tmp_path: Path) -> None:
    """By signature, with the averaged weights; it plays as the model folder does."""
    out = export_model("cafe0123", tmp_path / "out")
    assert shift(out, model_folder) == 0
    package = read(out / "state_dict.bin")
    assert sorted(package) == ["best_state", "exported", "version", "xp.cfg"] and package["exported"] is True
    cfg = yaml.safe_load(package["xp.cfg"])
    assert cfg["conditioners"] == {}
    assert "short" not in cfg["dataset"] and "cache" not in cfg["tokens"] and "dora" not in cfg
    codec = read(out / "compression_state_dict.bin")
    assert sorted(codec) == ["best_state", "exported", "version", "xp.cfg"]
    facts = json.loads((out / "export.json").read_text())
    assert (facts["run"], facts["epoch"], facts["state"]) == ("cafe0123", 2, "ema")
    codes = []
    for name in (out, model_folder):
        model = MusicGen.get_pretrained(name, "cpu")
        model.set_generation_params(duration=0.4)
        codes.append(model.generate_unconditional(1, return_tokens=True, seed=1)[1])
    assert torch.equal(*codes)
    # The same again gives the same content, and tells itself apart from other weights.
    before = fingerprint(out / "state_dict.bin")
    assert fingerprint(export_model(run_folder, out) / "state_dict.bin") == before
    assert fingerprint(export_model(run_folder, out, state="model") / "state_dict.bin") != before


@pytest.mark.parametrize(
    ("state", "epoch", "wanted"), [("model", None, 1), ("best", None, 2), (None, 1, 3), ("ema", None, 0)]
)
def test_states(
    run_folder: Path, model_folder: Path, tmp_path: Path, state: str | None, epoch: int | None, wanted: int
) -> None:
    """Epoch 1 was kept by a run without average: its last weights are taken."""
    assert shift(export_model(run_folder, tmp_path / "out", state, epoch), model_folder) == pytest.approx(
        wanted, abs=1e-5
    )


def test_best_of_one_sample_is_called_noise(run_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        export_model(run_folder, tmp_path / "out")
        assert not caplog.records
        export_model(run_folder, tmp_path / "out", state="best")
    assert "one validation sample" in caplog.text


def test_no_other_model_is_replaced_unasked(run_folder: Path, tmp_path: Path) -> None:
    out = export_model(run_folder, tmp_path / "out")
    facts = out / "export.json"
    facts.write_text(facts.read_text().replace("cafe0123", "beef0123"))
    before = fingerprint(out / "state_dict.bin")
    with pytest.raises(UserError, match="holds the model of run beef0123"):
        export_model(run_folder, out, state="model")
    facts.unlink()
    with pytest.raises(UserError, match="holds another model"):
        export_model(run_folder, out, state="model")
    assert fingerprint(out / "state_dict.bin") == before
    assert fingerprint(export_model(run_folder, out, state="model", replace=True) / "state_dict.bin") != before


def test_refusals(run_folder: Path, golden: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for arguments, says in (
        (("beef0123",), "there is no run"),
        ((tmp_path / "nowhere",), "there is no model"),
        ((run_folder, out, "ema", 5), "epochs kept: 1"),
        ((run_folder, out, "ema", 1), "no 'ema' weights"),
        ((run_folder, out, "worst"), "choose one of"),
    ):
        with pytest.raises(UserError, match=says):
            export_model(arguments[0], *(arguments[1:] or (out,)))
    with pytest.raises(UserError, match="not a checkpoint of a codec run"):
        export_encodec(run_folder / "checkpoint.th", out)
    with pytest.raises(UserError, match="no trained weights"):
        export_lm(golden / "lm_none" / "state_dict.bin", out)
    assert not out.exists()
    (run_folder / "checkpoint.th").write_bytes(b"damage")
    with pytest.raises(UserError, match="damaged"):
        export_model(run_folder, out)


def test_a_run_that_does_not_load_is_not_exported(run_folder: Path, tmp_path: Path) -> None:
    checkpoint = read(run_folder / "checkpoint.th")
    checkpoint["ema"]["state"]["model"]["out_norm.bias"][0] = float("nan")
    torch.save(checkpoint, run_folder / "checkpoint.th")
    with pytest.raises(UserError, match=r"the training has diverged; take an earlier epoch \(export --epoch\)"):
        export_model(run_folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    export_model(run_folder, tmp_path / "out", epoch=1)


def test_an_average_of_nothing_is_not_exported(run_folder: Path, model_folder: Path, tmp_path: Path) -> None:
    """A run shorter than `optim.ema.updates` steps has an average that is still its random start."""
    checkpoint = read(run_folder / "checkpoint.th")
    checkpoint["ema"]["count"] = 0.0
    torch.save(checkpoint, run_folder / "checkpoint.th")
    out = export_model(run_folder, tmp_path / "out")
    assert shift(out, model_folder) == pytest.approx(1, abs=1e-5)
    assert json.loads((out / "export.json").read_text())["state"] == "model"


def test_a_failed_export_leaves_the_former_one(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder never holds the codec of one run and the language model of another."""
    out = export_model(run_folder, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    checkpoint = read(run_folder / "checkpoint.th")
    other = tmp_path / "codec"
    codec = read(out / "compression_state_dict.bin")
    codec["best_state"] = {name: value + 1 for name, value in codec["best_state"].items()}
    other.mkdir()
    torch.save(codec, other / "compression_state_dict.bin")
    cfg = yaml.safe_load(checkpoint["xp.cfg"])
    checkpoint["xp.cfg"] = yaml.safe_dump({**cfg, "compression_model_checkpoint": str(other)})
    torch.save(checkpoint, run_folder / "checkpoint.th")
    save, written = torch.save, []

    def full_at_the_second(package: dict, path: Path) -> None:
        written.append(path)
        if len(written) == 2:
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598")
        save(package, path)

    monkeypatch.setattr(torch, "save", full_at_the_second)
    with pytest.raises(UserError, match="disk is full"):
        export_model(run_folder, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_codec_named_by_a_relative_path(
    run_folder: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked for where the training was started, then here; else the message says where to go."""
    checkpoint = read(run_folder / "checkpoint.th")
    cfg = yaml.safe_load(checkpoint["xp.cfg"])
    checkpoint["xp.cfg"] = yaml.safe_dump({**cfg, "compression_model_checkpoint": "./my/codec"})
    torch.save(checkpoint, run_folder / "checkpoint.th")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for attempt in (lambda: export_model(run_folder, tmp_path / "out"), lambda: MusicGen.get_pretrained(run_folder)):
        with pytest.raises(UserError, match=r"'\./my/codec'.*folder where"):
            attempt()
    for start in (elsewhere, tmp_path):  # the run is in tmp_path/outputs
        codec = start / "my" / "codec"
        codec.mkdir(parents=True)
        shutil.copy(model_folder / "compression_state_dict.bin", codec)
        out = export_model(run_folder, tmp_path / "out")
        assert json.loads((out / "export.json").read_text())["codec"] == str(codec)
        assert MusicGen.get_pretrained(run_folder, "cpu").files["codec"].startswith(str(codec))


def test_codec_run(golden: Path, tmp_path: Path) -> None:
    package = read(golden / "codec_ac" / "compression_state_dict.bin")
    run = tmp_path / "run"
    run.mkdir()
    cfg = yaml.safe_load(package["xp.cfg"])
    cfg["rvq"]["threshold_ema_dead_code"] = "auto"
    torch.save({"model": package["best_state"], "xp.cfg": yaml.safe_dump(cfg)}, run / "checkpoint.th")
    out = export_model(run, tmp_path / "out")
    assert sorted(p.name for p in out.iterdir()) == ["compression_state_dict.bin", "export.json"]
    exported = read(out / "compression_state_dict.bin")
    assert yaml.safe_load(exported["xp.cfg"])["rvq"]["threshold_ema_dead_code"] == 2
    io = load_file(golden / "codec_ac" / "io.safetensors")
    assert torch.equal(loaders.load_compression_model(out).encode(io["wav"])[0], io["codes"])
    assert export_encodec(run / "checkpoint.th", tmp_path / "codec.bin").is_file()


def test_codecs_that_the_peer_knows_are_only_named(golden: Path, tmp_path: Path) -> None:
    path = export_pretrained_compression_model("//pretrained/facebook/encodec_32khz", tmp_path)
    assert path == tmp_path / "compression_state_dict.bin"
    package = read(path)
    assert package.pop("version") and package == {"pretrained": "facebook/encodec_32khz", "exported": True}
    # Any other is embedded whole, the Hugging Face layout included.
    export_pretrained_compression_model(str(golden / "codec_hf"), path)
    io = load_file(golden / "codec_hf" / "io.safetensors")
    with torch.no_grad():
        assert torch.equal(loaders.load_compression_model(tmp_path).encode(io["wav"])[0], io["codes"])


def _leaves(node: dict, prefix: str = "") -> dict:
    out: dict = {}
    for key, value in node.items():
        out |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return out


def test_exported_config_is_the_peers(golden: Path) -> None:
    """The config of the original command, exported: the peer's keys and values, but for three that say nothing."""
    overrides = json.loads((golden / "configs" / "overrides.json").read_text())["musicgen_micro_none"]
    ours = _leaves(yaml.safe_load(export_config(main.get_xp(overrides).cfg)))
    peer = _leaves(yaml.safe_load((golden / "configs" / "musicgen_micro_none.yaml").read_text()))
    # Where runs and audio lie on this machine is nobody's business elsewhere.
    here = ("dora.", "datasource.max_")
    peer = {key: value for key, value in peer.items() if not key.startswith(here)}
    ours = {key: value for key, value in ours.items() if not key.startswith(here)}
    assert ours.keys() == peer.keys()
    different = {key for key in ours if ours[key] != peer[key]}
    assert different <= {"num_threads", "optim.ema.device", "conditioners"}
    assert ours["conditioners"] == {} and peer["conditioners"] is None
