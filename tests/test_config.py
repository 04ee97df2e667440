"""The configuration tree: recipes, scales, wrong overrides, signatures. What it shares with the peer's: parity/."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

import audiocraft
from audiocraft import train
from audiocraft.environment import resource_dir
from audiocraft.errors import UserError
from audiocraft.utils.overrides import quote

# Keys of ours, beside those of the peer.
OURS = {
    "adversarial.start",
    "checkpoint.every_minutes",
    "dataset.on_beat",
    "dataset.short",
    "init_from_codec",
    "logging.progress",
    "optim.muon.lr",
    "optim.muon.momentum",
    "tokens.cache",
    "tokens.corruption",
    "tokens.loss_share",
}
RECIPES = [
    f"{path.parent.name}/{path.stem}"
    for path in sorted(resource_dir("config").glob("solver/*/*.yaml"))
    if path.stem != "default"
]


def leaves(node: dict, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value; empty dicts are values."""
    out: dict[str, Any] = {}
    for key, value in node.items():
        name = f"{prefix}{key}"
        out |= leaves(value, f"{name}.") if isinstance(value, dict) and value else {name: value}
    return out


def composed(*overrides: str) -> dict[str, Any]:
    cfg: Any = OmegaConf.to_container(train.main.make_xp(overrides).cfg)
    return leaves(cfg)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_composes_and_every_key_has_a_reader(recipe: str) -> None:
    code = "\n".join(path.read_text() for path in Path(audiocraft.__file__).parent.rglob("*.py"))
    # Handed on whole to dora, or to TensorBoard's writer.
    elsewhere = ("slurm.", "dora.", "tensorboard.")
    for key in composed(f"solver={recipe}", "dset=audio/jungle"):
        name = key.rpartition(".")[2]
        assert key.startswith(elsewhere) or re.search(rf"\b{name}\b", code), f"nothing reads {key}"


def test_our_keys_are_explained_in_the_tree() -> None:
    tree = "\n".join(path.read_text() for path in resource_dir("config").rglob("*.yaml"))
    for key in OURS:
        name = key.rpartition(".")[2]
        assert re.search(rf"^\s*{name}: \S+\s+# ours", tree, re.MULTILINE), key


def test_scales() -> None:
    sizes = {}
    for scale in ("xsmall", "small", "medium", "large", "micro", "nano", "pico"):
        cfg = composed("solver=musicgen/micro_32khz", "dset=audio/jungle", f"model/lm/model_scale={scale}")
        sizes[scale] = tuple(cfg[f"transformer_lm.{key}"] for key in ("dim", "num_heads", "num_layers"))
    assert sizes["micro"] == (2048, 2, 2)
    assert sizes["small"] == (1024, 16, 24)
    assert len(set(sizes.values())) == len(sizes)


def test_recipe_for_one_small_gpu() -> None:
    cfg = composed("solver=musicgen/micro_32khz", "dset=audio/jungle")
    assert cfg["transformer_lm.dim"] == 2048
    assert cfg["conditioners"] is None
    assert cfg["checkpoint.keep_last"] == 2
    assert cfg["compression_model_checkpoint"] == "//pretrained/spectral_32khz"
    assert cfg["dataset.short"] == "join"
    assert cfg["evaluate.every"] is None


WRONG = {
    "optim.lrr=1": "did you mean optim.lr",
    "lr=1": "did you mean optim.lr",
    "optim.lr=fast": "takes a number",
    "autocast=7": "true or false",
    "optim.adam.betas=0.9": "a list",
    "optim.adam=3": "betas",
    "solver=musicgen/micro_32kh": "did you mean musicgen/micro_32khz",
    "solver=musicgen/foo": "did you mean musicgen/debug",
    "optim.lr=${nope}": "optim.lr refers to something that leads nowhere",
    "optim.lr=${optim.lr}": "leads nowhere",
    "dset=audio/jungl": "did you mean audio/jungle",
    "model/lm/model_scale=gigantic": "choices: large, medium, micro",
    "conditoner=none": "did you mean conditioner",
    "optim.lr": "key=value",
    "optim.lr={1": "cannot be read",
    "~optim.lr": "key=value",
    "fsdp.use=true": "only its default is accepted",
    "transformer_lm.custom=true": "only its default is accepted",
    "metrics.fad.tf.bin=x": "only its default is accepted",
}


@pytest.mark.parametrize("override", WRONG)
def test_wrong_overrides_end_in_one_helpful_line(override: str) -> None:
    with pytest.raises(UserError, match=re.escape(WRONG[override])) as caught:
        train.main.make_xp(["solver=musicgen/debug", "dset=audio/jungle", override])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


LEFT_OUT = [
    "solver=audiogen/audiogen_base_16khz",
    "solver=magnet/magnet_32khz",
    "solver=jasco/chords_drums",
    "solver=diffusion/default",
    "solver=watermark/robustness",
    "solver=musicgen/musicgen_melody_32khz",
    "solver=musicgen/musicgen_style_32khz",
    "solver=compression/encodec_audiogen_16khz",
    "conditioner=chroma2music",
    "conditioner=style2music",
    "conditioner=clapemb2music",
    "conditioner=text2sound",
]


@pytest.mark.parametrize("override", LEFT_OUT)
def test_what_is_left_out_says_so(override: str) -> None:
    solver = [] if override.startswith("solver") else ["solver=musicgen/debug"]
    with pytest.raises(UserError, match=r"is left out .* on purpose; docs/COMPATIBILITY\.md says why") as caught:
        train.main.make_xp([*solver, override])
    assert str(caught.value).startswith(override) and "\n" not in str(caught.value)
    page = (Path(__file__).parents[1] / "docs" / "COMPATIBILITY.md").read_text(encoding="utf-8")
    assert override.rpartition("=")[2].split("/")[0] in page


def test_group_of_another_solver() -> None:
    with pytest.raises(UserError, match="does not apply to this solver"):
        train.main.make_xp(["solver=compression/debug", "conditioner=none"])


def test_keys_of_the_peer_at_their_defaults_change_nothing() -> None:
    plain = train.main.make_xp(["solver=musicgen/debug"])
    with_theirs = train.main.make_xp(
        ["solver=musicgen/debug", "fsdp.use=false", "deadlock.use=true", "cache.path=null", "datasource.max_channels=1"]
    )
    assert with_theirs.sig == plain.sig
    with pytest.raises(UserError, match=r"deadlock\.use=false"):
        train.main.make_xp(["solver=compression/debug", "deadlock.use=true"])


def test_the_signature_ignores_what_does_not_change_the_model() -> None:
    same = ("optim.epochs=7", "tokens.cache=off", "checkpoint.keep_last=1", "device=cpu", "generate.every=3")
    same += ("dataset.num_workers=0", "logging.progress=off", "num_threads=1", "show=true")
    plain = train.main.make_xp(["solver=musicgen/debug"])
    for override in same:
        assert train.main.make_xp(["solver=musicgen/debug", override]).sig == plain.sig, override
    for override in ("optim.lr=1", "label=two", "seed=1", "optim.updates_per_epoch=3", "dset=audio/jungle"):
        assert train.main.make_xp(["solver=musicgen/debug", override]).sig != plain.sig, override


def test_where_runs_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUDIOCRAFT_DORA_DIR", raising=False)
    monkeypatch.delenv("USER", raising=False)
    xp = train.main.make_xp(["solver=musicgen/debug"])
    assert xp.folder == tmp_path / "outputs/xps" / xp.sig
    monkeypatch.setenv("AUDIOCRAFT_DORA_DIR", str(tmp_path / "elsewhere"))
    assert train.main.make_xp(["solver=musicgen/debug"]).folder == tmp_path / "elsewhere/xps" / xp.sig
    assert train.main.make_xp(["solver=musicgen/debug", "dora.dir=here"]).folder == tmp_path / "here/xps" / xp.sig


def test_config_folder_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "config/dset/audio/mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(
        "# @package __global__\ndatasource:\n  max_sample_rate: 48000\n  max_channels: 1\n  train: songs\n"
        "  valid: songs\n  evaluate: songs\n  generate: songs\n"
    )
    monkeypatch.chdir(tmp_path)
    cfg = train.main.make_xp(["solver=musicgen/debug", "dset=audio/mine"]).cfg
    assert cfg.datasource.train == "songs"
    assert train.main.make_xp(["solver=musicgen/debug", "dset=audio/jungle"]).cfg.datasource.train == "egs/jungle"
    with pytest.raises(UserError, match="audio/mine"):
        train.main.make_xp(["solver=musicgen/debug", "dset=audio/min"])
    for text in (
        b"datasource:\n  a: b: c",
        b"a: 1\na: 1",
        b"\xff",
        b"a: \x07",
        b"5",
        b"# @package _global_: ['x', 1]\na: 1",
    ):
        own.write_bytes(text)
        with pytest.raises(UserError, match=r"a file of .*config cannot be read .*; mend it"):
            train.main.make_xp(["solver=musicgen/debug", "dset=audio/mine"])
    assert train.main.make_xp(["solver=musicgen/debug", "dora.dir=5"]).dora.dir == tmp_path / "5"
    for override in ("dora.dir=null", "dora.dir=[1]", "dora.dir={a: 1}", "dora=null", "+dora.x=1"):
        with pytest.raises(UserError, match=r"dora\.(dir|x)"):
            train.main.make_xp(["solver=musicgen/debug", override])


WEIRD = ["we${ird}", "${oc.env:HOME}", "a ${b} c", "it's ${x}'s", "back\\${x}", "${x}\\", "$${a}}", "${a:${b}}"]


@pytest.mark.parametrize("name", WEIRD)
def test_names_of_folders_are_taken_by_their_letters(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given as a command gives them, and as a shell's user does."""
    own = tmp_path / name / "config/dset/audio/mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("# @package __global__\ndatasource:\n  train: songs\n  valid: songs\n")
    monkeypatch.chdir(tmp_path / name)
    monkeypatch.delenv("AUDIOCRAFT_DORA_DIR", raising=False)
    recipe = ["solver=musicgen/debug", "dset=audio/mine"]
    xp = train.main.make_xp([*recipe, f"datasource.valid={quote(name)}", f"compression_model_checkpoint={quote(name)}"])
    assert (xp.cfg.datasource.train, xp.cfg.datasource.valid) == ("songs", name)
    assert xp.cfg.compression_model_checkpoint == name
    assert xp.folder == tmp_path / name / "outputs/xps" / xp.sig
    again: Any = OmegaConf.create(OmegaConf.to_yaml(xp.cfg))  # as checkpoints hold it
    assert again.datasource.valid == name


def test_a_name_that_hydra_cannot_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a${b").mkdir()
    xp = train.main.make_xp(["solver=musicgen/debug", f"datasource.train={quote('a${b')}"])
    assert xp.cfg.datasource.train == "a${b"
    monkeypatch.chdir(tmp_path / "a${b")
    with pytest.raises(UserError, match=r"hydra cannot read the name of the folder .*a\$\{b, for its \$\{ without \}"):
        train.main.make_xp(["solver=musicgen/debug"])


def test_datasource_as_a_shell_gives_it() -> None:
    xp = train.main.make_xp(["solver=musicgen/debug", "datasource.train=/a/${b}/c", "datasource.valid='${d} e'"])
    assert (xp.cfg.datasource.train, xp.cfg.datasource.valid) == ("/a/${b}/c", "${d} e")


def test_the_peer_in_the_same_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    monkeypatch.setattr(metadata, "version", lambda name: {"audiocraft": "1.3.0"}[name])
    with pytest.raises(UserError, match=r"audiocraft 1\.3\.0 is installed"):
        train.main.make_xp(["solver=musicgen/debug"])


def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from audiocraft.utils.device import resolve_device

    assert resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="auto, cpu, cuda or mps"):
        resolve_device("toaster")
    with pytest.raises(UserError, match="device=meta is not served"):
        resolve_device("meta")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("audiocraft.utils.device.no_kernels", lambda device: None)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UserError, match="the last one here is cuda:1"):
        resolve_device("cuda:2")
