"""The training loop on a toy: resuming, stopping, averages, checkpoints, stages."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from audiocraft import train
from audiocraft.errors import UserError
from audiocraft.solvers import builders
from audiocraft.solvers.base import StandardSolver
from audiocraft.utils.checkpoint import load_checkpoint

BASE = (
    "solver=musicgen/debug",
    "device=cpu",
    "optim.epochs=3",
    "optim.updates_per_epoch=4",
    "optim.ema.updates=2",
    "generate.every=null",
    "dataset.valid.num_samples=3",
    "logging.log_tensorboard=false",
    "logging.progress=off",
)


class Toy(torch.utils.data.Dataset):
    """Items that depend on (epoch, index) alone; it counts what was read."""

    killed_at: tuple[int, int] | None = None
    error: type[Exception] = RuntimeError

    def __init__(self, size: int) -> None:
        self.size = size
        self.epoch = 0
        self.read: list[tuple[int, int]] = []

    def start_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> torch.Tensor:
        if (self.epoch, index) == self.killed_at:
            # What a loader says when a signal to the process group ended its workers too.
            os.kill(os.getpid(), signal.SIGTERM)
            raise self.error("exited unexpectedly")
        self.read.append((self.epoch, index))
        return torch.randn(4, generator=torch.Generator().manual_seed(1000 * self.epoch + index))


class ToySolver(StandardSolver):
    """Learns to reproduce its input, with dropout, so that the random state matters."""

    stop_at: tuple[str, int] | None = None
    nan_at: int | None = None
    fails_in: str | None = None
    steps = 0

    def build_model(self) -> None:
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 4))
        self.optimizer = builders.get_optimizer(self.model, self.cfg.optim)
        self.lr_scheduler = builders.get_lr_scheduler(self.optimizer, self.cfg.schedule, self.total_updates)
        self.register_stateful("model", "optimizer", "lr_scheduler")
        self.register_ema("model")
        self.register_best_state("model")
        self.generated: list[int] = []

    def build_dataloaders(self) -> None:
        for split in ("train", "valid", "generate", "evaluate"):
            if builders.needs_split(self.cfg, split):
                size = builders.num_samples(self.cfg, split)
                self.dataloaders[split] = builders.get_split_loader(self.cfg, split, Toy(size))

    def run_step(self, idx: int, batch: torch.Tensor, metrics: dict) -> dict:
        with self.autocast:
            loss = (self.model(batch) - batch).pow(2).mean()
        stage = "train" if self.is_training else "valid"
        if self.is_training:
            if self.steps == self.nan_at:
                loss = loss * float("nan")
            metrics.update(self.optimizer_step(loss))
            self.steps += 1
        metrics["loss"] = loss
        if self.stop_at == (stage, self.steps if self.is_training else idx):
            os.kill(os.getpid(), signal.SIGINT)
        return metrics

    def generate(self) -> dict:
        if self.fails_in == "generate":
            torch.rand(3)
            raise UserError("no such prompt")
        self.generated.append(self.epoch)
        assert not self.model.training and not torch.is_grad_enabled()
        return {"samples": 1}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUDIOCRAFT_DORA_DIR", raising=False)


def start(*overrides: str, kind: type[ToySolver] = ToySolver, **attributes: Any) -> ToySolver:
    """Build and run a toy in a fresh experiment."""
    xp = train.main.make_xp([*BASE, *overrides])
    train.main.init_xp(xp)
    with xp.enter():
        solver = kind(xp.cfg)
        for name, value in attributes.items():
            setattr(solver, name, value)
        solver.run()
    return solver


def weights(solver: StandardSolver) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in solver.model.parameters()])


def history(solver: StandardSolver) -> list[dict]:
    """What was measured, without the durations."""
    return [
        {stage: {k: v for k, v in values.items() if k != "duration"} for stage, values in epoch.items()}
        for epoch in solver.history
    ]


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


def test_the_schedule_and_the_average_follow_the_steps() -> None:
    solver = start("optim.ema.updates=3")
    assert solver.lr_scheduler is not None and solver.ema is not None
    assert solver.lr_scheduler.last_epoch == 12
    expected = sum(0.999**i for i in range(4))
    assert solver.ema.count == pytest.approx(expected)


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


def test_stages_run_when_due() -> None:
    assert start("generate.every=2", "label=a").generated == [2, 3]
    assert start("generate.every=10000", "label=b").generated == [3]
    never = start("generate.every=null", "evaluate.every=null", "label=c")
    assert never.generated == []
    assert all(epoch.keys() == {"train", "valid"} for epoch in never.history)


def test_one_stage_alone() -> None:
    with pytest.raises(UserError, match="needs a trained run"):
        start("execute_only=generate")
    trained = start()
    before = trained.checkpoint_path.read_bytes()
    solver = start("execute_only=generate")
    assert solver.folder == trained.folder
    assert solver.generated == [4] and solver.steps == 0
    assert trained.checkpoint_path.read_bytes() == before
    with pytest.raises(UserError, match="not a stage"):
        start("execute_only=dance")


def test_validation_sees_the_average_and_the_best_is_kept() -> None:
    solver = start("optim.ema.decay=0.5")
    losses = [epoch["valid"]["loss"] for epoch in solver.history]
    best = load_checkpoint(solver.checkpoint_path)["best_state"]["model"]
    assert solver.ema is not None
    if losses[-1] == min(losses):
        assert torch.equal(best["0.weight"], solver.ema.state["model"]["0.weight"])
    before = weights(solver)
    with solver.swap_ema_state():
        assert torch.equal(solver.model.state_dict()["0.weight"], solver.ema.state["model"]["0.weight"])
        assert not torch.equal(weights(solver), before)
    assert torch.equal(weights(solver), before)


def test_last_smaller_batch_counts_by_its_size() -> None:
    class Counting(ToySolver):
        def run_step(self, idx: int, batch: torch.Tensor, metrics: dict) -> dict:
            return {**super().run_step(idx, batch, metrics), "index": float(len(batch))}

    solver = start("optim.epochs=1", kind=Counting)
    assert solver.history[0]["valid"]["index"] == pytest.approx((2 * 2 + 1 * 1) / 3)


def test_beginning_with_other_weights() -> None:
    other = start()
    fresh = start("label=fresh", f"continue_from=//sig/{other.xp.sig}", "optim.lr=0", "optim.epochs=1")
    assert fresh.folder != other.folder
    assert other.ema is not None
    assert torch.equal(fresh.model.state_dict()["0.weight"], other.ema.state["model"]["0.weight"])
    with pytest.raises(UserError, match="leads to no checkpoint"):
        start("label=lost", "continue_from=nowhere.th")


def test_a_loss_that_is_no_number_stops_training() -> None:
    with pytest.raises(UserError, match=r"optim\.lr"):
        start("logging.progress=lines", nan_at=1)


def test_whole_epoch_without_updates_per_epoch() -> None:
    solver = start("optim.updates_per_epoch=null", "dataset.train.num_samples=7", "optim.epochs=1")
    assert solver.steps == 3


def test_too_few_samples_for_a_batch() -> None:
    with pytest.raises(UserError, match=r"dataset\.batch_size"):
        start("dataset.train.num_samples=1")


def test_show_stops_before_training(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        solver = start("show=true")
    assert "parameters" in caplog.text
    assert solver.steps == 0 and not solver.checkpoint_path.exists()


@pytest.mark.parametrize("name", ["cosine", "linear_warmup", "inverse_sqrt", "polynomial_decay", "step", "exponential"])
def test_every_schedule_is_built_from_the_configuration(name: str) -> None:
    settings: Sequence[str] = {
        "step": ("schedule.step.step_size=2", "schedule.step.gamma=0.5"),
        "exponential": ("schedule.exponential.lr_decay=0.9",),
    }.get(name, (f"schedule.{name}.warmup=2",))
    solver = start(f"schedule.lr_scheduler={name}", *settings, "optim.epochs=1")
    assert solver.steps == 4
    if name == "exponential":
        assert solver.optimizer.param_groups[0]["lr"] == pytest.approx(2e-4 * 0.9**4)


def test_schedule_without_its_settings() -> None:
    with pytest.raises(UserError, match=r"schedule\.step\.step_size"):
        start("schedule.lr_scheduler=step")


def test_adam_and_missing_dadaptation() -> None:
    assert isinstance(start("optim.optimizer=adam", "optim.epochs=1").optimizer, torch.optim.Adam)
    with pytest.raises(UserError, match="use adam, adamw or dadam"):
        start("optim.optimizer=sgd")


def test_tensorboard_is_optional(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with caplog.at_level("INFO"):
        solver = start("logging.log_tensorboard=true", "optim.epochs=1")
    assert "TensorBoard is not installed" in caplog.text
    assert len(solver.history) == 1


def test_tensorboard_is_fed() -> None:
    pytest.importorskip("tensorboard")
    solver = start("logging.log_tensorboard=true", "optim.epochs=1")
    assert list(Path(solver.folder).rglob("events.out.tfevents.*"))


def test_bfloat16_on_the_cpu_when_named() -> None:
    solver = start("autocast=true", "autocast_dtype=bfloat16", "optim.epochs=1")
    with solver.autocast:
        assert solver.model(torch.zeros(1, 4)).dtype == torch.bfloat16
    plain = start("autocast=true", "autocast_dtype=float16", "optim.epochs=1", "label=plain")
    with plain.autocast:
        assert plain.model(torch.zeros(1, 4)).dtype == torch.float32


# What must not be lost.


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


class Skipping(ToySolver):
    """As with float16: the gradient of one step overflows, and the scaler leaves the step out."""

    class Scaler:
        def scale(self, loss: torch.Tensor) -> torch.Tensor:
            return loss

        def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
            self.overflow = next(self.steps) == 1
            if self.overflow:
                for group in optimizer.param_groups:
                    for parameter in group["params"]:
                        parameter.grad.fill_(math.inf)

        def step(self, optimizer: torch.optim.Optimizer) -> None:
            if not self.overflow:
                optimizer.step()

        def update(self) -> None:
            pass

        def state_dict(self) -> dict:
            return {}

        def __init__(self) -> None:
            self.steps = iter(range(100))

    def build_model(self) -> None:
        super().build_model()
        self.scaler = self.Scaler()


def test_a_step_that_the_scaler_skips_does_not_spoil_the_history() -> None:
    solver = start("optim.epochs=1", "optim.max_norm=1", kind=Skipping)
    plain = start("optim.epochs=1", "optim.max_norm=1", "label=plain")
    skipped, whole = (each.history[0]["train"]["grad_norm"] for each in (solver, plain))
    assert math.isfinite(skipped) and skipped == pytest.approx(whole, rel=0.9)
    text = (Path(solver.folder) / "history.json").read_text()
    assert "NaN" not in text and "Infinity" not in text


@pytest.mark.parametrize("how", ["in time", "interrupted", "at the end"])
def test_weights_after_a_loss_that_is_no_number_are_never_saved(how: str) -> None:
    ways: dict[str, dict[str, Any]] = {"in time": {"_last_save": -1e9}, "interrupted": {"stop_at": ("train", 3)}}
    every = "checkpoint.every_minutes=" + ("5" if how == "in time" else "null")
    with pytest.raises(UserError, match=r"step 1 of epoch 1 \(train; .*optim\.lr"):
        start(every, nan_at=1, **ways.get(how, {}))
    for path in Path("outputs").rglob("*.th"):
        assert all(torch.isfinite(value).all() for value in load_checkpoint(path)["model"].values())
    assert bool(list(Path("outputs").rglob("*.th"))) == (how == "in time")


def test_updates_follow_the_batch_size_of_the_train_split() -> None:
    options = ("optim.updates_per_epoch=null", "dataset.train.num_samples=8", "optim.epochs=1")
    solver = start(*options, "dataset.batch_size=8", "+dataset.train.batch_size=2")
    assert solver.steps == 4 and solver.updates_per_epoch == 4


TWO = """
import importlib.util, os, sys, torch
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
spec = importlib.util.spec_from_file_location("toy", sys.argv[3])
toy = importlib.util.module_from_spec(spec)
sys.modules["toy"] = toy
spec.loader.exec_module(toy)
solver = toy.start("dataset.valid.num_samples=1", "optim.epochs=2")
print(rank, solver.history[-1]["valid"]["loss"], float(toy.weights(solver).sum()))
"""


def test_a_process_without_a_validation_batch_takes_part(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(train.__file__).parents[1]), "GLOO_SOCKET_IFNAME": "lo"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO, str(rank), str(tmp_path), __file__],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        results = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], results
    first, second = (out.split() for out, _ in results)
    assert first[0] == "0" and second[0] == "1" and first[1:] == second[1:]
    assert math.isfinite(float(first[1]))
