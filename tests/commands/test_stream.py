"""The stream command: to a file, to a pipe, and to a pipe that closes."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from audiocraft.cli import app
from audiocraft.data.audio import audio_info, audio_read, audio_write
from audiocraft.errors import UserError
from audiocraft.models import MusicGen
from audiocraft.utils.takes import open_sound, to_pcm, wav_header


def run(*arguments: object) -> None:
    app([str(argument) for argument in arguments], standalone_mode=False)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "audiocraft", "stream", *map(str, arguments), "--device", "cpu"]


def test_file(model_folder: Path, tmp_path: Path) -> None:
    """The file is what the model makes, and has a true header."""
    out = tmp_path / "new" / "take.wav"
    run("stream", model_folder, "--out", out, "--duration", 1.5, "--seed", 5, "--precision", "float32", "--top-k", 20)
    assert [path.name for path in out.parent.iterdir()] == ["take.wav"]
    info = audio_info(out)
    assert (info.sample_rate, info.channels, info.duration) == (32000, 1, 1.5)
    model = MusicGen.get_pretrained(model_folder, "cpu")
    model.set_generation_params(duration=1.5, top_k=20)
    wav = model.generate_unconditional(1, seed=5)[0]
    quiet = wav.abs() < 0.95
    assert quiet.any() and (audio_read(out)[0] - wav)[quiet].abs().max() < 1e-4
    with pytest.raises(UserError, match="is there already"):
        run("stream", model_folder, "--out", out, "--duration", 1)


def test_peaks_are_rounded_off_and_nothing_else_is_touched(tmp_path: Path) -> None:
    wav = torch.linspace(-3, 3, 4001)[None]
    with open_sound(str(tmp_path / "a.wav")) as sink:
        sink.write(wav_header(32000, 1, wav.shape[-1]) + to_pcm(wav.numpy()))
    written = audio_read(tmp_path / "a.wav")[0]
    loud = wav.abs() > 0.95
    assert (written - wav)[~loud].abs().max() < 1e-4
    assert (written.diff() >= 0).all() and 0.99 < written.max() <= 1
    assert written[loud].abs().min() > 0.95


def test_pipe(model_folder: Path, tmp_path: Path) -> None:
    """Through the real entry point: samples on the standard output, one line about them on the other."""
    prompt = audio_write(tmp_path / "prompt", torch.randn(1, 32000) * 0.1, 32000)
    common = (model_folder, "--duration", 2, "--seed", 5, "--prompt", prompt, "--prompt-duration", 0.5)
    raw = subprocess.run(command(*common, "--raw"), capture_output=True, check=True)
    assert len(raw.stdout) == 2 * 64000
    assert raw.stderr.decode().splitlines()[-1].startswith("seed 5, 2 s, ")
    assert np.abs(np.frombuffer(raw.stdout, "<i2")).max() > 100
    wav = subprocess.run(command(*common), capture_output=True, check=True)
    assert wav.stdout[:4] == b"RIFF" and wav.stdout[8:16] == b"WAVEfmt "
    assert wav.stdout[44:] == raw.stdout


def test_closed_pipe_ends_in_one_line(model_folder: Path) -> None:
    process = subprocess.Popen(
        command(model_folder, "--duration", 600, "--seed", 1), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.read(44)[:4] == b"RIFF"
    process.stdout.close()
    told = process.stderr.read().decode().splitlines()
    process.stderr.close()
    assert process.wait(timeout=60) == 2
    assert told[-1] == "error: the player has closed the pipe; the rest was not made"
    assert len(told) == 2, told


def test_nothing_is_left_when_it_fails(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> object:
        yield torch.zeros(1, 1, 100)
        yield torch.full((1, 1, 100), float("nan"))

    monkeypatch.setattr("audiocraft.models.MusicGen.stream", broken)
    out = tmp_path / "takes" / "take.wav"
    with pytest.raises(UserError, match="NaN"):
        run("stream", model_folder, "--out", out, "--duration", 1)
    assert list(out.parent.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals and pipes")
def test_nothing_is_left_when_it_is_ended(model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "takes" / "take.wav"
    process = subprocess.Popen(
        command(model_folder, "--out", out, "--duration", 3600, "--seed", 1), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("seed 1, 3600 s")
    assert len(list(out.parent.iterdir())) == 1
    process.terminate()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=60) == 143
    assert list(out.parent.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals and pipes")
def test_a_pipe_with_a_name_stays_one(model_folder: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = subprocess.Popen(command(model_folder, "--out", pipe, "--duration", 1, "--raw"), stderr=subprocess.PIPE)
    heard = pipe.read_bytes()
    process.communicate()
    assert process.returncode == 0 and len(heard) == 2 * 32000 and pipe.is_fifo()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
@pytest.mark.parametrize(("out", "place"), [("-", "behind the standard output"), ("/dev/full", "of /dev/full")])
def test_a_full_disk_ends_in_one_line(model_folder: Path, out: str, place: str) -> None:
    with open("/dev/full", "wb") as full:
        line = command(model_folder, "--duration", 0.2, "--out", out)
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    *told, error = done.stderr.splitlines()
    assert error == f"error: the disk {place} is full; free some space, the rest was not made" and len(told) <= 1, told


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
def test_closed_standard_output_ends_in_one_line(model_folder: Path) -> None:
    line = f"{shlex.join(command(model_folder))} >&-"
    done = subprocess.run(line, shell=True, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: the standard output is closed; pipe it into a player (| ffplay -nodisp -i -)\n"


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (("--duration", 0), "nothing"),
        (("--duration", 1e8), "more than a day"),
        (("--duration", 70000), "at most 67108 s"),
        (("--chunk", 0), "chunks of 0 s"),
        (("--temperature", 0), "temperature"),
        (("--cfg", "nan"), "cfg_coef of nan"),
        (("--precision", "int3"), "unknown precision int3"),
        (("--device", "toaster"), "toaster"),
        (("--device", "meta"), "not served"),
        (("--prompt", "nowhere.wav"), "is not there"),
        (("--text", "a song"), "without text"),
        (("--out", "."), "is a folder"),
    ],
)
def test_mistakes(model_folder: Path, tmp_path: Path, extra: tuple, says: str) -> None:
    with pytest.raises(UserError, match=says):
        run("stream", model_folder, "--out", tmp_path / "take.wav", "--duration", 0.2, *extra)
    assert not (tmp_path / "take.wav").exists()
