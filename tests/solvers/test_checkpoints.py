"""The training loop on a toy: checkpoints, resuming, and what stopping must not lose."""

import json
import os
import signal
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import BASE, Toy, ToySolver, history, start, weights

from audiocraft import train
from audiocraft.checkpoints.checkpoint import load_checkpoint
from audiocraft.errors import UserError

pytestmark = pytest.mark.usefixtures("here")


@pytest.mark.parametrize("stop_at", [("train", 1), ("train", 4), ("train", 6), ("valid", 0), ("valid", 1)])
def test_stopped_and_resumed_equals_never_stopped(stop_at: tuple[str, int], tmp_path: Path) -> None:
    straight = start("dora.dir=straight")
    stopped = start("dora.dir=other", stop_at=stop_at)
    assert stopped.stopped_by == signal.SIGINT
    assert len(stopped.history) < 3
    resumed = start("dora.dir=other")
    assert resumed.stopped_by is None
    assert torch.equal(weights(straight), weights(resumed))
    assert straight.ema is not None and resumed.ema is not None
    assert straight.ema.count == resumed.ema.count
    for name, value in straight.ema.state["model"].items():
        assert torch.equal(value, resumed.ema.state["model"][name])
    for ours, theirs in zip(history(straight), history(resumed)):
        assert ours.keys() == theirs.keys()
        for stage in ours:
            assert ours[stage] == pytest.approx(theirs[stage], rel=1e-5)


def test_resuming_skips_without_reading() -> None:
    start(stop_at=("train", 2))
    resumed = start()
    data: Any = resumed.dataloaders["train"].dataset
    assert data.read[:4] == [(1, 4), (1, 5), (1, 6), (1, 7)]


def test_checkpoint_is_plain_and_complete() -> None:
    solver = start()
    state = torch.load(solver.checkpoint_path, weights_only=True)
    assert {"xp.cfg", "xp.sig", "version", "history", "epoch_state", "model", "optimizer"} <= state.keys()
    assert {"lr_scheduler", "ema", "best_state", "rng"} <= state.keys()
    assert isinstance(state["xp.cfg"], str) and "updates_per_epoch: 4" in state["xp.cfg"]
    assert state["xp.sig"] == solver.xp.sig
    assert len(state["history"]) == 3
    assert json.loads((Path(solver.folder) / "history.json").read_text()) == state["history"]


def test_numbered_checkpoints_are_kept_as_asked() -> None:
    solver = start("optim.epochs=6", "checkpoint.save_every=2", "checkpoint.keep_last=2")
    names = sorted(path.name for path in Path(solver.folder).glob("*.th"))
    assert names == ["checkpoint.th", "checkpoint_4.th", "checkpoint_6.th"]
    assert len(load_checkpoint(solver.epoch_checkpoint_path(4))["history"]) == 4


def test_no_last_checkpoint_resumes_from_the_numbered_one() -> None:
    options = ("checkpoint.save_last=false", "checkpoint.save_every=1", "checkpoint.keep_last=null")
    start(*options, "optim.epochs=2")
    solver = start(*options)
    assert not solver.checkpoint_path.exists()
    assert len(solver.history) == 3


def test_a_finished_run_is_trained_longer_in_its_folder(caplog: pytest.LogCaptureFixture) -> None:
    first = start("optim.epochs=1")
    with caplog.at_level("INFO"):
        again = start("optim.epochs=1")
    assert "optim.epochs=2" in caplog.text
    assert again.steps == 0
    longer = start("optim.epochs=2")
    assert longer.folder == first.folder
    assert len(longer.history) == 2
    assert longer.optimizer.param_groups[0]["lr"] == pytest.approx(longer.cfg.optim.lr * 0.05)


def test_damaged_checkpoint_names_the_way_out() -> None:
    solver = start("checkpoint.save_every=1")
    whole = solver.checkpoint_path.read_bytes()
    solver.checkpoint_path.unlink()  # the numbered one may share its bytes
    solver.checkpoint_path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"damaged.*cp .*checkpoint_3\.th"):
        start("optim.epochs=4")
    solver.checkpoint_path.unlink()
    with pytest.raises(UserError, match=r"missing.*cp .*checkpoint_3\.th"):
        start("optim.epochs=4")
    assert solver.epoch_checkpoint_path(3).read_bytes() == whole
    for path in Path(solver.folder).glob("*.th"):
        path.unlink()
    with pytest.raises(UserError, match="3 epochs were trained"):
        start("optim.epochs=4")
    assert len(json.loads((Path(solver.folder) / "history.json").read_text())) == 3


def test_a_file_that_is_no_checkpoint_of_a_run_is_not_gone_on_from() -> None:
    solver = start()
    contents: list[Any] = [[1, 2], {"best_state": {}}]
    for content in contents:
        solver.checkpoint_path.unlink()
        torch.save(content, solver.checkpoint_path)
        before = solver.checkpoint_path.read_bytes()
        with pytest.raises(UserError, match="none of a training run; put the right one back, or give label=NAME"):
            start("optim.epochs=4")
        assert solver.checkpoint_path.read_bytes() == before


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    torch.save({"model": {}, "xp.cfg": Path("x")}, tmp_path / "theirs.th")
    with pytest.raises(UserError, match="export it there"):
        start(f"continue_from={tmp_path}/theirs.th")


def test_a_full_disk_leaves_the_checkpoint_before(monkeypatch: pytest.MonkeyPatch) -> None:
    solver = start("optim.epochs=1")
    before = solver.checkpoint_path.read_bytes()

    def full(state: Any, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match="disk is full"):
        start("optim.epochs=2")
    assert solver.checkpoint_path.read_bytes() == before
    assert sorted(path.name for path in Path(solver.folder).iterdir() if path.suffix == ".th") == [
        "checkpoint.th",
        "checkpoint_1.th",
    ]


def test_too_little_disk_is_said_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audiocraft.solvers.checkpoints.free_bytes", lambda path: 1000)
    with pytest.raises(UserError, match="AUDIOCRAFT_DORA_DIR"):
        start()


def test_time_between_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []

    class Watched(ToySolver):
        def save_checkpoints(self, numbered: bool = True) -> None:
            saved.append(self._steps_done)
            self._last_save = -1e9  # as if it had been long ago
            super().save_checkpoints(numbered)
            self._last_save = -1e9

    start("optim.epochs=1", "checkpoint.every_minutes=5", kind=Watched, _last_save=-1e9)
    assert saved == [1, 2, 3, 4, 4, 0]
    saved.clear()
    start("optim.epochs=1", "checkpoint.every_minutes=null", "label=never", kind=Watched, _last_save=-1e9)
    assert saved == [0]


def test_beginning_with_other_weights() -> None:
    other = start()
    fresh = start("label=fresh", f"continue_from=//sig/{other.xp.sig}", "optim.lr=0", "optim.epochs=1")
    assert fresh.folder != other.folder
    assert other.ema is not None
    assert torch.equal(fresh.model.state_dict()["0.weight"], other.ema.state["model"]["0.weight"])
    with pytest.raises(UserError, match="leads to no checkpoint"):
        start("label=lost", "continue_from=nowhere.th")
    state = load_checkpoint(other.checkpoint_path)
    for content in ([1], {**state, "model": 5}, {**state, "ema": 5, "model": {"x": 5}}, {**state, "model": {}}):
        torch.save(content, "odd.th")
        with pytest.raises(UserError, match=r"odd\.th (is not a training|holds)"):
            start("label=odd", "continue_from=odd.th")


# What must not be lost.


def test_an_epoch_that_was_closed_by_half_is_closed_when_the_run_goes_on() -> None:
    """Killed after checkpoint.th got its name and before the numbered one did."""
    options = ("checkpoint.save_every=1", "checkpoint.keep_last=1")
    run = start(*options)
    run.epoch_checkpoint_path(2).hardlink_to(run.epoch_checkpoint_path(3))
    run.epoch_checkpoint_path(3).unlink()
    start(*options, "execute_only=valid")
    assert not run.epoch_checkpoint_path(3).exists()
    start(*options)
    names = sorted(path.name for path in Path(run.folder).glob("*.th"))
    assert names == ["checkpoint.th", "checkpoint_3.th"]
    assert run.epoch_checkpoint_path(3).samefile(run.checkpoint_path)


def test_a_state_of_another_shape_is_refused_in_one_line() -> None:
    run = start("optim.epochs=1")
    state = load_checkpoint(run.checkpoint_path)
    keys = ("rng", "ema", "best_state", "epoch_state", "optimizer", "lr_scheduler", "history")
    values: list[Any] = [2**70, "x", [1], {"x": torch.zeros(2)}, {"global": {"torch": "x"}}]
    for key, value in product(keys, values):
        with pytest.raises(UserError, match=r"does not fit this model .*label=NAME"):
            run.load_state_dict({**state, key: value})


def test_a_stage_that_fails_after_training_costs_no_training() -> None:
    straight = start("generate.every=1", "dora.dir=straight")
    with pytest.raises(UserError, match="no such prompt"):
        start("generate.every=1", fails_in="generate")
    resumed = start("generate.every=1")
    assert resumed.steps == 8 and resumed.generated == [1, 2, 3]
    assert torch.equal(weights(straight), weights(resumed))
    assert history(resumed)[0]["valid"] == pytest.approx(history(straight)[0]["valid"])


def test_a_failure_inside_training_saves_nothing() -> None:
    class Failing(ToySolver):
        def run_step(self, idx: int, batch: torch.Tensor, metrics: dict) -> dict:
            if self.steps == 2:
                raise UserError("no memory")
            return super().run_step(idx, batch, metrics)

    with pytest.raises(UserError, match="no memory"):
        start(kind=Failing)
    assert not list(Path("outputs").rglob("*.th"))


@pytest.mark.parametrize(("killed_at", "error"), [((1, 4), RuntimeError), ((2, 1), ConnectionResetError)])
def test_a_signal_that_ends_the_workers_too_is_a_signal(
    killed_at: tuple[int, int], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Toy, "error", error)
    straight = start("dora.dir=straight")
    with monkeypatch.context() as patch:
        patch.setattr(Toy, "killed_at", killed_at)
        stopped = start()
    assert stopped.stopped_by == signal.SIGTERM and stopped.checkpoint_path.is_file()
    assert torch.equal(weights(straight), weights(start()))


def test_an_error_of_the_loader_without_a_signal_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Toy, "killed_at", (1, 4))
    monkeypatch.setattr(os, "kill", lambda pid, number: None)
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        start()


def test_an_interrupt_without_save_last_is_not_gone_back_to() -> None:
    options = ("checkpoint.save_last=false", "checkpoint.save_every=1", "checkpoint.keep_last=null")
    start(*options, stop_at=("train", 2))
    done = start(*options, "optim.epochs=2")
    assert [path.name for path in sorted(Path(done.folder).glob("*.th"))] == ["checkpoint_1.th", "checkpoint_2.th"]
    longer = start(*options)
    assert longer.steps == 4 and len(longer.history) == 3


@pytest.mark.parametrize("stage", ["train", "valid"])
@pytest.mark.parametrize("left", ["finished", "inside"])
def test_a_stage_alone_changes_nothing(stage: str, left: str) -> None:
    run = start(stop_at=None if left == "finished" else ("valid", 1))
    before = run.checkpoint_path.read_bytes()
    alone = start(f"execute_only={stage}", "checkpoint.every_minutes=5", _last_save=-1e9)
    assert alone.steps == (4 if (stage, left) == ("train", "finished") else 0)
    assert run.checkpoint_path.read_bytes() == before


def test_beginning_with_a_run_that_has_averaged_nothing_yet() -> None:
    other = start("optim.ema.updates=1000", "optim.epochs=1")
    assert other.ema is not None and other.ema.count == 0
    fresh = start("label=fresh", f"continue_from=//sig/{other.xp.sig}", "schedule.lr_scheduler=null", "show=true")
    assert not torch.equal(weights(fresh), weights(other))  # shown, not run
    xp = train.main.make_xp([*BASE, "label=other", f"continue_from=//sig/{other.xp.sig}"])
    train.main.init_xp(xp)
    with xp.enter():
        begun = ToySolver(xp.cfg)
        begun.restore()
    assert torch.equal(weights(begun), weights(other))


@pytest.mark.parametrize("how", ["in time", "interrupted", "at the end"])
def test_weights_after_a_loss_that_is_no_number_are_never_saved(how: str) -> None:
    ways: dict[str, dict[str, Any]] = {"in time": {"_last_save": -1e9}, "interrupted": {"stop_at": ("train", 3)}}
    every = "checkpoint.every_minutes=" + ("5" if how == "in time" else "null")
    with pytest.raises(UserError, match=r"step 1 of epoch 1 \(train; .*optim\.lr"):
        start(every, nan_at=1, **ways.get(how, {}))
    for path in Path("outputs").rglob("*.th"):
        assert all(torch.isfinite(value).all() for value in load_checkpoint(path)["model"].values())
    assert bool(list(Path("outputs").rglob("*.th"))) == (how == "in time")
