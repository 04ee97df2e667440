"""The command line: fast, one line for mistakes, and takes that can be made again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from audiocraft.cli import app, main
from audiocraft.commands.folder import hold_out, write_manifests
from audiocraft.commands.takes import save_take
from audiocraft.data.audio import audio_read, audio_write
from audiocraft.data.audio_dataset import AudioMeta, load_audio_meta
from audiocraft.errors import UserError
from audiocraft.utils.overrides import quote


def run(*arguments: object) -> object:
    return app([str(argument) for argument in arguments], standalone_mode=False)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from audiocraft.cli import app; app(['--help'], standalone_mode=False);"
        "print([m for m in ('torch', 'numpy', 'hydra', 'dora', 'omegaconf') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for command in (
        "train",
        "export",
        "generate",
        "stream",
        "sound",
        "novelty",
        "tune",
        "manifest",
        "material",
        "codec",
    ):
        assert command in done.stdout


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    """Through the real entry point: exit code 2, one line, no traceback."""
    command = [sys.executable, "-m", "audiocraft", "generate", str(tmp_path / "nothing"), "--out", str(tmp_path / "o")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no model") and done.stderr.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_a_full_gpu_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1 GiB.")

    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setattr("audiocraft.cli.app", full)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: CUDA out of memory; ask for less at once")


def _printed_to(stdout: int, flush: bool) -> tuple[int, str]:
    """Exit code and standard error of a command that prints."""
    code = f"import audiocraft.cli as cli; cli.app = lambda: print('a take', flush={flush}); cli.main()"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment)
    return done.returncode, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
@pytest.mark.parametrize("flush", [True, False])
def test_a_full_disk_behind_what_is_printed_is_one_line(flush: bool) -> None:
    with open("/dev/full", "wb") as full:
        code, told = _printed_to(full.fileno(), flush)
    assert code == 2
    assert told == "error: the disk is full, and the output is not whole; free some space and try again\n"


@pytest.mark.parametrize("flush", [True, False])
def test_a_reader_of_what_is_printed_may_go(flush: bool) -> None:
    read, write = os.pipe()
    os.close(read)
    assert _printed_to(write, flush) == (1, "")
    os.close(write)


def test_a_slip_in_an_override_comes_before_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "music").mkdir()
    with pytest.raises(UserError, match=r"there is no key 'optim\.lrr'"):
        run("train", "music", "optim.lrr=1")
    with pytest.raises(UserError, match=r"optim\.epochs=0: this takes"):
        run("train", "music", "optim.epochs=0")
    with pytest.raises(UserError, match="the folder music is empty"):
        run("train", "music")
    assert [path.name for path in tmp_path.iterdir()] == ["music"]


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [("--device", "toaster", "toaster is no device"), ("--codec", "nope", "nope"), ("--device", "cuda:99", "cuda:99")],
)
def test_what_is_not_there_comes_before_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, value: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUDIOCRAFT_DORA_DIR", raising=False)
    monkeypatch.setattr("audiocraft.data.scan.scan_folder", lambda *_, **__: pytest.fail("it looked through"))
    with pytest.raises(UserError, match=says):
        run("train", "music", option, value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [("train",), ("codec", "train")])
@pytest.mark.parametrize("given", ["environment", "override"])
def test_outputs_where_none_can_be_come_before_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], given: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUDIOCRAFT_DORA_DIR", raising=False)
    monkeypatch.setattr("audiocraft.data.scan.scan_folder", lambda *_, **__: pytest.fail("it looked through"))
    (tmp_path / "file").write_text("mine")
    if given == "environment":
        monkeypatch.setenv("AUDIOCRAFT_DORA_DIR", "file")
    with pytest.raises(UserError, match=r"runs cannot be kept in .*file .*; set AUDIOCRAFT_DORA_DIR"):
        run(*command, "music", *(["dora.dir=file"] if given == "override" else []))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_ctrl_c_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("audiocraft.data.scan.scan_folder", interrupted)
    assert run("train", "music") == 130
    assert capsys.readouterr().err == "stopped; the same command goes on from here\n"


def test_generate(model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "takes"
    make = ("generate", model_folder, "--duration", 0.5, "--seed", 7, "--out", out, "--device", "cpu")
    run(*make, "--num", 3, "--batch-size", 2, "--temperature", 1.1, "--top-k", 20)
    run(*make[:-4], "--out", out, "--num", 1, "--seed", 9, "--temperature", 1.1, "--top-k", 20)
    assert sorted(p.name for p in out.iterdir()) == [f"take_{n:04d}.{e}" for n in (1, 2, 3, 4) for e in ("json", "wav")]
    notes = [json.loads((out / f"take_{n:04d}.json").read_text()) for n in (1, 2, 3, 4)]
    assert [note["seed"] for note in notes] == [7, 8, 9, 9]
    assert notes[0]["model"] == str(model_folder) and len(notes[0]["model_fingerprint"]) == 12
    assert notes[0]["settings"]["temperature"] == 1.1 and notes[0]["settings"]["top_k"] == 20
    third, fourth = (audio_read(out / f"take_{n:04d}.wav")[0] for n in (3, 4))
    assert third.shape == (1, 16000)
    # One seed is one sound, whatever it was made beside (the codec rounds differently).
    assert (third - fourth).abs().max() < 1e-3
    first = audio_read(out / "take_0001.wav")[0]
    assert (first - third).abs().max() > 1e-2


def test_generate_continues_a_file(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompt = audio_write(tmp_path / "prompt", torch.randn(2, 44100) * 0.1, 44100)
    out = tmp_path / "takes"
    run("generate", model_folder, "--prompt", prompt, "--duration", 0.8, "--num", 2, "--seed", 1, "--out", out)
    assert "first 0.4 s" in capsys.readouterr().err
    notes = json.loads((out / "take_0002.json").read_text())
    assert notes["prompt"]["file"] == str(prompt) and notes["prompt"]["seconds"] == pytest.approx(0.4)
    one, two = (audio_read(out / f"take_000{n}.wav")[0] for n in (1, 2))
    assert one.shape == (1, 25600)
    assert (one - two)[:, :9600].abs().max() < 1e-3  # the prompt, but for what the codec's context lets through
    assert (one - two)[:, 16000:].abs().max() > 1e-2


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (("--duration", 0), "nothing"),
        (("--duration", "nan"), "nothing"),
        (("--duration", "inf"), "nothing"),
        (("--temperature", "nan"), "temperature"),
        (("--temperature", 0), "temperature"),
        (("--cfg", "inf"), "cfg_coef of inf"),
        (("--format", "xyz"), "xyz"),
        (("--prompt", "nowhere.wav"), "is not there; give an audio file"),
        (("--prompt-duration", 1), "needs a --prompt"),
        (("--text", "a song"), "without text"),
        (("--device", "toaster"), "toaster"),
    ],
)
def test_generate_refuses(model_folder: Path, tmp_path: Path, extra: tuple, says: str) -> None:
    with pytest.raises(UserError, match=says):
        run("generate", model_folder, "--duration", 0.2, "--num", 1, "--out", tmp_path / "takes", *extra)
    assert not (tmp_path / "takes").exists()


def test_generate_tells_before_it_works(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place where no takes can be, and a prompt without sound, are found out before anything is generated."""
    monkeypatch.setattr("audiocraft.models.MusicGen._generate", lambda *_, **__: pytest.fail("it was generated"))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=r"file cannot be written .*; choose another place"):
        run("generate", model_folder, "--duration", 0.2, "--out", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    silence = audio_write(tmp_path / "nothing", torch.zeros(1, 0), 32000)
    with pytest.raises(UserError, match=r"there is no sound in .*nothing\.wav"):
        run("generate", model_folder, "--duration", 0.2, "--out", tmp_path / "takes", "--prompt", silence)
    assert not (tmp_path / "takes").exists()


def test_export_then_generate(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("export", "cafe0123", "--out", tmp_path / "m", "--state", "model", "--epoch", 1)
    assert "python -m audiocraft generate" in capsys.readouterr().out
    run("generate", tmp_path / "m", "--duration", 0.2, "--num", 1, "--out", tmp_path / "takes")
    notes = json.loads((tmp_path / "takes" / "take_0001.json").read_text())
    assert notes["trained"] == {"run": "cafe0123", "epoch": 2, "state": "model"}


def _metas(count: int) -> list[AudioMeta]:
    return [AudioMeta(f"/a/track{index:03d}.wav", 10.0, 44100) for index in range(count)]


@pytest.mark.parametrize(("count", "held"), [(2, 1), (9, 1), (10, 1), (25, 2), (100, 10)])
def test_hold_out(count: int, held: int) -> None:
    train, valid = hold_out(_metas(count), Path("/a"))
    assert len(valid) == held and len(train) == count - held
    assert not {meta.path for meta in train} & {meta.path for meta in valid}
    # The same files elsewhere, in another order, split the same.
    moved = [AudioMeta(meta.path.replace("/a/", "/b/"), 1.0, 8000) for meta in reversed(_metas(count))]
    again = hold_out(moved, Path("/b"))[1]
    assert {Path(meta.path).name for meta in again} == {Path(meta.path).name for meta in valid}


def test_hold_out_moves_little() -> None:
    """One file more leaves nearly all held-out files held out."""
    before = {meta.path for meta in hold_out(_metas(50), Path("/a"))[1]}
    after = {meta.path for meta in hold_out(_metas(51), Path("/a"))[1]}
    assert len(before & after) >= len(before) - 1


def test_manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("AUDIOCRAFT_DORA_DIR", str(tmp_path / "outputs"))
    folder = tmp_path / "my 'music' = loud, [live]"
    for index in range(3):
        audio_write(folder / f"{index}", torch.randn(1, 8000) * 0.1, 16000)
    (folder / "broken.wav").write_text("no audio")
    train, valid = write_manifests(folder)
    assert "broken.wav" in capsys.readouterr().out
    assert train.is_relative_to(tmp_path / "outputs") and train != valid
    assert len(load_audio_meta(train)) == 2 and len(load_audio_meta(valid)) == 1
    single = tmp_path / "single"
    audio_write(single / "one", torch.randn(1, 8000) * 0.1, 16000)
    train, valid = write_manifests(single)
    assert load_audio_meta(train) == load_audio_meta(valid)
    assert "only one file" in capsys.readouterr().out


def test_own_work_is_not_learned_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`train .` beside runs and takes takes neither; a folder of takes given itself is taken."""
    monkeypatch.setenv("AUDIOCRAFT_DORA_DIR", str(tmp_path / "outputs"))
    noise = torch.randn(1, 8000) * 0.1
    for name in ("a", "b", "outputs/xps/cafe0123/samples/1/000_free"):
        audio_write(tmp_path / name, noise, 16000)
    for _ in range(2):
        save_take(tmp_path / "takes", noise, 16000, {"seed": 1})
    names = [Path(meta.path).name for path in write_manifests(tmp_path) for meta in load_audio_meta(path)]
    assert sorted(names) == ["a.wav", "b.wav"]
    names = [Path(meta.path).name for path in write_manifests(tmp_path / "takes") for meta in load_audio_meta(path)]
    assert sorted(names) == ["take_0001.wav", "take_0002.wav"]


@pytest.mark.parametrize("text", ["a/b.c", "with space", "it's", "a=b,c", "back\\slash", "[x]{y}(z)", "$HOME", "ünï"])
def test_quoted_values_survive_hydra(text: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    assert OverridesParser.create().parse_override(f"key={quote(text)}").value() == text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--scale", "giant"), "there is no such .*; choices: large"),
        (("oops",), "KEY=VALUE"),
        (("--unknown",), "KEY=VALUE"),
    ],
)
def test_train_refuses(tmp_path: Path, arguments: tuple, says: str) -> None:
    with pytest.raises(UserError, match=says):
        run("train", tmp_path, *arguments)


def test_manifest_command(tmp_path: Path) -> None:
    audio_write(tmp_path / "in" / "a", torch.randn(1, 8000) * 0.1, 16000)
    run("manifest", tmp_path / "in", tmp_path / "egs" / "data.jsonl")
    assert len(load_audio_meta(tmp_path / "egs" / "data.jsonl")) == 1


@pytest.mark.parametrize("given", [None, "ACTIVE"])
def test_waiting_threads_sleep_unless_told_otherwise(given: str | None) -> None:
    code = (
        "import os, sys, audiocraft.cli as cli; sys.argv = ['audiocraft', '--help']\n"
        "try: cli.main()\nfinally: print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": given} if given else {}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines()[-1] == f"{given or 'PASSIVE'} False"
