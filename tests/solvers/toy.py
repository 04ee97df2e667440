"""A toy that the training loop is tested on: its data, its solver, and how a run of it is started and read."""

import os
import signal
from typing import Any

import torch
from torch import nn

from audiocraft import train
from audiocraft.errors import UserError
from audiocraft.solvers import data, optimizers
from audiocraft.solvers.base import StandardSolver

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
        self.optimizer = optimizers.get_optimizer(self.model, self.cfg.optim)
        self.lr_scheduler = optimizers.get_lr_scheduler(self.optimizer, self.cfg.schedule, self.total_updates)
        self.register_stateful("model", "optimizer", "lr_scheduler")
        self.register_ema("model")
        self.register_best_state("model")
        self.generated: list[int] = []

    def build_dataloaders(self) -> None:
        for split in ("train", "valid", "generate", "evaluate"):
            if data.needs_split(self.cfg, split):
                size = data.num_samples(self.cfg, split)
                self.dataloaders[split] = data.get_split_loader(self.cfg, split, Toy(size))

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
