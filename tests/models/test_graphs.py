"""When a step runs, is recorded, and is played back; no GPU is needed for the order of things."""

from types import SimpleNamespace

import pytest
import torch
from fake_cuda import stand_in

from audiocraft.models.graphs import run_step


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happened, on stand-ins for CUDA's streams and graphs."""
    seen: list[str] = []

    class Graph:
        def capture_begin(self, pool: object, capture_error_mode: str) -> None:
            seen.append("begin")

        def capture_end(self) -> None:
            seen.append("end")

        def replay(self) -> None:
            seen.append("replay")

    stand_in(monkeypatch, Graph)
    return seen


def test_each_kind_of_step_runs_once_then_is_recorded_then_only_played(log: list[str]) -> None:
    state = SimpleNamespace(sequence=torch.zeros(1), graphs={})
    for key in ("short", "short", "short", "long", "long", "short"):
        run_step(state, key, lambda key=key: log.append(key))  # type: ignore[arg-type, misc]
    recorded = ["begin", "short", "end", "replay"]
    assert log == ["short", *recorded, "replay", "long", "begin", "long", "end", "replay", "replay"]


def test_a_step_that_fails_while_it_is_recorded_is_not_kept(log: list[str]) -> None:
    state = SimpleNamespace(sequence=torch.zeros(1), graphs={})
    run_step(state, 1, lambda: log.append("step"))

    def broken() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        run_step(state, 1, broken)
    assert log == ["step", "begin", "end"]
    run_step(state, 1, lambda: log.append("step"))
    assert log[3:] == ["begin", "step", "end", "replay"]
