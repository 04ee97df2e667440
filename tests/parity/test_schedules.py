"""Golden set schedules.json: learning rates and the moving average."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from audiocraft import optim

SCHEDULES: dict[str, Any] = {
    "cosine": optim.CosineLRScheduler,
    "inverse_sqrt": optim.InverseSquareRootLRScheduler,
    "linear_warmup": optim.LinearWarmupLRScheduler,
    "polynomial_decay": optim.PolynomialDecayLRScheduler,
}


CASES = json.loads((Path(__file__).parents[1] / "golden/schedules.json").read_text())


def _optimizer(base_lrs: list[float]) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in base_lrs])


def _rates(optimizer: torch.optim.Optimizer) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


class _Probe(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(2, 2)
        self.bn = nn.BatchNorm1d(2)
        self.register_buffer("passing", torch.zeros(2), persistent=False)


def _set(module: nn.Module, values: dict[str, list[float]]) -> None:
    state = module.state_dict()
    for name, value in values.items():
        state[name].copy_(torch.tensor(value).view_as(state[name]))


@pytest.mark.parametrize("case", CASES["schedulers"], ids=lambda case: f"{case['scheduler']}-{case['args']}")
def test_rates(case: dict) -> None:
    optimizer = _optimizer(case["base_lrs"])
    schedule = SCHEDULES[case["scheduler"]](optimizer, **case["args"])
    optimizer.step()
    for row, expected in enumerate(case["lrs"]):
        assert _rates(optimizer) == pytest.approx(expected, rel=1e-12, abs=1e-300), row
        schedule.step()


@pytest.mark.parametrize("case", CASES["schedulers"], ids=lambda case: f"{case['scheduler']}-{case['args']}")
def test_resumed_rates(case: dict) -> None:
    optimizer = _optimizer(case["base_lrs"])
    schedule = SCHEDULES[case["scheduler"]](optimizer, **case["args"])
    optimizer.step()
    for _ in range(13):
        schedule.step()
    state = schedule.state_dict()
    fresh = _optimizer(case["base_lrs"])
    resumed = SCHEDULES[case["scheduler"]](fresh, **case["args"])
    resumed.load_state_dict(state)
    fresh.step()
    for row in range(13, 41):
        assert _rates(fresh) == pytest.approx(case["lrs"][row], rel=1e-12, abs=1e-300), row
        resumed.step()


@pytest.mark.parametrize("case", CASES["ema"], ids=lambda case: f"{case['decay']}-{case['unbias']}")
def test_ema(case: dict) -> None:
    modules = nn.ModuleDict({"model": _Probe()})
    _set(modules["model"], case["steps"][0]["values"])
    ema = optim.ModuleDictEMA(modules, decay=case["decay"], unbias=case["unbias"])
    for step, expected in enumerate(case["steps"]):
        if step:
            _set(modules["model"], expected["values"])
            ema.step()
        assert ema.count == pytest.approx(expected["count"], abs=1e-6)
        averages = ema.state["model"]
        assert averages.keys() == expected["ema"].keys()
        for name, values in expected["ema"].items():
            assert averages[name].flatten().tolist() == pytest.approx(values, abs=1e-6), (step, name)
