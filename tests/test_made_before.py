"""A run, its exports, a player and takes that version 0.1.0 made before its modules moved: all play as they did."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audiocraft import train
from audiocraft.utils.export import export_lm

MADE = Path(__file__).with_name("made_before")
SIGNATURE = "59be605a"
PLAY = ["--duration", "1", "--num", "1", "--seed", "7"]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what was made; its run lies in the outputs folder."""
    shutil.copytree(MADE, tmp_path / "made")
    monkeypatch.setenv("AUDIOCRAFT_DORA_DIR", str(tmp_path / "outputs"))
    shutil.copytree(MADE / "run", tmp_path / "outputs" / "xps" / SIGNATURE)
    shutil.copy(MADE / "run" / "compression_state_dict.bin", tmp_path / "made" / "peer")
    return tmp_path / "made"


def assert_same_take(played: Path, before: Path) -> None:
    (now, rate), (then, rate_then) = soundfile.read(played), soundfile.read(before)
    assert rate == rate_then and now.shape == then.shape
    assert np.abs(now - then).max() < 1e-3
    facts, facts_then = (json.loads(take.with_suffix(".json").read_text()) for take in (played, before))
    assert facts.keys() | {"trained"} == facts_then.keys() | {"trained"}  # of a run itself nothing says it
    assert all(facts.get(name) == facts_then.get(name) for name in ("seed", "seconds"))
    assert facts["settings"] | facts_then["settings"] == facts["settings"]  # there are more by now


def test_the_signature_of_a_run_is_what_it_was(made: Path) -> None:
    overrides = json.loads((made / "run" / ".argv.json").read_text())
    assert train.main.make_xp(overrides).sig == SIGNATURE


@pytest.mark.parametrize("source", ["peer", "shared", SIGNATURE])
def test_a_model_plays_its_take(made: Path, source: str) -> None:
    command = [sys.executable, "-m", "audiocraft", "generate", source, *PLAY, "--out", "again", "--device", "cpu"]
    subprocess.run([*command, "--precision", "float32"], cwd=made, check=True, capture_output=True)
    assert_same_take(made / "again" / "take_0001.wav", made / "takes" / "take_0001.wav")


def test_a_run_exports_the_same_weights(made: Path, tmp_path: Path) -> None:
    export_lm(tmp_path / "outputs" / "xps" / SIGNATURE / "checkpoint.th", tmp_path / "state_dict.bin")
    paths = (tmp_path / "state_dict.bin", made / "peer" / "state_dict.bin")
    now, before = (torch.load(path, weights_only=True)["best_state"] for path in paths)
    assert now.keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in now.items())


def test_a_player_plays_its_take(made: Path) -> None:
    pytest.importorskip("onnxruntime")
    subprocess.run(
        [sys.executable, "player/player.py", *PLAY, "--out", "again"], cwd=made, check=True, capture_output=True
    )
    assert_same_take(made / "again" / "take_0001.wav", made / "player_takes" / "take_0001.wav")
