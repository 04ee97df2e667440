"""Training through its entry points."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from two import start_two

import audiocraft
from audiocraft import train
from audiocraft.errors import UserError
from audiocraft.utils.run_lock import sole_use

TINY = (
    "solver=compression/debug",
    "device=cpu",
    "datasource.train=songs",
    "datasource.valid=songs",
    "datasource.evaluate=songs",
    "optim.updates_per_epoch=2",
    "optim.epochs=1",
    "evaluate.every=null",
    "generate.every=null",
    "dataset.segment_duration=0.2",
    "dataset.valid.num_samples=2",
    "seanet.n_filters=2",
    "seanet.dimension=8",
    "seanet.lstm=0",
    "rvq.bins=8",
    "logging.progress=off",
)


@pytest.fixture
def songs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a tiny data set `songs`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUDIOCRAFT_DORA_DIR", raising=False)
    folder = tmp_path / "songs"
    folder.mkdir()
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 32_000))
    lines = []
    for i, wav in enumerate(noise):
        soundfile.write(folder / f"{i}.wav", wav, 32_000)
        lines.append(f'{{"path": "{i}.wav", "duration": 1.0, "sample_rate": 32000}}\n')
    (folder / "data.jsonl").write_text("".join(lines))
    return tmp_path


def test_run_in_process(songs: Path) -> None:
    result = train.run([*TINY])
    assert result.finished and result.epochs == 1 and result.stopped_by is None
    assert result.folder == songs / "outputs/xps" / result.sig
    assert {"checkpoint.th", "history.json", "solver.log.0"} <= {path.name for path in result.folder.iterdir()}
    longer = train.run([*TINY, "optim.epochs=2"])
    assert longer.folder == result.folder and longer.epochs == 2


def test_everything_in_a_folder_whose_name_looks_like_a_reference(songs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = songs / "we${ird} ${oc.env:HOME}"
    here.mkdir()
    (songs / "songs").rename(here / "${songs}")
    monkeypatch.chdir(here)
    given = [text.replace("=songs", "=${songs}") for text in TINY]
    result = train.run(given)
    assert result.finished and result.folder == here / "outputs/xps" / result.sig
    assert train.run([*given, "optim.epochs=2"]).epochs == 2


@pytest.mark.parametrize("earlier", [False, True])
def test_a_start_that_fails_leaves_no_run(earlier: bool, songs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But what an earlier start left there stays."""
    overrides = [*TINY, "datasource.valid=nowhere"]
    folder = train.main.make_xp(overrides).folder
    if earlier:
        folder.mkdir(parents=True)
        (folder / "solver.log.0").write_text("of an earlier start\n")
    with pytest.raises(UserError, match="no manifest"):
        train.run(overrides)
    assert folder.exists() == earlier
    assert not earlier or (folder / "solver.log.0").read_text().startswith("of an earlier start\n")


def test_a_run_that_fails_after_a_step_stays(songs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from audiocraft.solvers.compression import CompressionSolver

    steps = CompressionSolver.run_step

    def failing(self: CompressionSolver, idx: int, batch: tuple, metrics: dict) -> dict:
        if idx:
            raise UserError("the second step fails")
        return steps(self, idx, batch, metrics)

    monkeypatch.setattr(CompressionSolver, "run_step", failing)
    with pytest.raises(UserError, match="second step"):
        train.run([*TINY])
    assert (train.main.make_xp([*TINY]).folder / "solver.log.0").is_file()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("datasource.train=nowhere", "no manifest"),
        ("solver=default", "no recipe was chosen"),
        ("device=cuda:7", "device"),
        ("execute_only=generate", "needs a trained run"),
        ("dataset.batch_size=100000", r"dataset\.batch_size"),
    ],
)
def test_mistakes_end_in_one_line(override: str, message: str, songs: Path) -> None:
    with pytest.raises(UserError, match=message):
        train.run([*TINY, "dataset.train.num_samples=50", override])


def test_no_audio_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="dset=audio/jungle"):
        train.run(["solver=compression/debug"])


def test_outputs_where_no_folder_can_be(
    songs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (songs / "file").write_text("mine")
    monkeypatch.setenv("AUDIOCRAFT_DORA_DIR", str(songs / "file"))
    with pytest.raises(UserError, match=r"runs cannot be kept in .*file.*; set AUDIOCRAFT_DORA_DIR"):
        train.run([*TINY])
    monkeypatch.setattr(sys, "argv", ["dora", *TINY])
    with pytest.raises(SystemExit) as caught:
        train.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("error: runs cannot be kept in")
    assert (songs / "file").read_text() == "mine"


def test_status_of_a_stopped_run_is_the_shells(songs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from audiocraft.solvers.compression import CompressionSolver

    steps = CompressionSolver.run_step

    def stopping(self: CompressionSolver, idx: int, batch: tuple, metrics: dict) -> dict:
        os.kill(os.getpid(), signal.SIGTERM)
        return steps(self, idx, batch, metrics)

    monkeypatch.setattr(CompressionSolver, "run_step", stopping)
    monkeypatch.setattr(sys, "argv", ["dora", *TINY])
    with pytest.raises(SystemExit) as caught:
        train.main()
    assert caught.value.code == 128 + signal.SIGTERM


def test_dora_itself(songs: Path) -> None:
    """The command as users type it, outside a clone: a slip ends in one line and no run folder."""
    command = [sys.executable, "-m", "dora", "-P", "audiocraft", "run", "solver=compression/debug", "optim.epoch=1"]
    root = str(Path(audiocraft.__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": root}
    env.pop("USER", None)
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert lines == ["error: optim.epoch=1: there is no key 'optim.epoch'; did you mean optim.epochs?"], done.stderr
    assert not (songs / "outputs/xps").exists()


def test_a_run_is_trained_by_one_process_at_a_time(songs: Path) -> None:
    first = train.run([*TINY])
    longer = [*TINY, "optim.epochs=2"]
    holder = f"import os, sys; from pathlib import Path; from {sole_use.__module__} import sole_use\n"
    # A process that reads data outlives it for a while, and must not keep the lock.
    holder += f"with sole_use(Path({str(first.folder)!r})): os.fork() and print(flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", holder], **pipes) as other:  # type: ignore[call-overload]
        other.stdout.readline()
        with pytest.raises(UserError, match=rf"is being trained already \(process {other.pid}\); wait for it"):
            train.run(longer)
        other.kill()
    assert train.run(longer).epochs == 2


def test_a_disk_that_is_full_before_the_first_step_is_told(songs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(train, "sole_use", full)  # which writes a lock
    with pytest.raises(UserError, match=r"the disk that holds .* is full"):
        train.run([*TINY])


# What the command runs, and a look at what is left of the process group when it has returned.
MAIN = """
from two import gloo_threads
from audiocraft.train import main
main()
assert not gloo_threads(), "threads outlive the process group and can abort the end of the interpreter"
"""


def test_two_processes_train_and_end_cleanly(songs: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {
        "RANK": "RANK",
        "LOCAL_RANK": "RANK",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    start_two([sys.executable, "-c", MAIN, *TINY], songs, env)
    [folder] = (songs / "outputs/xps").iterdir()
    assert len(json.loads((folder / "history.json").read_text())) == 1
    assert {"solver.log.0", "solver.log.1"} <= {path.name for path in folder.iterdir()}
