"""One model in every layout: written, read by path, run and hub name, and written back without a bit of difference."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from audiocraft.errors import UserError
from audiocraft.models import MusicGen, loaders
from audiocraft.models.export import export_model

OWN = {"model.safetensors", "config.yaml", "README.md", "export.json", "codec/model.safetensors", "codec/config.yaml"}


def read(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def codes(name: str | Path) -> torch.Tensor:
    model = MusicGen.get_pretrained(name, "cpu")
    model.set_generation_params(duration=0.4)
    return model.generate_unconditional(1, return_tokens=True, seed=1)[1]


def same(one: dict, two: dict) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[n], two[n]) and one[n].dtype == two[n].dtype for n in one)


def put_in_cache(folder: Path, repo: str, cache: Path) -> None:
    """What a download of the whole repository would have left."""
    repository = cache / f"models--{repo.replace('/', '--')}"
    shutil.copytree(folder, repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)


def test_a_run_in_our_layout(run_folder: Path, model_folder: Path, tmp_path: Path) -> None:
    out = export_model("cafe0123", tmp_path / "tiny", format="safetensors")
    assert files(out) == OWN
    assert len({path.stat().st_mode for path in out.rglob("*") if path.is_file()}) == 1  # all readable as is usual here
    assert same(load_file(out / "model.safetensors"), read(model_folder / "state_dict.bin")["best_state"])
    cfg = yaml.safe_load((out / "config.yaml").read_text())
    assert cfg["compression_model_checkpoint"] == "./codec" and cfg["conditioners"] == {}
    card = (out / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["pipeline_tag"] == "text-to-audio" and "micro-musicgen" in front["tags"]
    for text in ("# tiny", "`cafe0123`, 2 epochs", "in `codec/`", 'get_pretrained("tiny")', "| valid | ce | 3.5 |"):
        assert text in card
    assert torch.equal(codes(out), codes(model_folder))
    # Half of a model is no model.
    shutil.rmtree(out / "codec")
    with pytest.raises(UserError, match="codec with the model's codec is missing; copy the whole folder"):
        MusicGen.get_pretrained(out, "cpu")


def test_there_and_back(run_folder: Path, tmp_path: Path) -> None:
    """Peer, ours, peer: tensors and configs are the same, and so are the notes."""
    first = export_model("cafe0123", tmp_path / "first")
    own = export_model(first, tmp_path / "own", format="safetensors")
    back = export_model(own, tmp_path / "back")
    assert files(back) == files(first) == {"state_dict.bin", "compression_state_dict.bin", "export.json"}
    for name in ("state_dict.bin", "compression_state_dict.bin"):
        one, two = read(first / name), read(back / name)
        assert same(one.pop("best_state"), two.pop("best_state"))
        assert yaml.safe_load(one.pop("xp.cfg")) == yaml.safe_load(two.pop("xp.cfg"))
        assert one == two
    assert (first / "export.json").read_text() == (back / "export.json").read_text()
    # From a run straight to our layout is the same as by way of the peer's.
    straight = export_model("cafe0123", tmp_path / "straight", format="safetensors")
    assert same(load_file(straight / "model.safetensors"), load_file(own / "model.safetensors"))
    assert yaml.safe_load((straight / "config.yaml").read_text()) == yaml.safe_load((own / "config.yaml").read_text())


def test_other_layouts_leave_the_folder(run_folder: Path, tmp_path: Path) -> None:
    """Two models in one folder would be told apart by luck; what somebody wrote into the card stays."""
    out = export_model("cafe0123", tmp_path / "out")
    with pytest.raises(UserError, match="is the model itself"):
        export_model(out, out, format="safetensors")
    export_model("cafe0123", out, format="safetensors", state="model")
    assert files(out) == OWN
    (out / "README.md").write_text("mine")
    before = codes(out)
    export_model("cafe0123", out, format="safetensors")
    assert (out / "README.md").read_text() == "mine" and not torch.equal(codes(out), before)
    export_model("cafe0123", out)
    assert files(out) == {"state_dict.bin", "compression_state_dict.bin", "export.json", "README.md"}
    # A config of something else is no model.
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.yaml").write_text("mine: 1")
    export_model("cafe0123", other)
    with pytest.raises(UserError, match=r"holds a config\.yaml of something else"):
        export_model("cafe0123", other, format="safetensors")
    assert (other / "config.yaml").read_text() == "mine: 1"
    with pytest.raises(UserError, match="no format 'flac'; choose one of peer, safetensors"):
        export_model("cafe0123", out, format="flac")


def test_types_of_tensors(model_folder: Path, tmp_path: Path) -> None:
    """Ours keeps halves; the peer's is float32, as the peer writes it."""
    package = read(model_folder / "state_dict.bin")
    package["best_state"] = {name: value.half() for name, value in package["best_state"].items()}
    torch.save(package, model_folder / "state_dict.bin")
    own = export_model(model_folder, tmp_path / "own", format="safetensors")
    assert same(load_file(own / "model.safetensors"), package["best_state"])
    back = read(export_model(own, tmp_path / "back") / "state_dict.bin")["best_state"]
    assert same(back, {name: value.float() for name, value in package["best_state"].items()})


def test_a_codec_that_is_only_named(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = {"pretrained": "facebook/encodec_32khz", "exported": True, "version": "1.3.0"}
    torch.save(named, model_folder / "compression_state_dict.bin")
    out = export_model(model_folder, tmp_path / "out", format="safetensors")
    assert files(out) == {name for name in OWN if not name.startswith("codec/")}
    assert yaml.safe_load((out / "config.yaml").read_text())["compression_model_checkpoint"] == (
        "//pretrained/facebook/encodec_32khz"
    )
    card = (out / "README.md").read_text()
    assert "license: cc-by-nc-4.0" in card and "`facebook/encodec_32khz`" in card
    back = read(export_model(out, tmp_path / "back") / "compression_state_dict.bin")
    assert back["pretrained"] == "facebook/encodec_32khz"
    # Loading the codec of such a folder goes where the name leads.
    asked = []

    def cached_file(repo: str, *_: object) -> None:
        asked.append(repo)
        raise UserError("no hub")

    monkeypatch.setattr("audiocraft.checkpoints.locate.cached_file", cached_file)
    with pytest.raises(UserError, match="no hub"):
        loaders.load_compression_model(out)
    assert asked == ["facebook/encodec_32khz"]


@pytest.mark.parametrize("source", ["codec_ac", "codec_hf", "//pretrained/mini_32khz"])
def test_codecs(golden: Path, tmp_path: Path, source: str) -> None:
    name = source if source.startswith("//") else golden / source
    wanted = loaders.load_compression_model(name).state_dict()
    own = export_model(name, tmp_path / "own", format="safetensors")
    assert files(own) == {"model.safetensors", "config.yaml", "README.md", "export.json"}
    assert (
        "An EnCodec (1 channel, 32 kHz): 50 frames per second" in (own / "README.md").read_text() or "codec_" in source
    )
    assert same(loaders.load_compression_model(own).state_dict(), wanted)
    back = export_model(own, tmp_path / "back")
    assert files(back) == {"compression_state_dict.bin", "export.json"}
    assert same(read(back / "compression_state_dict.bin")["best_state"], wanted)
    with pytest.raises(UserError, match="is not a language model"):
        loaders.load_lm_model(own)


@pytest.mark.parametrize("file", ["compression_state_dict.bin", "model.safetensors"])
def test_newer_names_of_weight_norm(golden: Path, tmp_path: Path, file: str) -> None:
    """As torch's parametrisations call its tensors; without weight norm there are none to rename."""
    source = golden / "codec_ac"
    package = read(source / "compression_state_dict.bin")
    newer = {
        name.replace("weight_g", "parametrizations.weight.original0").replace(
            "weight_v", "parametrizations.weight.original1"
        ): value
        for name, value in package["best_state"].items()
    }
    assert newer.keys() != package["best_state"].keys()
    if file.endswith(".bin"):
        torch.save({**package, "best_state": newer}, tmp_path / file)
    else:
        save_file(newer, tmp_path / file)
        (tmp_path / "config.yaml").write_text(package["xp.cfg"])
    assert same(
        loaders.load_compression_model(tmp_path).state_dict(), loaders.load_compression_model(source).state_dict()
    )
    out = read(export_model(tmp_path, tmp_path / "out") / "compression_state_dict.bin")
    assert out["best_state"].keys() == package["best_state"].keys()


def with_torch_attention(path: Path) -> None:
    """Make a language model's export what the peer writes without kernels of its own: it then wraps torch's attention,
    whose weights are called `mha.`."""
    package = read(path)
    cfg = yaml.safe_load(package["xp.cfg"])
    cfg["transformer_lm"] |= {"custom": False, "memory_efficient": False}
    state = {name.replace("self_attn.", "self_attn.mha."): value for name, value in package["best_state"].items()}
    assert state.keys() != package["best_state"].keys()
    torch.save({**package, "best_state": state, "xp.cfg": yaml.safe_dump(cfg)}, path)


def test_names_of_torch_attention(model_folder: Path, tmp_path: Path) -> None:
    """They play the same, and stay in an export in the peer's layout, where the config asks for them."""
    wanted = codes(model_folder)
    with_torch_attention(model_folder / "state_dict.bin")
    assert torch.equal(codes(model_folder), wanted)
    own = export_model(model_folder, tmp_path / "own", format="safetensors")
    assert torch.equal(codes(own), wanted)
    before, after = (read(f / "state_dict.bin") for f in (model_folder, export_model(own, tmp_path / "back")))
    assert same(after["best_state"], before["best_state"])
    assert not yaml.safe_load(after["xp.cfg"])["transformer_lm"]["memory_efficient"]


@pytest.mark.parametrize("none", ["null", "{}", "absent"])
def test_no_conditions_however_they_are_written(model_folder: Path, tmp_path: Path, none: str) -> None:
    """All of them play, and leave as `{}`, which the peer reads."""
    package = read(model_folder / "state_dict.bin")
    cfg = yaml.safe_load(package["xp.cfg"])
    cfg.pop("conditioners")
    text = yaml.safe_dump(cfg) + ("" if none == "absent" else f"conditioners: {none}\n")
    torch.save({**package, "xp.cfg": text}, model_folder / "state_dict.bin")
    assert codes(model_folder).shape == (1, 4, 20)
    for format in ("peer", "safetensors"):
        out = export_model(model_folder, tmp_path / format, format=format)
        exported = read(out / "state_dict.bin")["xp.cfg"] if format == "peer" else (out / "config.yaml").read_text()
        assert yaml.safe_load(exported)["conditioners"] == {}


def test_from_the_hub(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository in our layout, from a filled cache and with no net."""
    monkeypatch.setenv("AUDIOCRAFT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("audiocraft.utils.hub.is_reachable", lambda: pytest.fail("the net was asked"))
    own = export_model("cafe0123", tmp_path / "own", format="safetensors")
    put_in_cache(own, "somebody/tiny", tmp_path / "cache")
    put_in_cache(own / "codec", "somebody/codec", tmp_path / "cache")
    assert torch.equal(codes("somebody/tiny"), codes(own))
    wanted = loaders.load_compression_model(own).state_dict()
    for name in ("somebody/codec", "//pretrained/somebody/codec", "somebody/tiny", own / "codec", own):
        assert same(loaders.load_compression_model(name).state_dict(), wanted)
    assert files(export_model("somebody/tiny", tmp_path / "peer")) == {
        "state_dict.bin",
        "compression_state_dict.bin",
        "export.json",
    }
    assert torch.equal(codes(tmp_path / "peer"), codes(own))
    assert files(export_model("somebody/codec", tmp_path / "c")) == {"compression_state_dict.bin", "export.json"}


def test_damage(run_folder: Path, tmp_path: Path) -> None:
    own = export_model("cafe0123", tmp_path / "own", format="safetensors")
    weights = own / "model.safetensors"
    whole = weights.read_bytes()
    for content in (whole[:5000], b"", b"text" * 100):
        weights.write_bytes(content)
        with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
            MusicGen.get_pretrained(own, "cpu")
    state = load_file_of(whole)
    save_file({**state, "extra": torch.zeros(1)}, weights)
    with pytest.raises(UserError, match="extra is unknown"):
        MusicGen.get_pretrained(own, "cpu")
    weights.write_bytes(whole)
    (own / "config.yaml").write_text("a: [")
    with pytest.raises(UserError, match="cannot be read"):
        MusicGen.get_pretrained(own, "cpu")
    (own / "config.yaml").unlink()
    with pytest.raises(UserError, match="holds none of"):
        MusicGen.get_pretrained(own, "cpu")
    with pytest.raises(UserError, match=r"neither config\.yaml"):
        MusicGen.get_pretrained(weights, "cpu")


def load_file_of(content: bytes) -> dict[str, torch.Tensor]:
    from safetensors.torch import load

    return load(content)


def test_a_full_disk_is_said(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors import SafetensorError

    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(UserError, match="the disk is full"):
        export_model("cafe0123", tmp_path / "own", format="safetensors")
    assert not files(tmp_path / "own")


def test_notes_are_read_with_care(model_folder: Path, tmp_path: Path) -> None:
    for notes in ("[1]", "{", json.dumps({"run": None})):
        (model_folder / "export.json").write_text(notes)
        export_model(model_folder, tmp_path / "out", replace=True)
    assert "run" in json.loads((tmp_path / "out" / "export.json").read_text())


def test_a_model_leaves_only_with_a_codec_it_speaks(
    golden: Path, run_folder: Path, model_folder: Path, tmp_path: Path
) -> None:
    shutil.copy(golden / "codec_ac_causal" / "compression_state_dict.bin", model_folder)
    package = read(model_folder / "compression_state_dict.bin")
    cfg = yaml.safe_load(package["xp.cfg"]) | {"sample_rate": 16_000}
    torch.save({**package, "xp.cfg": yaml.safe_dump(cfg)}, model_folder / "compression_state_dict.bin")
    for model in (model_folder, "cafe0123"):
        with pytest.raises(UserError, match="use the codec that the model was trained with"):
            export_model(model, tmp_path / "out", format="safetensors")
    assert not (tmp_path / "out").exists()
