"""`novelty` as a user calls it."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from heard import music
from tiny import write_codec
from typer.testing import CliRunner

from audiocraft.cli import app
from audiocraft.data.audio import audio_read
from audiocraft.data.manifest import AudioMeta, save_audio_meta
from audiocraft.errors import UserError
from audiocraft.models import MusicGen
from audiocraft.modules.conditioners import ConditioningProvider

RATE = 16000


def write(path: Path, seconds: float, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, music(seconds, seed, RATE, (0.05, 0.1))[0].numpy(), RATE)
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Music, what was held out below it, a new take and one that holds 2 s of the music, and a codec."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUDIOCRAFT_DORA_DIR", raising=False)
    write_codec(tmp_path / "codec")
    for seed in range(3):
        write(tmp_path / "music" / f"{seed}.wav", 6, seed)
    write(tmp_path / "music" / "apart" / "held.wav", 5, 10)
    new = soundfile.read(write(tmp_path / "takes" / "new.wav", 5, 20))[0]
    new[RATE : 3 * RATE] = soundfile.read(tmp_path / "music" / "1.wav")[0][2 * RATE + 77 : 4 * RATE + 77] / 2
    soundfile.write(tmp_path / "takes" / "quotes.wav", new, RATE)
    return tmp_path


QUICK = ("--codec", "codec", "--device", "cpu")


def call(*arguments: object):
    done = CliRunner().invoke(app, ["novelty", *(str(argument) for argument in arguments)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def manifest(path: Path, files: list[Path]) -> Path:
    save_audio_meta(path, [AudioMeta(str(file), 6.0, RATE) for file in files])
    return path


def test_takes_against_a_folder(home: Path) -> None:
    options = ("--train", "music", "--held-out", "music/apart", "--json", "out/n.json", "--page", "out/n.html")
    done = call("takes", *options, *QUICK)
    assert done.exit_code == 0
    assert "takes: 2, 0:10 min; held out: 1, 0:05 min; training: 3 files" in done.stdout
    assert re.search(r"quotes\.wav at \d\.\d s: 2\.\d s copied, closest to 1\.wav at \d\.\d s", done.stdout)
    assert "Listening" in done.stderr and "Looking up takes" in done.stderr
    record = json.loads((home / "out" / "n.json").read_text(encoding="utf-8"))
    assert (record["of"], record["codec"]) == (["takes"], "codec")
    new, quotes = record["takes"]["each"]
    assert new["name"] == "new.wav" and new["copied"] < 0.02  # a codec of random weights has few codes
    assert 0.15 < quotes["copied"] < 0.4 and record["takes"]["sound"]["0.75"] > 0.1
    assert record["held out"]["copied"] == 0 and 1.8 < quotes["longest_seconds"] < 2.8
    case = record["closest"][0]
    assert (case["take"], case["item"]) == ("quotes.wav", "1.wav") and case["at"] - case["start"] == pytest.approx(
        1, abs=0.1
    )
    page = (home / "out" / "n.html").read_text(encoding="utf-8")
    assert page.count("<audio") >= 4 and "quotes.wav" in page and not re.search(r"https?:", page)
    assert len(list((home / "outputs" / "token_cache").rglob("*.npy"))) == 3
    again = call("takes/quotes.wav", *options[:4], *QUICK)
    assert "Encoding" not in again.stderr and "quotes.wav" in again.stdout


def test_without_codes_nothing_is_coded(home: Path) -> None:
    done = call("takes", "--train", "music", "--no-codes")
    assert done.exit_code == 0 and "codes" not in done.stdout and "held out" not in done.stdout
    assert not (home / "outputs").exists()


def test_a_run_knows_what_it_learned(home: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model plays its training audio, which its run names; one of the files held out was trained on, too."""
    train = manifest(home / "train" / "data.jsonl", [home / "music" / f"{i}.wav" for i in range(3)])
    valid = manifest(home / "valid" / "data.jsonl", [home / "music" / "2.wav", home / "music" / "apart" / "held.wav"])
    checkpoint = torch.load(run_folder / "checkpoint.th", weights_only=True)
    sources = f"\ndatasource:\n  train: {train.parent}\n  valid: {valid.parent}\n"
    checkpoint["xp.cfg"] = re.sub(r"\ndatasource:(\n  .*)*", "", checkpoint["xp.cfg"]) + sources
    torch.save(checkpoint, run_folder / "checkpoint.th")

    def generate(self: MusicGen, num: int, return_tokens: bool, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        assert return_tokens and self.duration == 2
        wav, _ = audio_read(home / "music" / f"{seed}.wav", 1.0, 2.0)
        wav = torch.nn.functional.interpolate(wav[None], size=2 * self.sample_rate, mode="linear")
        return wav.expand(num, -1, -1), torch.zeros(num, 4, 2 * self.frame_rate, dtype=torch.int64)

    monkeypatch.setattr(MusicGen, "generate_unconditional", generate)
    done = call("cafe0123", "--num", 1, "--duration", 2, "--seed", 1, "--device", "cpu", "--no-codes")
    assert done.exit_code == 0 and "1 of 2 files that were held out are trained on as well" in done.stderr
    assert "takes: 1, 0:02 min; held out: 1, 0:05 min; training: 3 files" in done.stdout
    assert re.search(r"copied, share of seconds +1\.000", done.stdout) and "seed 1 at" in done.stdout
    # Takes may be held against what a run learned, too.
    done = call("takes", "--train", "cafe0123", "--no-codes")
    assert "training: 3 files" in done.stdout and "held out: 1," in done.stdout
    (home / "train" / "data.jsonl").unlink()
    with pytest.raises(UserError, match="start where the run was trained, or give --train"):
        call("cafe0123", "--device", "cpu")


def test_a_model_plays_its_own_codes(home: Path, model_folder: Path) -> None:
    done = call(model_folder, "--train", "music", "--num", 2, "--duration", 1, "--device", "cpu")
    assert done.exit_code == 0 and "equal codes" in done.stdout and "takes: 2, 0:02 min" in done.stdout


def test_the_codec_of_the_takes_is_taken(home: Path) -> None:
    for name in ("new", "quotes"):
        (home / "takes" / f"{name}.json").write_text(json.dumps({"file": f"{name}.wav", "codec_file": "codec"}))
    done = call("takes", "--train", "music", "--device", "cpu", "--json", "n.json")
    assert done.exit_code == 0 and json.loads((home / "n.json").read_text())["codec"] == "codec"
    write_codec(home / "other", seed=1)
    done = call("takes", "--train", "music", "--device", "cpu", "--codec", "other")
    assert "takes were made with codec, and are compared by codes of other" in done.stderr


def test_what_cannot_be_used_is_told(home: Path) -> None:
    write(home / "takes" / "blip.wav", 0.5, 1)
    soundfile.write(home / "takes" / "silent.wav", np.zeros(2 * RATE), RATE)
    (home / "takes" / "broken.wav").write_bytes(b"RIFF and nothing else")
    files = [home / "music" / "0.wav", home / "gone.wav", write(home / "music" / "blip.wav", 0.5, 2)]
    listed = manifest(home / "data.jsonl", files)
    done = call("takes", "--train", listed, "--no-codes")
    assert done.exit_code == 0 and "takes: 3, " in done.stdout and "training: 1 file\n" in done.stdout
    for name in ("gone.wav: ", "takes/blip.wav: it is shorter", "music/blip.wav: it is shorter", "broken.wav: "):
        assert name in done.stderr
    apart = manifest(home / "apart.jsonl", [home / "away.wav", home / "music" / "apart" / "held.wav"])
    done = call("takes/new.wav", "--train", listed, "--held-out", apart, "--no-codes")
    assert done.exit_code == 0 and "held out: 1, " in done.stdout and "away.wav: " in done.stderr
    done = call("takes/silent.wav", "--train", "music", "--no-codes")
    assert done.exit_code == 0 and "nothing in the takes can be heard" in done.stdout


def test_mistakes_are_one_line(home: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "empty").mkdir()
    (home / "none.jsonl").write_text("")
    blip = write(home / "blips" / "blip.wav", 0.5, 1)
    (home / "player").mkdir()
    (home / "player" / "lm.onnx").touch()
    for arguments, words in (
        (("takes",), "what was it trained on"),
        ((model_folder,), "what was it trained on"),
        (("no_such_thing", "--train", "music"), "no takes called no_such_thing"),
        (("empty", "--train", "music"), "nothing|no audio|empty"),
        (("player", "--train", "music"), "without torch"),
        (("takes", "--train", "nowhere"), "no file or folder nowhere"),
        (("takes", "--train", "none.jsonl"), "lists no files"),
        (("takes", "--train", "nothing.jsonl"), "no file or folder"),
        (("takes", "--train", "takes"), "nothing but what is measured"),
        (("takes", "--train", "music", "--held-out", "music"), "nothing but what is measured"),
        (("takes", "--train", blip, "--no-codes"), "none of the training audio can be compared"),
        ((blip, "--train", "music", "--no-codes"), "none of the takes can be looked up"),
        (("takes", "--train", "music", "--codec", "nowhere"), "nowhere"),
        (("takes", "--train", "music", "--page", "a.txt"), "end in .html"),
        ((model_folder, "--train", "music", "--duration", "0.5"), "too short"),
        ((model_folder, "--train", "music", "--codec", "codec"), "codec of its own"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            call(*arguments)
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(ConditioningProvider, "text_conditions", ["description"])
    with pytest.raises(UserError, match="trained with texts"):
        call(model_folder, "--train", "music")
    shutil.rmtree(home / "takes")
    with pytest.raises(UserError, match="no takes called takes"):
        call("takes", "--train", "music")
