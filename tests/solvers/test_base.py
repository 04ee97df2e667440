"""The training loop on a toy: stages, epochs, averages, schedules."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from toy import ToySolver, start, weights
from two import run_two

from audiocraft.checkpoints.checkpoint import load_checkpoint
from audiocraft.errors import UserError

pytestmark = pytest.mark.usefixtures("here")


def test_the_schedule_and_the_average_follow_the_steps() -> None:
    solver = start("optim.ema.updates=3")
    assert solver.lr_scheduler is not None and solver.ema is not None
    assert solver.lr_scheduler.last_epoch == 12
    expected = sum(0.999**i for i in range(4))
    assert solver.ema.count == pytest.approx(expected)


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
    averages = []

    class Remembering(ToySolver):
        def valid(self) -> dict:
            averages.append(self.model.state_dict()["0.weight"].clone())
            return super().valid()

    solver = start("optim.ema.decay=0.5", kind=Remembering)
    losses = [epoch["valid"]["loss"] for epoch in solver.history]
    best = load_checkpoint(solver.checkpoint_path)["best_state"]["model"]
    assert torch.equal(best["0.weight"], averages[losses.index(min(losses))])
    assert solver.ema is not None and torch.equal(averages[-1], solver.ema.state["model"]["0.weight"])
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
    with pytest.raises(UserError, match="use adam, adamw, muon, dadam"):
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


@pytest.mark.parametrize(
    ("enabled", "named", "able", "used"),
    [
        ("true", "bfloat16", False, torch.bfloat16),
        ("true", "float16", True, torch.float32),
        ("true", "auto", True, torch.bfloat16),
        ("true", "auto", False, torch.float32),
        ("false", "auto", True, torch.float32),
    ],
)
def test_precision_on_a_cpu(
    enabled: str,
    named: str,
    able: bool,
    used: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("audiocraft.utils.device.cpu_has_bfloat16", lambda: able)
    with caplog.at_level("INFO"):
        solver = start(f"autocast={enabled}", f"autocast_dtype={named}", "optim.epochs=1")
    with solver.autocast:
        assert solver.model(torch.zeros(1, 4)).dtype == used
    assert f"Training on cpu in {str(used).removeprefix('torch.')}" in caplog.text


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


def test_updates_follow_the_batch_size_of_the_train_split() -> None:
    options = ("optim.updates_per_epoch=null", "dataset.train.num_samples=8", "optim.epochs=1")
    solver = start(*options, "dataset.batch_size=8", "+dataset.train.batch_size=2")
    assert solver.steps == 4 and solver.updates_per_epoch == 4


TWO = """
import toy
solver = toy.start("dataset.valid.num_samples=1", "optim.epochs=2")
print(rank, solver.history[-1]["valid"]["loss"], float(toy.weights(solver).sum()))
"""


def test_a_process_without_a_validation_batch_takes_part(tmp_path: Path) -> None:
    first, second = (out.splitlines()[-1].split() for out in run_two(TWO, folder=tmp_path))
    assert first[0] == "0" and second[0] == "1" and first[1:] == second[1:]
    assert math.isfinite(float(first[1]))


def test_weights_that_ran_away_are_not_saved() -> None:
    """The loss of the step that threw them is still a number."""
    wild = ("optim.lr=1e30", "optim.max_norm=0", "schedule.lr_scheduler=null", "label=wild")
    with pytest.raises(UserError, match=r"run away by step 1 of epoch 1; there is no checkpoint yet; lower optim.lr"):
        start(*wild, "checkpoint.every_minutes=1e-9")
    with pytest.raises(UserError, match=r"run away|no longer a number"):
        start(*wild, "checkpoint.every_minutes=null")
    assert not list(Path("outputs").rglob("checkpoint*.th"))


def test_a_gradient_without_number_stops_also_where_nothing_is_clipped() -> None:
    class Infinite(ToySolver):
        def run_step(self, idx: int, batch: torch.Tensor, metrics: dict) -> dict:
            next(self.model.parameters()).register_hook(lambda gradient: gradient * math.inf)
            return super().run_step(idx, batch, metrics)

    with pytest.raises(UserError, match="no longer a number at step 0 of epoch 1"):
        start("optim.max_norm=0", kind=Infinite)


class Slow(ToySolver):
    """Takes ten seconds a step, it believes."""

    def _forecast_stages(self, step_seconds: float) -> None:
        assert 0 < step_seconds < 10
        super()._forecast_stages(10.0)


def test_a_stage_that_takes_longer_than_the_training_is_told_early(caplog: pytest.LogCaptureFixture) -> None:
    stages = ("evaluate.every=10", "dataset.evaluate.num_samples=1000", "generate.every=2")
    with caplog.at_level("INFO"):
        solver = start(*stages, "dataset.generate.num_samples=1", kind=Slow)
    lines = [record.getMessage() for record in caplog.records if " stage will take " in record.getMessage()]
    # A third of a step for each batch of two, after the 9 of 12 steps that are left of the last epoch's.
    assert lines == [
        "The evaluate stage will take about 27 min 47 s, longer than the 1 min 30 s of training before it: a smaller "
        "dataset.evaluate.num_samples (now 1000) shortens it, evaluate.every=null leaves it out"
    ]
    texts = [record.getMessage() for record in caplog.records]
    assert texts.index(lines[0]) < next(i for i, text in enumerate(texts) if "Train Summary" in text)
    assert solver.epoch == 4
    caplog.clear()
    with caplog.at_level("INFO"):
        start("dataset.valid.num_samples=40", "optim.epochs=1", "label=again", kind=Slow)
    assert "The valid stage will take about 1 min 7 s" in caplog.text and "valid.every" not in caplog.text
