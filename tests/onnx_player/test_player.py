"""The player: torch's tokens without torch, streams, takes, and one line for whatever goes wrong."""

import errno
import json
import os
import shutil
import struct
import subprocess
import sys
import wave
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import run_player

from audiocraft.errors import UserError
from audiocraft.models.musicgen import MusicGen
from audiocraft.modules.codebooks_patterns import (
    DelayedPatternProvider,
    ParallelPatternProvider,
    UnrolledPatternProvider,
)
from audiocraft.modules.sampling import SamplingParams, choose, clip_uniforms
from audiocraft.onnx_player.export import export_player

from .conftest import HOP, RATE, make_codec, make_lm

FRAMES = RATE // HOP
# Choices by the knobs that are ours.
MORE = ({"min_p": 0.1}, {"min_p": 0.02, "top_p": 0.9}, {"min_p": 1.0}, {"cool": 0.5, "top_k": 0}, {"cool": 2.0})
FILES = ("lm.onnx", "sound.onnx", "player.json", "lm.weights", "sound.weights")


@pytest.fixture(scope="session")
def folders(musicgen: MusicGen, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("player")
    return {quantize: export_player(musicgen, root / quantize, quantize) for quantize in ("none", "int8")}


@pytest.fixture
def player(folders: dict[str, Path], player_code):
    return player_code.engine.Player(folders["none"], threads=1)


def one_line(result: subprocess.CompletedProcess) -> str:
    """The one line a failed run printed; nothing else, and no traceback."""
    assert result.returncode not in (0, 1), result
    lines = result.stderr.decode().strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


def read_wav(path: Path) -> np.ndarray:
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getsampwidth()) == (RATE, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def drawn(player_code, player, clips: int, seconds: float, seed: int, sampling) -> np.ndarray:
    frames = player_code.generation.draw_codes(
        player.lm, clips, player.frames(seconds), seed, sampling, player_code.generation.Clock()
    )
    return np.concatenate(list(frames), -1)


@pytest.mark.parametrize("seconds", [0.08, 1.0, 2.0, 7.3])  # two seconds are one window
@pytest.mark.parametrize(
    "settings",
    [
        *({"greedy": True}, {}, {"top_k": 7, "temperature": 1.3}, {"top_p": 0.6}, {"top_k": 0}),
        *({"min_p": 0.3}, {"min_p": 0.2, "top_p": 0.9}, {"cool": 0.6}, {"repetition": 20.0}, {"repetition": -9.0}),
        {"temperature": 1.4, "top_k": 30, "min_p": 0.05, "cool": 0.9, "repetition": 8.0},
        {"greedy": True, "repetition": 4.0},
    ],
    ids=lambda settings: "-".join(settings) or "default",
)
def test_tokens_equal_torch(settings: dict, seconds: float, player, player_code, musicgen: MusicGen):
    sampling = player_code.generation.Sampling(**settings)
    rest = {name: value for name, value in settings.items() if name != "greedy"}
    musicgen.set_generation_params(use_sampling=not sampling.greedy, duration=seconds, **rest)
    _, expected = musicgen.generate_unconditional(2, return_tokens=True, seed=5)
    np.testing.assert_array_equal(drawn(player_code, player, 2, seconds, 5, sampling), expected.numpy())


@pytest.mark.parametrize(
    "pattern", [DelayedPatternProvider(4, delays=[0, 0, 2, 5]), ParallelPatternProvider(4)], ids=["delays", "parallel"]
)
def test_other_delays(pattern, tmp_path: Path, player_code):
    model = MusicGen("tiny", make_codec(), make_lm(pattern, positional_embedding="rope"), max_duration=1)
    player = player_code.engine.Player(export_player(model, tmp_path / "out", "none"))
    model.set_generation_params(duration=2)
    _, expected = model.generate_unconditional(2, return_tokens=True, seed=9)
    got = drawn(player_code, player, 2, 2, 9, player_code.generation.Sampling())
    np.testing.assert_array_equal(got, expected.numpy())


def test_uniform_numbers_and_choices_are_those_of_torch(player_code):
    ours, theirs = player_code.generation.uniform_numbers(2**40 + 7, 3, 200, 4), clip_uniforms(2**40 + 7, 3, 200, 4)
    np.testing.assert_array_equal(ours, theirs.numpy())
    logits = 3 * torch.randn(3, 200, 4, 60, generator=torch.Generator().manual_seed(0))
    for settings in ({}, {"top_k": 5}, {"top_p": 0.8}, {"top_p": 1.0}, {"top_k": 0}, {"top_k": 1}, *MORE):
        expected = choose(logits, theirs, SamplingParams(**settings))
        got = player_code.generation.choose(logits.numpy(), ours, player_code.generation.Sampling(**settings))
        np.testing.assert_array_equal(got, expected.numpy())


@pytest.mark.parametrize("temperature", [1e-20, 1e-39, 1e-300])
def test_tiny_temperatures_take_the_likeliest(temperature: float, player_code):
    rng = np.random.default_rng(0)
    logits, uniforms = 20 * rng.standard_normal((50, 30), np.float32), rng.random(50, np.float32)
    for filters in ({"top_k": 0}, {"top_k": 5}, {"top_p": 0.9}):
        sampling = player_code.generation.Sampling(temperature, **filters)
        np.testing.assert_array_equal(player_code.generation.choose(logits, uniforms, sampling), logits.argmax(-1))


@pytest.mark.parametrize("seconds", [0.5, 2.0, 40.0])
def test_stream_equals_offline(seconds: float, player, player_code, musicgen: MusicGen):
    """Two seconds are exported for; forty come in windows, and sound in pieces equals that of torch in one go."""
    musicgen.set_generation_params(duration=seconds)
    expected = musicgen.generate_unconditional(2, seed=3).numpy()
    frames = player.frames(seconds)
    wav = np.concatenate(list(player.play(2, frames, 3, player_code.generation.Sampling())), -1)
    assert wav.shape == (2, 1, frames * HOP)
    np.testing.assert_allclose(wav, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


def test_there_are_no_more_threads_than_cores(folders: dict[str, Path], player_code, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(player_code.engine, "open_session", lambda path, threads, busy: threads)
    for asked, given in ((1, 1), (2, 2), (100_000, 2)):
        player = player_code.engine.Player(folders["none"], asked)
        assert (player.threads, player.lm.session) == (given, given)


def test_int8_sounds_every_time_the_same(folders: dict[str, Path], player_code):
    player = player_code.engine.Player(folders["int8"])
    first, again = (
        np.concatenate(list(player.play(3, 60, 8, player_code.generation.Sampling())), -1) for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)
    assert len({clip.tobytes() for clip in first}) == 3


def test_the_command_needs_no_torch(folders: dict[str, Path], tmp_path: Path):
    arguments = ["--num", "3", "--duration", "1.5", "--seed", "4", "--batch-size", "2"]
    result = run_player(folders["int8"], *arguments, "--out", "takes", "--timings", "t.json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    takes = tmp_path / "takes"
    assert sorted(p.name for p in takes.iterdir()) == [f"take_{i:04d}.{e}" for i in (1, 2, 3) for e in ("json", "wav")]
    notes = [json.loads(path.read_text()) for path in sorted(takes.glob("*.json"))]
    assert [note["seed"] for note in notes] == [4, 5, 6]
    assert all(len(read_wav(takes / note["file"])) == 1.5 * RATE for note in notes)
    told = json.loads((tmp_path / "t.json").read_text())
    order = [told[key] for key in ("imports", "load", "lm", "decode", "total")]
    assert order == sorted(order) and 0 < told["load"] < told["first_audio"] <= told["total"] and told["peak_mib"] > 1
    # The next takes go behind them; the same seed alone is the same sound, and is it streamed too.
    result = run_player(folders["int8"], "--duration", "1.5", "--seed", "6", "--out", "takes", cwd=tmp_path)
    assert result.stdout.decode().split()[0] == "takes/take_0004.wav"
    np.testing.assert_array_equal(read_wav(takes / "take_0004.wav"), read_wav(takes / "take_0003.wav"))
    result = run_player(folders["int8"], "--duration", "1.5", "--seed", "6", "--stream")
    assert result.returncode == 0 and result.stdout == (takes / "take_0004.wav").read_bytes()
    result = run_player(folders["int8"], "--duration", "1.5", "--seed", "6", "--stream", "--raw")
    assert result.stdout == (takes / "take_0004.wav").read_bytes()[44:]
    result = run_player(folders["int8"], "--duration", "1.5", "--seed", "6", "--stream", "one.wav", cwd=tmp_path)
    assert (tmp_path / "one.wav").read_bytes() == (takes / "take_0004.wav").read_bytes()
    assert "is there already" in one_line(run_player(folders["int8"], "--stream", "one.wav", cwd=tmp_path))


def test_stereo_samples_take_turns(tmp_path: Path, player_code):
    model = MusicGen("tiny", make_codec(channels=2), make_lm(), max_duration=2)
    folder = export_player(model, tmp_path / "out", "none")
    result = run_player(folder, "--duration", "1", "--seed", "1", "--stream")
    channels, rate = struct.unpack("<HI", result.stdout[22:28])
    assert (channels, rate) == (2, RATE)
    model.set_generation_params(duration=1)
    wav = model.generate_unconditional(1, seed=1)[0].numpy()
    got = np.frombuffer(result.stdout[44:], "<i2").reshape(-1, 2).T / 32767
    quiet = np.abs(wav) < 0.9
    np.testing.assert_allclose(got[quiet], wav[quiet], atol=1e-4)


def test_samples_stay_within_full_scale(player_code):
    wav = np.array([[-9.0, -1.0, -0.5, 0.0, 0.5, 0.95, 1.2, 100.0]], np.float32)
    pcm = np.frombuffer(player_code.player.to_pcm(wav), "<i2")
    assert (np.diff(pcm.astype(int)) >= 0).all() and pcm[0] == -32767 and pcm[-1] == 32767
    np.testing.assert_array_equal(pcm[2:5], np.rint(wav[0, 2:5] * 32767))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--duration", "0"], "nothing"),
        (["--duration", "-3"], "nothing"),
        (["--duration", "nan"], "nothing"),
        (["--duration", "inf"], "nothing"),
        (["--duration", "0.001"], "too short"),
        (["--duration", "1e9"], "a WAV holds"),
        (["--num", "0"], "--num 0"),
        (["--temperature", "0"], "temperature 0 is not above 0"),
        (["--top-p", "2"], "top_p 2 do not work"),
        (["--seed", "-1"], "--seed"),
        (["--stream", "--num", "2"], "one take"),
        (["--stream", "--out", "takes"], "leave --out out"),
        (["--stream", "one.wav", "--batch-size", "10"], "leave --batch-size out"),
        (["--raw"], "--stream"),
        (["--timings", "player.json/t.json"], "t.json cannot be written"),
        (["--timings", "."], "cannot be written"),
        (["--timings", "t.json", "--duration", "0"], "nothing"),
        (["--out", "player.json/takes"], "cannot be written"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) else "",
)
def test_bad_arguments(arguments: list[str], told: str, folders: dict[str, Path], tmp_path: Path):
    (tmp_path / "player.json").touch()
    assert told in one_line(run_player(folders["none"], *arguments, cwd=tmp_path))
    assert [path.name for path in tmp_path.rglob("*")] == ["player.json"]


def test_memory_is_told_in_mib_on_every_system(player_code, monkeypatch: pytest.MonkeyPatch):
    import resource

    clock = player_code.generation.Clock()
    clock.mark("load")
    for platform, measured in (("linux", 300 << 10), ("darwin", 300 << 20)):
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setattr(resource, "getrusage", lambda _, peak=measured: SimpleNamespace(ru_maxrss=peak))
        assert clock.report()["peak_mib"] == 300


def test_a_closed_pipe_ends_in_one_line(folders: dict[str, Path]):
    read, write = os.pipe()
    os.close(read)
    result = run_player(folders["none"], "--duration", "20", "--stream", stdout=write, stderr=-1, capture_output=False)
    os.close(write)
    assert "closed" in one_line(result)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
@pytest.mark.parametrize("arguments", [["--stream"], []], ids=["stream", "takes"])
def test_a_full_disk_behind_stdout_ends_in_one_line(
    arguments: list[str], folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    with open("/dev/full", "wb") as full:
        where = {"stdout": full, "stderr": subprocess.PIPE, "capture_output": False, "cwd": tmp_path}
        line = one_line(run_player(folders["none"], "--duration", "1", *arguments, **where))
    assert line == "error: the output cannot be written (No space left on device)"


def test_closed_outputs(folders: dict[str, Path], tmp_path: Path):
    """From a shell that closes them before the player starts."""

    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = ["sh", "-c", 'exec "$0" "$1" --duration 1 ' + " ".join(arguments)]
        command += [sys.executable, str(folders["none"] / "player.py")]
        return subprocess.run(command, capture_output=True, timeout=60, cwd=tmp_path)

    assert "stdout is closed" in one_line(run("--stream", ">&-"))
    assert run(">&-").returncode == 0 and (tmp_path / "takes" / "take_0001.wav").is_file()
    streamed = run("--stream", "2>&-")
    assert streamed.returncode == 0 and len(streamed.stdout) == 44 + 2 * RATE
    failed = run("--stream", "--seed", "-1", "2>&-")
    assert failed.returncode == 2 and failed.stdout == b""


def test_folders_that_are_no_player(folders: dict[str, Path], model_folder: Path, tmp_path: Path):
    assert "--format onnx" in one_line(run_player(folders["none"], str(model_folder)))
    assert "no model for the player" in one_line(run_player(folders["none"], str(tmp_path)))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *((name, "scribbled") for name in ("lm.onnx", "sound.onnx", "player.json")),  # not weights: they are numbers
        *((name, damage) for name in FILES for damage in ("cut", "missing")),
    ],
)
def test_damaged_folders(name: str, damage: str, folders: dict[str, Path], tmp_path: Path):
    folder = shutil.copytree(folders["none"], tmp_path / "model")
    path = folder / name
    size = path.stat().st_size
    path.unlink()
    if damage != "missing":
        path.write_bytes(b"\xff" * (size // 2 if damage == "cut" else size))
    line = one_line(run_player(folder, "--out", "takes", cwd=tmp_path))
    assert "export" in line and (name in line or name == "player.json")
    assert not (tmp_path / "takes").exists()


def test_facts_that_are_missing_or_of_another_form(folders: dict[str, Path], tmp_path: Path, player_code):
    """Every single one is checked, before it would be looked at; what else is there is not."""
    folder = shutil.copytree(folders["none"], tmp_path / "model")
    facts = player_code.engine.read_facts(folder)
    wrong: list = [[facts], None, 7, "facts", {}]
    for name in facts.keys() - {"version"}:
        wrong.append({key: value for key, value in facts.items() if key != name})
        wrong += [{**facts, name: value} for value in (None, [], -1) if name != "format"]
    wrong += [{**facts, "delays": facts["delays"][1:]}, {**facts, "frame_rate": 0}, {**facts, "lstm": [2, "six"]}]
    for each in wrong:
        (folder / "player.json").write_text(json.dumps(each))
        with pytest.raises(player_code.generation.PlayerError, match="damaged; export the model again"):
            player_code.engine.read_facts(folder)
    (folder / "player.json").write_text(json.dumps({"format": 3, "files": {}}))
    with pytest.raises(player_code.generation.PlayerError, match="has format 3, this player knows 2"):
        player_code.engine.read_facts(folder)
    (folder / "player.json").write_text(json.dumps({**facts, "more": 1}))
    assert player_code.engine.read_facts(folder) == {**facts, "more": 1}


def test_exports_are_refused(folders: dict[str, Path], musicgen: MusicGen, tmp_path: Path):
    with pytest.raises(UserError, match="--replace"):
        export_player(musicgen, folders["none"])
    with pytest.raises(UserError, match="choose one of int8, none"):
        export_player(musicgen, tmp_path / "new", "int4")
    unrolled = MusicGen("tiny", make_codec(), make_lm(UnrolledPatternProvider(4, flattening=[0, 1, 2, 3])), 2)
    with pytest.raises(UserError, match="delays"):
        export_player(unrolled, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    again = export_player(musicgen, shutil.copytree(folders["none"], tmp_path / "old"), "int8", replace=True)
    assert json.loads((again / "player.json").read_text())["quantize"] == "int8"


def test_places_that_cannot_be_written(musicgen: MusicGen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/player cannot be written .* choose another place"):
        export_player(musicgen, tmp_path / "file" / "player")
    with pytest.raises(UserError, match=r"cannot be written .*too long"):
        export_player(musicgen, tmp_path / ("x" * 300))

    def fail(number: int, *_: object) -> None:
        raise OSError(number, os.strerror(number))

    for number, told in ((errno.ENOSPC, "the disk is full"), (errno.EROFS, "cannot be written .*Read-only")):
        monkeypatch.setattr(shutil, "copyfile", partial(fail, number))
        with pytest.raises(UserError, match=told):
            export_player(musicgen, tmp_path / "player")
        assert list((tmp_path / "player").iterdir()) == []


def test_weights_that_are_no_numbers(musicgen: MusicGen, tmp_path: Path):
    model = MusicGen("tiny", make_codec(), make_lm(), max_duration=2)
    with torch.no_grad():
        model.lm.out_norm.weight[0] = float("nan")
    folder = export_player(model, tmp_path / "out", "none")
    assert "NaN" in one_line(run_player(folder, "--out", "takes", cwd=tmp_path))
    assert list((tmp_path / "takes").iterdir()) == []
