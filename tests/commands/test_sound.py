"""`sound` as a user calls it."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny import write_codec
from typer.testing import CliRunner

from audiocraft.cli import app
from audiocraft.data.manifest import AudioMeta, save_audio_meta
from audiocraft.errors import UserError
from audiocraft.metrics.sound_files import cut

RATE = 8000


def write(path: Path, seconds: float, seed: int = 0) -> Path:
    """Hits four times a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * RATE)) / RATE
    wave = 0.3 * np.random.default_rng(seed).standard_normal(len(time)) * np.exp(-20 * (time % 0.25))
    soundfile.write(path, wave, RATE)
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two takes, the second a copy, 31 s of material of which the takes and what is held out are part, and a codec."""
    monkeypatch.chdir(tmp_path)
    write_codec(tmp_path / "codec")
    write(tmp_path / "music" / "long.wav", 26)
    write(tmp_path / "music" / "short.wav", 5, 1)
    write(tmp_path / "music" / "apart" / "held.wav", 4, 2)
    write(tmp_path / "music" / "takes" / "a.wav", 4, 3)
    wave = soundfile.read(tmp_path / "music" / "short.wav")[0]
    soundfile.write(tmp_path / "music" / "takes" / "b.flac", wave, RATE)
    (tmp_path / "music" / "takes" / "broken.wav").write_bytes(b"RIFF and nothing else")
    return tmp_path


def call(*arguments: object):
    done = CliRunner().invoke(app, ["sound", *(str(argument) for argument in arguments)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_takes_alone(home: Path) -> None:
    before = sorted(home.rglob("*"))
    done = call("music/takes")
    assert done.exit_code == 0
    assert "takes: 2, 0:09 min" in done.stdout and "material" not in done.stdout.split("medians over")[0]
    assert "Listening" in done.stderr and "broken.wav: " in done.stderr and "Listening" not in done.stdout
    assert sorted(home.rglob("*")) == before
    assert "takes: 1, 0:05 min" in call("music/takes/b.flac", "--verbose").stdout


def test_against_material(home: Path) -> None:
    done = call(
        *("music/takes", "--against", "music", "--held-out", "music/apart", "--codec", "codec", "--verbose"),
        *("--json", "out/sound.json", "--figure", "out/sound.png", "--device", "cpu"),
    )
    assert done.exit_code == 0
    assert "material: 4, 0:31 min; held out: 1, 0:04 min; recoded: 2," in done.stdout
    for row in ("beat", "distance of rhythm", "difference between them", "copied, share", "b.flac"):
        assert any(line.startswith(row) for line in done.stdout.splitlines())
    record = json.loads((home / "out" / "sound.json").read_text(encoding="utf-8"))
    assert (record["takes"], record["against"], record["held_out"]) == (["takes"], "music", "apart")
    assert list(record["groups"]) == ["takes", "material", "held out", "recoded"]
    names = [sound["name"] for sound in record["groups"]["material"]["sounds"]]
    assert names == ["long.wav from 0 s", "long.wav from 10 s", "long.wav from 20 s", "short.wav"]
    takes = record["groups"]["takes"]
    assert [sound["name"] for sound in takes["sounds"]] == ["a.wav", "b.flac"]
    assert takes["sounds"][1]["copied"] == 1 and takes["copied"] >= takes["sounds"][0]["copied"]
    assert takes["distance"]["all"] > 0 and takes["sounds"][1]["tempo_bpm"] == pytest.approx(120, rel=0.01)
    assert str(home) not in json.dumps(record)
    assert (home / "out" / "sound.png").read_bytes().startswith(b"\x89PNG")


def test_without_codes(home: Path) -> None:
    done = call("music/takes", "--against", "music/long.wav", "--no-codes", "--codec", "none there")
    assert "the material is shorter than 30 s: too little to tell distances" in done.stdout
    done = call("music/takes", "--against", "music", "--no-codes")
    assert "distance from material" in done.stdout
    assert "recoded" not in done.stdout and "copied, share" not in done.stdout
    save_audio_meta("listed.jsonl", [AudioMeta("music/long.wav", 26, RATE)])
    assert "material: 3, 0:26 min" in call("music/takes", "--against", "listed.jsonl", "--no-codes").stdout


def test_pieces(tmp_path: Path) -> None:
    """They cover a file; of many, some at even distances are taken."""
    files = [write(tmp_path / f"{name}.wav", seconds) for name, seconds in (("a", 3), ("b", 14.9), ("c", 37))]
    pieces = [(Path(piece.path).stem, piece.start, piece.seconds) for piece in cut(files)]
    assert pieces == [("a", 0, None), ("b", 0, None), ("c", 0, 10), ("c", 10, 10), ("c", 20, 10), ("c", 30, None)]
    assert [Path(piece.path).stem + f"{piece.start:g}" for piece in cut(files, 3)] == ["a0", "c0", "c20"]


def test_mistakes(home: Path) -> None:
    (home / "empty").mkdir()
    for arguments, says in {
        ("nowhere",): "there is no file or folder nowhere; give audio",
        ("empty",): "empty is empty",
        ("music/takes", "--held-out", "music"): "give that with --against",
        ("music/takes", "--against", "music/takes"): "holds nothing but what is measured against it",
        ("music/takes", "--against", "music", "--codec", "nothing"): "there is no model 'nothing'",
        ("music/takes", "--json", "music/long.wav"): r"let it end in \.json",
        ("music/takes", "--figure", "music/long.wav/a.png"): "cannot be written",
        ("music/takes/broken.wav",): "broken.wav cannot be read as audio",
        ("music/takes", "--device", "warp", "--against", "music"): "warp",
    }.items():
        with pytest.raises(UserError, match=says):
            call(*arguments)
    assert len(soundfile.read(home / "music" / "long.wav")[0]) == 26 * RATE
