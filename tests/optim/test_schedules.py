"""Schedules that are resumed; the peer's numbers are in parity/."""

import pytest
import torch
from torch import nn

from audiocraft import optim


def _optimizer(base_lrs: list[float]) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in base_lrs])


def _rates(optimizer: torch.optim.Optimizer) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


def test_resumed_with_more_steps_follows_the_longer_schedule() -> None:
    short = optim.CosineLRScheduler(_optimizer([1.0]), total_steps=10, warmup_steps=0)
    short.optimizer.step()
    for _ in range(10):
        short.step()
    assert _rates(short.optimizer) == [0.0]
    longer = optim.CosineLRScheduler(_optimizer([1.0]), total_steps=20, warmup_steps=0)
    longer.load_state_dict(short.state_dict())
    assert _rates(longer.optimizer)[0] == pytest.approx(0.5)


class _Probe(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(2, 2)
        self.bn = nn.BatchNorm1d(2)
        self.register_buffer("passing", torch.zeros(2), persistent=False)


def test_ema_state_comes_back() -> None:
    modules = nn.ModuleDict({"model": _Probe()})
    ema = optim.ModuleDictEMA(modules, decay=0.5)
    nn.init.constant_(modules["model"].lin.weight, 3.0)
    ema.step()
    other = optim.ModuleDictEMA(nn.ModuleDict({"model": _Probe()}), decay=0.5)
    other.load_state_dict(ema.state_dict())
    assert other.count == ema.count
    assert torch.equal(other.state["model"]["lin.weight"], torch.full((2, 2), 3.0))
    with pytest.raises(KeyError):
        other.load_state_dict({"count": 1.0, "state": {"model": {"lin.weight": torch.zeros(2, 2)}}})
