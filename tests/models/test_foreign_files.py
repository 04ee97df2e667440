"""Files of strangers: none of them runs code, and none of them reads anything but itself."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from audiocraft.checkpoints.configs import package_config, read_config
from audiocraft.errors import UserError
from audiocraft.models import MusicGen, loaders
from audiocraft.models.export import export_model
from audiocraft.solvers.compression import CompressionSolver


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable, tuple]:
        return Path.touch, (self.target,)


def refused(load: Callable[[], Any], ran: Path) -> None:
    with pytest.raises(UserError) as error:
        load()
    assert "pickled objects" in str(error.value) and "\n" not in str(error.value)
    assert not ran.exists(), "code of the file was run"


@pytest.mark.parametrize("where", ["value", "weights", "config"])
def test_exports(model_folder: Path, tmp_path: Path, where: str) -> None:
    ran = tmp_path / "ran"
    for file, load in (
        ("state_dict.bin", loaders.load_lm_model),
        ("state_dict.bin", MusicGen.get_pretrained),
        ("state_dict.bin", lambda folder: export_model(folder, tmp_path / "out")),
        ("compression_state_dict.bin", loaders.load_compression_model),
        ("compression_state_dict.bin", MusicGen.get_pretrained),
    ):
        path = model_folder / file
        whole = path.read_bytes()
        package = torch.load(path, weights_only=True)
        if where == "weights":
            package["best_state"]["extra"] = Evil(ran)
        else:
            package["xp.cfg" if where == "config" else "version"] = Evil(ran)
        torch.save(package, path)
        refused(lambda load=load: load(model_folder), ran)  # type: ignore[misc]
        path.write_bytes(whole)


@pytest.mark.parametrize("kind", ["zip", "old zip", "bare"])
def test_checkpoints(run_folder: Path, tmp_path: Path, kind: str) -> None:
    """Of a run, in torch's formats new and old, and as a bare pickle."""
    ran = tmp_path / "ran"
    path = run_folder / "checkpoint.th"
    content = {**torch.load(path, weights_only=True), "xp.cfg": Evil(ran)}
    if kind == "bare":
        path.write_bytes(pickle.dumps({"model": Evil(ran)}, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    for load in (
        lambda: MusicGen.get_pretrained("cafe0123"),
        lambda: export_model("cafe0123", tmp_path / "out"),
        lambda: loaders.load_compression_model("//sig/cafe0123"),
        lambda: CompressionSolver.model_from_checkpoint(path),
    ):
        refused(load, ran)


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TOKEN_OF_MINE", "sesame")
    return "sesame"


ASKING = {
    "plain": "${oc.env:TOKEN_OF_MINE}",
    "within": "a ${oc.env:TOKEN_OF_MINE} b",
    "nested": "${oc.env:${name}}",
    "resolver by name": "${${resolver}:TOKEN_OF_MINE}",
    "escaped": r"\${oc.env:TOKEN_OF_MINE}",
    "twice escaped": r"\\${oc.env:TOKEN_OF_MINE}",
    "decoded": "${oc.decode:'${oc.env:TOKEN_OF_MINE}'}",
    "spaced": "${ oc.env:TOKEN_OF_MINE}",
    "selected": "${oc.select:nothing,${oc.env:TOKEN_OF_MINE}}",
}


@pytest.mark.parametrize("text", ASKING.values(), ids=ASKING)
def test_configs_cannot_ask_the_environment(tmp_path: Path, secret: str, text: str) -> None:
    content = {
        "name": "TOKEN_OF_MINE",
        "resolver": "oc.env",
        "asked": text,
        "list": [text],
        "node": {"deep": {"asked": text}},
        "sample_rate": 32000,
        "same": "${sample_rate}",
        "here": {"a": 1, "b": "${.a}", "c": "${..sample_rate}"},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    for cfg in (read_config(tmp_path / "config.yaml"), package_config({"xp.cfg": yaml.safe_dump(content)}, "file")):
        resolved = OmegaConf.to_container(cfg, resolve=True)
        assert secret not in str(resolved)
        assert isinstance(resolved, dict) and resolved["asked"] == text.replace("${", "$(")
        # References within the config are what it is made of.
        assert resolved["same"] == resolved["here"]["c"] == 32000 and resolved["here"]["b"] == 1
        again = OmegaConf.to_container(OmegaConf.create(OmegaConf.to_yaml(cfg)), resolve=True)
        assert secret not in str(again)


def test_a_config_cannot_unfold_without_end() -> None:
    bomb = "".join(f"b{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 9)}]\n" for i in range(1, 12))
    for text in ("b0: &b0 [x]\n" + bomb, "x: &a [*a]", "x: &a {y: *a}"):
        with pytest.raises(UserError, match="cannot be read"):
            package_config({"xp.cfg": text}, "file")
    nodes = "".join(f"b{i}: {['${b' + str(i - 1) + '}'] * 9}\n" for i in range(1, 12))
    with pytest.raises(UserError, match="unfold without end"):
        package_config({"xp.cfg": "b0: [x]\n" + nodes}, "file")
    for text in ("x: {y: '${x}'}", "x: ['${x}', '${x}']"):
        assert len(str(package_config({"xp.cfg": text}, "file"))) < 100
    texts = "".join(f"b{i}: {('${b' + str(i - 1) + '}') * 9!r}\n" for i in range(1, 12))
    assert len(package_config({"xp.cfg": "b0: x\n" + texts}, "file").b11) < 100
    assert (
        package_config({"xp.cfg": "x: '*a'\ny: 2 * b\nz: [ *x ]\n".replace("[ *x ]", "'[ *x ]'")}, "file").y == "2 * b"
    )


@pytest.mark.parametrize("text", ["${oc.env:TOKEN_OF_MINE}", r"\${oc.env:TOKEN_OF_MINE}"])
def test_models_cannot_ask_the_environment(model_folder: Path, tmp_path: Path, secret: str, text: str) -> None:
    """Through every door a config comes in by, to every text that can come out again."""
    package = torch.load(model_folder / "state_dict.bin", weights_only=True)
    cfg = yaml.safe_load(package["xp.cfg"])
    cfg["dora"] = {"dir": text}
    cfg["compression_model_checkpoint"] = text
    cfg["transformer_lm"]["q_modeling"] = text
    package["xp.cfg"] = yaml.safe_dump(cfg)
    torch.save(package, model_folder / "state_dict.bin")
    model = MusicGen.get_pretrained(model_folder, "cpu")
    assert model.cfg is not None and secret not in OmegaConf.to_yaml(model.cfg, resolve=True)
    out = export_model(model_folder, tmp_path / "out", format="safetensors")
    for file in out.rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes()
    for key in ("activation", "norm", "weight_init", "dim", "positional_embedding"):
        bad = {**cfg, "transformer_lm": {**cfg["transformer_lm"], key: text}}
        torch.save({**package, "xp.cfg": yaml.safe_dump(bad)}, model_folder / "state_dict.bin")
        with pytest.raises(UserError) as error:
            loaders.load_lm_model(model_folder)
        assert secret not in str(error.value) and "\n" not in str(error.value)
    bad = {**cfg, "codebooks_pattern": {"modeling": None}}
    torch.save({**package, "xp.cfg": yaml.safe_dump(bad)}, model_folder / "state_dict.bin")
    with pytest.raises(UserError) as error:
        loaders.load_lm_model(model_folder)
    assert secret not in str(error.value)


UNANSWERED = ("${${oc.env:TOKEN_OF_MINE}}", "${oc.env:NO_SUCH_TOKEN}", "${oc.env:${name}}", "${nowhere}")


@pytest.mark.parametrize("text", UNANSWERED)
@pytest.mark.parametrize("key", ["compression_model_checkpoint", "conditioners"])
@pytest.mark.parametrize("format", ["peer", "safetensors"])
def test_exports_cannot_ask_the_environment(
    model_folder: Path, tmp_path: Path, secret: str, format: str, key: str, text: str
) -> None:
    """Nor does a reference that leads nowhere stop one, where the model can do without."""
    package = torch.load(model_folder / "state_dict.bin", weights_only=True)
    cfg = {**yaml.safe_load(package["xp.cfg"]), "name": "TOKEN_OF_MINE", key: text}
    torch.save({**package, "xp.cfg": yaml.safe_dump(cfg)}, model_folder / "state_dict.bin")
    if key == "conditioners":
        with pytest.raises(UserError) as error:
            export_model(model_folder, tmp_path / "out", format=format)
        assert secret not in str(error.value) and "\n" not in str(error.value)
        return
    out = export_model(model_folder, tmp_path / "out", format=format)
    files = [file for file in out.rglob("*") if file.is_file()]
    assert files and not [file for file in files if secret.encode() in file.read_bytes()]
    MusicGen.get_pretrained(out, "cpu")
    for file in model_folder.glob("compression*"):  # without it the config is asked for a name
        file.unlink()
    with pytest.raises(UserError) as error:
        MusicGen.get_pretrained(model_folder, "cpu")
    assert secret not in str(error.value) and "\n" not in str(error.value)


def test_hugging_face_configs_cannot_ask_either(golden: Path, tmp_path: Path, secret: str) -> None:
    folder = shutil.copytree(golden / "codec_hf", tmp_path / "codec")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "pad_mode": "${oc.env:TOKEN_OF_MINE}"}))
    with pytest.raises(UserError) as error:
        loaders.load_compression_model(folder).decode(torch.zeros(1, 4, 10, dtype=torch.long))
    assert secret not in str(error.value)


def test_yaml_makes_no_objects(tmp_path: Path) -> None:
    evil = f"a: !!python/object/apply:os.mkdir ['{tmp_path / 'ran'}']"
    with pytest.raises(UserError, match="cannot be read"):
        package_config({"xp.cfg": evil}, "file")
    (tmp_path / "config.yaml").write_text(evil)
    with pytest.raises(UserError, match="cannot be read"):
        read_config(tmp_path / "config.yaml")
    assert not (tmp_path / "ran").exists()


def test_files_beside_are_files_within(golden: Path, tmp_path: Path) -> None:
    """A config that names a T5 outside of its folder does not get it copied into an export."""
    folder = shutil.copytree(golden / "lm_text", tmp_path / "text")
    shutil.copy(golden / "codec_ac" / "compression_state_dict.bin", folder)
    shutil.move(folder / "t5", tmp_path / "private")
    package = torch.load(folder / "state_dict.bin", weights_only=True)
    package["xp.cfg"] = package["xp.cfg"].replace("name: ./t5", "name: ./../private")
    torch.save(package, folder / "state_dict.bin")
    with pytest.raises(UserError, match=r"private is outside of the model's folder; put it there"):
        export_model(folder, tmp_path / "out" / "model", format="safetensors")
    assert not (tmp_path / "out").exists()


def test_codecs_that_name_each_other(tmp_path: Path) -> None:
    for one, two in (("a", "b"), ("b", "a")):
        (tmp_path / one).mkdir()
        torch.save({"pretrained": str(tmp_path / two)}, tmp_path / one / "compression_state_dict.bin")
    with pytest.raises(UserError, match="only names others in turn"):
        loaders.load_compression_model(tmp_path / "a")
