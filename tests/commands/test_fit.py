"""Which sizes fit a machine."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiocraft.cli import app
from audiocraft.errors import UserError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*arguments: str) -> None:
    app(["fit", *arguments], standalone_mode=False)


def test_a_smaller_card_takes_smaller_parts(capsys: pytest.CaptureFixture[str]) -> None:
    """An 8 GB card trains small with a batch in parts; a smaller one keeps the average elsewhere."""
    plans = {}
    for vram in ("24", "8", "6", "4"):
        try:
            call("--scale", "small", "--vram", vram, "--json", f"{vram}.json")
        except UserError as error:
            assert vram == "4" and "none of these sizes fits" in str(error)
        plans[vram] = json.loads(Path(f"{vram}.json").read_text())["scales"][0]["plan"]
    assert plans["24"]["overrides"] == [] and plans["24"]["at_once"] == 8
    assert plans["8"]["overrides"] == ["optim.accumulate=2"] and plans["8"]["peak"] < 7.2 * 2**30
    assert (
        plans["6"]["overrides"] == ["optim.ema.device=cpu", "optim.accumulate=8"] and plans["6"]["peak"] < 5.2 * 2**30
    )
    assert plans["4"] is None
    out = capsys.readouterr().out
    assert "python -m audiocraft train FOLDER --scale small optim.accumulate=2\n" in out and "does not fit" in out


def test_this_machine_and_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(32000 * 40), 32000)
    call("--scale", "pico", "--folder", str(tmp_path), "--tflops", "0.1", "--json", "fit.json")
    found = json.loads(Path("fit.json").read_text())
    assert found["flops_per_second"] == pytest.approx(0.06e12)
    scale = found["scales"][0]
    assert scale["pass_seconds"] == pytest.approx(scale["step_seconds"] * 40 / 80)
    assert f"train {tmp_path} --scale pico" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--vram", "0"), "--vram 0 leaves nothing to train with; give a number above 0, e.g. --vram 8"),
        (("--tflops", "-1"), "--tflops -1 leaves nothing"),
        (("--scale", "larg"), "there is no scale larg; choose one of .*pico"),
        (("--vram", "0.5", "--scale", "pico"), "none of these sizes fits"),
    ],
)
def test_bad_input(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        call(*arguments)
