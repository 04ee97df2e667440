"""`export --format onnx`: whatever loads becomes a folder that plays."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from audiocraft.cli import app
from audiocraft.errors import UserError


def export(*arguments: object) -> object:
    return app(["export", *map(str, arguments), "--format", "onnx"], standalone_mode=False)


def test_a_model_folder_plays(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out"
    export(model_folder, "--out", out)
    printed = capsys.readouterr().out
    assert f"python {out / 'player.py'} " in printed
    facts = json.loads((out / "player.json").read_text())
    assert facts["quantize"] == "int8" and facts["model"] == str(model_folder)
    command = [sys.executable, str(out / "player.py"), "--duration", "1", "--out", str(tmp_path / "takes")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and (tmp_path / "takes" / "take_0001.wav").is_file()


def test_weights_of_a_run_can_be_chosen(run_folder: Path, tmp_path: Path):
    sizes = {}
    for options in ((), ("--state", "model"), ("--epoch", 1)):
        out = tmp_path / "-".join(map(str, options) or ["ema"])
        export("cafe0123", "--out", out, "--quantize", "none", *options)
        sizes[options] = (out / "lm.weights").read_bytes()
    assert len(set(sizes.values())) == 3


def test_mistakes(model_folder: Path, tmp_path: Path):
    with pytest.raises(UserError, match="choose one of"):
        export(model_folder, "--out", tmp_path / "new", "--quantize", "int3")
    with pytest.raises(UserError, match="goes with --format onnx"):
        app(["export", str(model_folder), "--out", str(tmp_path / "new"), "--quantize", "int8"], standalone_mode=False)
    with pytest.raises(UserError, match="no format 'mp3'; choose one of peer, safetensors, onnx"):
        app(["export", str(model_folder), "--out", str(tmp_path / "new"), "--format", "mp3"], standalone_mode=False)
    with pytest.raises(UserError, match="there is no model"):
        export(tmp_path / "nothing", "--out", tmp_path / "new")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        export(model_folder, "--out", tmp_path / "file")
    assert not (tmp_path / "new").exists()
