"""`codec eval` as a user calls it."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_codec import RATE, write_codec
from typer.testing import CliRunner

from audiocraft import __version__
from audiocraft.commands.codec import app, labels
from audiocraft.errors import UserError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command runs: a codec, and a folder with two good files, a broken one and a text."""
    monkeypatch.chdir(tmp_path)
    write_codec(tmp_path / "codec")
    music = tmp_path / "music"
    (music / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    soundfile.write(music / "a.wav", 0.1 * rng.standard_normal((RATE, 2)), RATE)
    soundfile.write(music / "sub" / "b.flac", 0.1 * rng.standard_normal(22050), 22050)
    (music / "broken.wav").write_bytes(b"RIFF and nothing else")
    (music / "notes.txt").write_text("not audio")
    return tmp_path


def call(*arguments: object):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_table_record_and_figure(home: Path) -> None:
    write_codec(home / "other", seed=1)
    done = call("eval", "codec", "music", "--against", "other", "--seconds", "0.5", "--out", "out", "--device", "cpu")
    assert done.exit_code == 0
    assert "Measuring" in done.stderr and "Measuring" not in done.stdout
    assert "broken.wav: " in done.stdout and "2 files, 0:01 min, compared at 16 kHz, 1 channel" in done.stdout
    record = json.loads((home / "out" / "eval.json").read_text(encoding="utf-8"))
    assert [score["name"] for score in record["scores"]] == [
        *("codec", "other", "codec, 1 codebook", "codec, 2 codebooks", "codec, 3 codebooks"),
        *("Opus 6 kb/s", "Opus 12 kb/s", "silence", "spectrum at its median"),
    ]
    first = record["scores"][0]
    assert [file["file"] for file in first["files"]] == ["a.wav", "sub/b.flac"]
    assert [file["seconds"] for file in first["files"]] == [0.5, 0.5]
    assert len(first["codebooks"]) == 4 and first["codebooks"][0]["bins"] == 64
    assert record["seconds_per_file"] == 0.5 and record["version"] == __version__ and record["folder"] == "music"
    assert [one["file"] for one in record["skipped"]] == ["broken.wav"]
    assert str(home) not in json.dumps(record)
    assert (home / "out" / "eval.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (home / "out").iterdir()) == ["eval.json", "eval.png"]


def test_prints_only_unless_told_where(home: Path) -> None:
    before = sorted(home.rglob("*"))
    done = call("eval", "codec", "music", "--no-opus")
    assert done.exit_code == 0 and "Opus 6" not in done.stdout and "codec, 3 codebooks" in done.stdout
    assert sorted(home.rglob("*")) == before


def test_the_same_twice(home: Path) -> None:
    """All but the speeds."""
    records = []
    for out in ("one", "two"):
        call("eval", "codec", "music", "--no-opus", "--out", out)
        record = json.loads((home / out / "eval.json").read_text(encoding="utf-8"))
        for score in record["scores"]:
            for part in (score, *score["files"]):
                part["encode_speed"] = part["decode_speed"] = None
        records.append(record)
    assert records[0] == records[1]


def test_files_of_a_few_samples(home: Path) -> None:
    """Measured, from one sample on; what is nothing at the codec's rate is told."""
    lengths = {"one": (1, RATE), "odd": (3, 44101), "short": (100, 8000), "none": (0, RATE), "less": (1, 44100)}
    for name, (samples, rate) in lengths.items():
        (home / "few" / name).mkdir(parents=True)
        soundfile.write(home / "few" / name / f"{name}.wav", np.full(samples, 0.3), rate)
    done = call("eval", "codec", "few", "--no-opus", "--out", "out")
    assert "none.wav: it holds no samples\n" in done.stdout
    assert "less.wav: it holds no samples at 16000 Hz" in done.stdout
    first = json.loads((home / "out" / "eval.json").read_text(encoding="utf-8"))["scores"][0]
    assert {Path(file["file"]).stem: file["seconds"] for file in first["files"]} == pytest.approx(
        {"one": 1 / RATE, "odd": 1 / RATE, "short": 200 / RATE}, abs=1e-4
    )
    assert all(file["log_mel_db"] > 0 for file in first["files"])
    for name in ("one", "odd"):  # the picture's excerpt is the whole of it
        call("eval", "codec", f"few/{name}", "--no-opus", "--out", f"out/{name}")


def test_mistakes(home: Path) -> None:
    (home / "empty").mkdir()
    (home / "bad").mkdir()
    (home / "bad" / "x.wav").write_bytes(b"RIFF")
    with pytest.raises(
        UserError, match=r"there is no model 'nothing'.*; the codec that ships here is //pretrained/spectral_32khz$"
    ):
        call("eval", "nothing", "music")
    with pytest.raises(UserError, match="empty is empty"):
        call("eval", "codec", "empty")
    with pytest.raises(UserError, match="the only audio file in bad cannot be used"):
        call("eval", "codec", "bad")
    with pytest.raises(UserError, match="cannot be written"):
        call("eval", "codec", "music", "--out", "music/a.wav")
    with pytest.raises(UserError, match="device=warp"):
        call("eval", "codec", "music", "--device", "warp")
    with pytest.raises(UserError, match="--seconds inf is no length"):
        call("eval", "codec", "music", "--seconds", "inf")
    for length in ("0", "nan"):
        assert call("eval", "codec", "music", "--seconds", length).exit_code == 2


def test_an_evaluation_of_another_codec_is_not_lost(home: Path) -> None:
    write_codec(home / "other", seed=1)
    options = ("music", "--no-opus", "--seconds", "0.1", "--out", "out")
    call("eval", "codec", *options)
    with pytest.raises(UserError, match=r"out/eval\.json holds the evaluation of codec; give another --out"):
        call("eval", "other", *options)
    call("eval", "codec", *options)  # a codec's own is made anew
    call("eval", "other", *options, "--replace")
    record = home / "out" / "eval.json"
    assert json.loads(record.read_text(encoding="utf-8"))["codec"] == "other"
    record.write_text("notes of somebody")
    with pytest.raises(UserError, match="holds the evaluation of something else"):
        call("eval", "codec", *options)


def test_labels() -> None:
    assert labels(["//pretrained/mini_32khz", "facebook/encodec_32khz"]) == ["mini_32khz", "encodec_32khz"]
    assert labels(["a/codec", "b/codec/compression_state_dict.bin", "x"]) == [
        *("a/codec", "b/codec/compression_state_dict.bin", "x"),
    ]
    assert labels(["codec", "codec"]) == ["codec", "codec (2)"]
    assert labels(["//sig/cafe0123"]) == ["cafe0123"]
