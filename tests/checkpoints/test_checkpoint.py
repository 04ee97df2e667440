"""Checkpoint files, best states, random states, log lines."""

import io
import logging
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from audiocraft.checkpoints import checkpoint as files
from audiocraft.errors import UserError
from audiocraft.utils.best_state import BestStateDictManager
from audiocraft.utils.logs import setup_logging
from audiocraft.utils.rng import rng_state, seed_everything, set_rng_state


def test_names_and_where_they_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOCRAFT_DORA_DIR", str(tmp_path))
    monkeypatch.setenv("AUDIOCRAFT_REFERENCE_DIR", str(tmp_path / "ref"))
    run = tmp_path / "xps/0123abcd"
    for path in (run / "checkpoint.th", run / "checkpoint_10.th", run / "checkpoint_9.th", tmp_path / "ref/a.th"):
        files.save_checkpoint({"x": 1}, path)
    assert files.checkpoint_name() == "checkpoint.th"
    for given in ("//sig/0123abcd", "0123abcd", run, run / "checkpoint.th"):
        assert files.resolve_checkpoint_path(given) == run / "checkpoint.th"
    assert files.resolve_checkpoint_path("//sig/0123abcd", 9) == run / "checkpoint_9.th"
    assert files.resolve_checkpoint_path("//reference/a.th") == tmp_path / "ref/a.th"
    assert files.resolve_checkpoint_path("//sig/ffffffff") is None
    assert [epoch for epoch, _ in files.numbered_checkpoints(run)] == [9, 10]
    files.flush_stale_checkpoints(run / "checkpoint.th", keep_last=1)
    assert [epoch for epoch, _ in files.numbered_checkpoints(run)] == [10]
    files.flush_stale_checkpoints(run / "checkpoint.th", keep_last=None)
    assert (run / "checkpoint_10.th").exists()
    monkeypatch.delenv("AUDIOCRAFT_REFERENCE_DIR")
    with pytest.raises(UserError, match="AUDIOCRAFT_REFERENCE_DIR"):
        files.resolve_checkpoint_path("//reference/a.th")


# The last one makes torch's reader of pickles stumble over an empty stack.
@pytest.mark.parametrize(
    "content", [b"", b"not a checkpoint", b"PK\x03\x04 cut short", b"RIFF\xa4\x05\x00\x00WAVEfmt "]
)
def test_damaged_files(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.th"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged.*start anew"):
        files.load_checkpoint(path)
    files.save_checkpoint({}, tmp_path / "checkpoint_3.th")
    with pytest.raises(UserError, match=r"cp .*checkpoint_3\.th"):
        files.load_checkpoint(path)
    with pytest.raises(UserError, match="there is no checkpoint"):
        files.load_checkpoint(tmp_path / "none.th")
    path.rename(tmp_path / "song.wav")
    with pytest.raises(UserError, match=r"song\.wav is damaged or no checkpoint.*; check the path"):
        files.load_checkpoint(tmp_path / "song.wav")


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_bare_pickle_is_refused_without_a_warning(
    tmp_path: Path, protocol: int, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "checkpoint.th"
    path.write_bytes(pickle.dumps({"model": Path("a")}, protocol=protocol))
    with pytest.raises(UserError, match="holds pickled objects, which are not read"):
        files.load_checkpoint(path)
    assert not recwarn.list


def test_damage_inside_a_tensor_is_seen(tmp_path: Path) -> None:
    """A file of the right length and structure: mapping alone would not notice."""
    path = tmp_path / "checkpoint.th"
    files.save_checkpoint({"a": torch.zeros(10_000)}, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        files.load_checkpoint(path)


def test_a_failed_write_that_is_no_full_disk_is_not_called_one(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="pickle") as caught:
        files.save_checkpoint({"f": lambda: 0}, tmp_path / "checkpoint.th")
    assert not isinstance(caught.value, UserError)
    assert list(tmp_path.iterdir()) == []


def test_best_states_are_copies() -> None:
    layer = nn.Linear(2, 2)
    best = BestStateDictManager()
    best.register("model", layer)
    with pytest.raises(ValueError, match="already"):
        best.register("model", layer)
    kept = best.state_dict()["model"]["weight"].clone()
    nn.init.zeros_(layer.weight)
    assert torch.equal(best.state_dict()["model"]["weight"], kept)
    best.update("model", layer)
    assert best.state_dict()["model"]["weight"].abs().sum() == 0
    other = BestStateDictManager(dtype=torch.float16)
    other.load_state_dict(best.state_dict())
    assert other.state_dict()["model"]["weight"].dtype == torch.float16


def test_random_state_goes_through_a_checkpoint(tmp_path: Path) -> None:
    def draw() -> list[float]:
        return [torch.rand(1).item(), float(np.random.rand()), np.random.randn(), random.random(), random.gauss(0, 1)]

    seed_everything(2036)
    draw()
    files.save_checkpoint(rng_state(), tmp_path / "rng.th")
    expected = draw()
    draw()
    set_rng_state(files.load_checkpoint(tmp_path / "rng.th"))
    assert draw() == expected


def test_log_lines(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    try:
        setup_logging("INFO", tmp_path / "log")
        setup_logging("INFO", tmp_path / "log")
        logging.getLogger("audiocraft").info("\033[1mbold\033[0m")
        logging.getLogger("audiocraft").debug("hidden")
    finally:
        setup_logging("WARNING", terminal=False)
    line = (tmp_path / "log").read_text()
    assert line.count("bold") == 1 and "\033" not in line and "hidden" not in line
    assert capsys.readouterr().err.count("bold") == 1


def test_a_log_on_a_full_disk_loses_lines_quietly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def full(text: str) -> int:
        written.append(text)
        raise OSError(28, "No space left on device")

    written: list[str] = []
    stream = io.StringIO()
    monkeypatch.setattr(stream, "write", full)
    try:
        setup_logging("INFO", tmp_path / "log", terminal=False)
        (handler,) = [one for one in logging.getLogger().handlers if getattr(one, "micro_musicgen", False)]
        assert isinstance(handler, logging.FileHandler)
        handler.setStream(stream)  # type: ignore[arg-type]
        logging.getLogger("audiocraft").info("line")
    finally:
        setup_logging("WARNING", terminal=False)
    assert "line" in written[0]
    assert capsys.readouterr().err == ""
