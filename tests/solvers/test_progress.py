"""Averages, and what a stage shows with and without a terminal."""

import io
import logging
import math
import sys

import pytest
import torch

from audiocraft.solvers import progress
from audiocraft.solvers.progress import Averager, StageProgress, duration_text


def test_averages_are_weighted_and_come_back() -> None:
    average = Averager()
    average.update({"loss": torch.tensor(1.0, requires_grad=True), "acc": 1.0}, weight=3)
    state = average.state_dict()
    assert state["sums"] == {"loss": 3.0, "acc": 3.0}
    resumed = Averager()
    resumed.load_state_dict(state)
    resumed.update({"loss": torch.tensor(5.0)})
    assert resumed.means() == {"loss": 2.0, "acc": 1.0}


def test_a_gradient_that_is_no_number_is_left_out() -> None:
    average = Averager()
    for value in (1.0, math.inf, torch.tensor(math.nan), torch.tensor(3.0)):
        average.update({"grad_norm": value, "loss": 1.0}, weight=2)
    assert average.means() == {"grad_norm": 2.0, "loss": 1.0}
    resumed = Averager()
    resumed.load_state_dict(average.state_dict())
    resumed.update({"grad_norm": torch.tensor(-math.inf)}, weight=2)
    assert resumed.means() == {"grad_norm": 2.0, "loss": 1.0}
    never = Averager()
    never.update({"grad_norm": math.nan, "loss": 1.0})
    assert never.means() == {"loss": 1.0}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (math.inf, "?"), (math.nan, "?")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_lines_where_there_is_no_terminal(caplog: pytest.LogCaptureFixture) -> None:
    bar = StageProgress("Train", range(20), total=20, mode="lines", updates=4, logger=logging.getLogger("x"))
    with caplog.at_level("INFO"):
        for step in bar:
            bar.update(loss=f"{step}")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 4
    assert lines[0].startswith("Train | 5/20 | loss 4 | ") and "left" in lines[0] and "/step" in lines[0]


def test_a_resumed_stage_counts_from_where_it_was(caplog: pytest.LogCaptureFixture) -> None:
    bar = StageProgress("Train", range(2), total=10, start=8, mode="lines", updates=10, logger=logging.getLogger("x"))
    with caplog.at_level("INFO"):
        list(bar)
    assert [record.getMessage().split(" | ")[1] for record in caplog.records] == ["9/10", "10/10"]


@pytest.mark.parametrize("mode", ["off", "lines"])
def test_silence(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert list(StageProgress("Train", range(5), total=5, mode=mode, updates=0)) == [0, 1, 2, 3, 4]
    assert not caplog.records


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    bar = StageProgress("Train", range(3), total=3)
    for _ in bar:
        bar.update(loss=2.5)
    shown = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "3/3" in shown and "loss 2.5" in shown and "left" in shown


def test_time_left_in_all(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    with caplog.at_level("INFO"):
        for _ in (bar := StageProgress("Train", range(4), total=4, after=3600, mode="lines", updates=1)):
            pass
    step = bar.step_time
    assert caplog.records[-1].getMessage().endswith(f"0 s left, {progress.duration_text(step * 3600)} in all")


def test_slow_steps_are_shown_between_the_lines(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with caplog.at_level("INFO"):
        for _ in StageProgress("Evaluate", range(100), total=100, mode="lines", updates=2):
            now[0] += 12.0
    shown = [int(record.getMessage().split(" | ")[1].split("/")[0]) for record in caplog.records]
    # The fourth step begins 36 s after the last line; the regular ones are at 50 and 100.
    assert shown[:3] == [4, 8, 12] and {50, 100} <= set(shown) and len(shown) < 30
