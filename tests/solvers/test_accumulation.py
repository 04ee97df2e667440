"""Batches in parts: the same gradients, also where memory runs out in the middle of a run."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_lm import assert_same_metrics, build, settings

from audiocraft import train
from audiocraft.errors import UserError
from audiocraft.models.lm import LMModel
from audiocraft.solvers.data import start_loader
from audiocraft.solvers.musicgen import MusicGenSolver

pytestmark = pytest.mark.usefixtures("here")

# Files shorter than a segment: parts differ in how many codes count.
UNEVEN = ("dataset.batch_size=5", "dataset.short=pad", "dataset.min_segment_ratio=0.1", "optim.updates_per_epoch=3")
NO_DROPOUT = "transformer_lm.dropout=0"


def limit_memory(monkeypatch: pytest.MonkeyPatch, segments: int, plain: bool = True) -> None:
    """More than so many segments in training run out of memory (any number without checkpointing, unless `plain`)."""
    hidden = LMModel.hidden

    def limited(self: LMModel, sequence: torch.Tensor, *args: Any) -> torch.Tensor:
        if self.training and (len(sequence) > segments or not (plain or self.transformer.checkpointing)):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return hidden(self, sequence, *args)

    monkeypatch.setattr(LMModel, "hidden", limited)


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("parts", [2, 3, 5, 9])
def test_parts_give_the_gradients_of_the_whole(material: Path, parts: int, share: float) -> None:
    found = []
    for count in (1, parts):
        solver = build(material, *UNEVEN, NO_DROPOUT, f"tokens.loss_share={share}", f"optim.accumulate={count}")
        solver.model.train()
        solver._training = True
        solver.update = dict  # type: ignore[method-assign]
        loader = solver.dataloaders["train"]
        start_loader(loader, 1)
        torch.manual_seed(1)
        metrics = {name: float(value) for name, value in solver.run_step(0, next(iter(loader)), {}).items()}
        gradients = torch.cat([p.grad.flatten() for p in solver.model.parameters() if p.grad is not None])
        found.append((metrics, gradients))
    (whole, expected), (metrics, gradients) = found
    assert metrics == pytest.approx(whole, rel=1e-5)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(gradients, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_a_run_out_of_memory_goes_on_in_smaller_parts(
    material: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    options = (*UNEVEN, NO_DROPOUT, "tokens.corruption=0.2", "generate.every=null")
    smaller = train.run(settings(material, *options, "label=smaller", "optim.accumulate=2"))
    limit_memory(monkeypatch, 3)
    with caplog.at_level("WARNING"):
        disturbed = train.run(settings(material, *options))
    assert disturbed.finished
    assert caplog.text.count("batches go in 2 parts from here on (optim.accumulate=2)") == 1
    assert_same_metrics(disturbed.folder, smaller.folder)


def test_a_segment_that_does_not_fit_is_computed_twice(
    material: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    options = (*UNEVEN, NO_DROPOUT, "generate.every=null", "optim.epochs=1")
    plain = train.run(settings(material, *options, "label=plain"))
    limit_memory(monkeypatch, 1, plain=False)
    with caplog.at_level("WARNING"):
        run = train.run(settings(material, *options))
    assert "transformer_lm.checkpointing=torch" in caplog.text
    train_of = [json.loads((one.folder / "history.json").read_text())[0]["train"] for one in (run, plain)]
    assert train_of[0]["ce"] == pytest.approx(train_of[1]["ce"], rel=1e-5)


def test_the_average_leaves_the_gpu_first(material: Path) -> None:
    solver = build(material, "optim.ema.use=true")
    assert solver.ema is not None
    solver.device, solver.ema.device = torch.device("cuda"), "cuda"  # said, not done: there is none here
    told = [solver.need_less_memory() for _ in range(3)]
    assert "optim.ema.device=cpu" in str(told[0]) and "checkpointing=torch" in str(told[1]) and told[2] is None
    assert solver.ema.device == "cpu"
    solver.ema.step()


def test_nothing_fits(material: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_memory(monkeypatch, 0)
    with pytest.raises(UserError, match=r"not enough for a single segment: try a shorter dataset\.segment_duration"):
        train.run(settings(material))
    assert not list(Path("outputs/xps").glob("*"))


def test_processes_that_wait_for_each_other_stop(material: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_memory(monkeypatch, 1)
    solver = build(material)
    solver.accumulation.fixed = True
    solver._training = True
    with pytest.raises(UserError, match=r"2 segments at once: try optim\.accumulate=2"):
        solver.run_step(0, next(iter(solver.dataloaders["train"])), {})


def test_an_update_out_of_memory_is_one_line(material: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: MusicGenSolver) -> dict:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(MusicGenSolver, "update", full)
    with pytest.raises(UserError, match=r"batches of 2 x 1 s: try a smaller dataset\.batch_size \(now 2\)"):
        train.run(settings(material))
    assert not list(Path("outputs/xps").glob("*"))
