"""`tune` as a user calls it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from audiocraft.cli import app
from audiocraft.errors import UserError
from audiocraft.metrics.tuning import FIRST
from audiocraft.models import MusicGen
from audiocraft.modules.conditioners import ConditioningProvider

RATE = 16000
QUICK = ("--against", "music", "--num", 2, "--duration", 1, "--device", "cpu", "--no-codes")


def hits(seconds: float, seed: int) -> np.ndarray:
    """Four a second."""
    time = np.arange(round(seconds * RATE)) / RATE
    return 0.3 * np.random.default_rng(seed).standard_normal(len(time)) * np.exp(-20 * (time % 0.25))


@pytest.fixture
def home(tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, `model`, and 31 s of material in two files, `music`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "music").mkdir()
    for seed, seconds in enumerate((26, 5)):
        soundfile.write(tmp_path / "music" / f"{seed}.wav", hits(seconds, seed), RATE)
    return tmp_path


@pytest.fixture
def rigged(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model plays hits at temperature 0.7, the more noise the farther away."""

    def generate(self: MusicGen, num: int, return_tokens: bool, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        assert return_tokens
        loud = min(1.0, abs(self.generation_params["temp"] - 0.7) + abs(self.generation_params["cool"] - 0.9))
        seconds, frames = self.duration, int(self.duration * self.frame_rate)
        takes = [hits(seconds, 9 + seed + i) for i in range(num)]
        takes = [take + loud * np.random.default_rng(seed).standard_normal(len(take)) for take in takes]
        wavs = torch.from_numpy(np.stack(takes))[:, None].float().repeat_interleave(self.sample_rate // RATE, dim=-1)
        return wavs, torch.zeros(num, 4, frames, dtype=torch.int64)

    monkeypatch.setattr(MusicGen, "generate_unconditional", generate)


def call(*arguments: object):
    done = CliRunner().invoke(app, ["tune", *(str(argument) for argument in arguments)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_the_best_is_exported_and_played(home: Path, rigged: None, monkeypatch: pytest.MonkeyPatch) -> None:
    done = call("model", *QUICK, "--out", "tuned", "--json", "out/tune.json")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["score", "distance", "beat", "repetition", "difference", "copied", "silence"]
    assert lines[1].startswith("material ") and lines[2].startswith("temperature=0.7,min_p=0.05,cool=0.9 ")
    scores = [float(line.split()[1]) for line in lines[2 : lines.index("")]]
    assert scores == sorted(scores) and len(scores) > len(FIRST)
    assert "chosen: --sampling temperature=0.7,min_p=0.05,cool=0.9" in lines
    assert lines[-1].startswith("listen: python -m audiocraft generate tuned ")
    record = json.loads((home / "out" / "tune.json").read_text(encoding="utf-8"))
    assert record["chosen"] == {"temperature": 0.7, "min_p": 0.05, "cool": 0.9}
    assert (record["model"], record["against"], record["num"], record["seed"]) == ("model", "music", 2, 0)
    assert [trial["score"] for trial in record["trials"]] == pytest.approx(scores, abs=0.006)
    assert record["trials"][0]["sampling"]["min_p"] == 0.05 and record["material"]["beat"] > 0.3
    monkeypatch.undo()
    monkeypatch.chdir(home)
    assert MusicGen.get_pretrained("tuned", "cpu").own_sampling == record["chosen"]
    CliRunner().invoke(app, ["generate", "tuned", "--duration", "0.2", "--num", "1", "--out", "takes"])
    settings = json.loads((home / "takes" / "take_0001.json").read_text())["settings"]
    assert settings.items() >= record["trials"][0]["sampling"].items()


def test_without_out_it_only_tells(home: Path) -> None:
    """The model itself plays, and is heard against the codes of the material."""
    before = sorted(home.rglob("*"))
    done = call("model", *QUICK[:-1])
    assert sorted(home.rglob("*")) == before
    lines = done.stdout.splitlines()
    assert lines[1].split()[-2] == "–" and 0 <= float(lines[2].split()[-2]) <= 1  # copied, of material and takes
    chosen = next(line for line in lines if line.startswith("chosen: ")).removeprefix("chosen: ")
    assert lines[-2] == f"keep:   python -m audiocraft export model {chosen} --out DIR"
    assert lines[-1].startswith("listen: python -m audiocraft generate model --temperature ")
    assert "Listening" in done.stderr and "Settings" in done.stderr
    assert call("model", *QUICK[:-1]).stdout == done.stdout


def test_mistakes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are found before anything is played."""
    monkeypatch.setattr(MusicGen, "generate_unconditional", lambda *_, **__: pytest.fail("it played"))
    for name in ("empty", "player", "short"):
        (home / name).mkdir()
    (home / "player" / "lm.onnx").touch()
    soundfile.write(home / "short" / "a.wav", hits(8, 0), RATE)
    (home / "broken.wav").write_bytes(b"RIFF and nothing else")
    shutil.copytree("model", "held")
    for arguments, says in {
        ("model", "--against", "nowhere"): "there is no file or folder nowhere; give audio",
        ("model", "--against", "empty"): "empty is empty",
        ("model", "--against", "broken.wav"): "broken.wav cannot be read as audio",
        ("model", "--against", "short", "--no-codes"): r"too little to tell .*\(8 s, 1 excerpts\); give 30 s or more",
        ("player", "--against", "music"): r"player is a player without torch \(ONNX\); give the run",
        ("none", "--against", "music"): "there is no model 'none'",
        ("model", "--against", "music", "--duration", "0"): "--duration 0 is no length",
        ("model", "--against", "music", "--json", "music/0.wav"): r"let it end in \.json",
        ("model", "--against", "music", "--out", "held"): "held holds another model; give another --out, or --replace",
        ("model", "--against", "music", "--out", "model"): "model is the model itself",
        ("model", "--against", "music", "--out", "music/0.wav"): "cannot be written",
    }.items():
        with pytest.raises(UserError, match=says):
            call(*arguments)
    assert call("model", *QUICK, "--num", 1).exit_code == 2
    monkeypatch.setattr(ConditioningProvider, "text_conditions", ["description"])
    with pytest.raises(UserError, match=r"model was trained with texts, .* takes a model without"):
        call("model", *QUICK)
