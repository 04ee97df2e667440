"""What a stage shows while it runs, and the averages it ends with."""

import logging
import math
import sys
import time
import typing as tp
from dataclasses import dataclass

import torch
from flashy import distrib
from torch import Tensor
from tqdm import tqdm

T = tp.TypeVar("T")

_LOGGER = logging.getLogger(__name__)


# A step whose gradient is not finite is left out by the scaler of mixed precision, and says nothing about the others.
MAY_FAIL = ("grad_norm",)
# Off a terminal, nothing is silent for much longer than this.
SECONDS_BETWEEN_LINES = 30.0


class Averager:
    """Weighted means of metrics.

    Tensors are added up where they are, so that a GPU is not waited for at every step.
    """

    def __init__(self) -> None:
        self.sums: dict[str, tp.Any] = {}
        self.weights: dict[str, tp.Any] = {}

    def update(self, metrics: dict[str, tp.Any], weight: float = 1.0) -> None:
        """Take the metrics of one step, numbers or scalar tensors, into the means.

        Values of `grad_norm` that are not finite are left out.
        """
        for name, value in metrics.items():
            counted: tp.Any = weight
            if isinstance(value, Tensor):
                value = value.detach().to(torch.float32)
            if name in MAY_FAIL:
                value = torch.as_tensor(value)
                counted = weight * torch.isfinite(value)
                value = value.nan_to_num(0.0, 0.0, 0.0)
            self.sums[name] = self.sums.get(name, 0.0) + value * weight
            self.weights[name] = self.weights.get(name, 0.0) + counted

    def means(self) -> dict[str, float]:
        """The means so far, of what was counted at least once."""
        state = self.state_dict()
        return {name: value / state["weights"][name] for name, value in state["sums"].items() if state["weights"][name]}

    def means_of_all(self) -> dict[str, float]:
        """The means over all processes, the same in each; one that counted nothing takes part too."""
        if not distrib.is_distributed():
            return self.means()
        states: list[tp.Any] = [None] * distrib.world_size()
        torch.distributed.all_gather_object(states, self.state_dict())
        total = Averager()
        for state in states:
            for kind, sums in (("sums", total.sums), ("weights", total.weights)):
                for name, value in state[kind].items():
                    sums[name] = sums.get(name, 0.0) + value
        return total.means()

    def state_dict(self) -> dict[str, tp.Any]:
        """Sums and weights as plain numbers."""
        return {
            "sums": {name: float(value) for name, value in self.sums.items()},
            "weights": {name: float(value) for name, value in self.weights.items()},
        }

    def load_state_dict(self, state: dict[str, tp.Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.sums = dict(state["sums"])
        self.weights = dict(state["weights"])


def duration_text(seconds: float) -> str:
    """A duration for people: 12 s, 3 min 20 s, 2 h 5 min."""
    if not math.isfinite(seconds):
        return "?"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@dataclass
class StageProgress(tp.Generic[T]):
    """Iterate over the steps of a stage and show metrics, step time and time left.

    On a terminal a bar; elsewhere some lines per stage. Call `update(**metrics)` with formatted or plain values.

    Args:
        name: of the stage, as shown.
        total: steps of the whole stage.
        start: steps done before (of a resumed epoch).
        after: steps that will follow in later epochs, for the time left in all.
        mode: auto, bar, lines or off.
        updates: lines per stage, and more where steps are slow.
    """

    name: str
    iterable: tp.Iterable[T]
    total: int
    start: int = 0
    after: int = 0
    mode: str = "auto"
    updates: int = 10
    logger: logging.Logger = _LOGGER

    def __post_init__(self) -> None:
        assert self.mode in ("auto", "bar", "lines", "off"), self.mode
        if self.mode == "auto":
            self.mode = "bar" if sys.stderr.isatty() else "lines"
        self.done = self.start
        self.every = max(1, self.total // max(1, self.updates)) if self.updates > 0 else 0
        self.metrics: dict[str, tp.Any] = {}
        self.step_time = math.nan

    def update(self, **metrics: tp.Any) -> None:
        """Set what is shown beside the position; kept until the next call."""
        self.metrics = metrics

    @property
    def due(self) -> bool:
        """Whether the present step will be shown, so that its metrics are worth fetching from the device."""
        if self.mode == "bar":
            return time.monotonic() - self._shown > 0.5 or self.done + 1 >= self.total
        if self.mode != "lines" or not self.every:
            return False
        return (self.done + 1) % self.every == 0 or time.monotonic() - self._shown > SECONDS_BETWEEN_LINES

    def __iter__(self) -> tp.Iterator[T]:
        begin, first = time.monotonic(), self.done
        self._shown = 0.0 if self.mode == "bar" else begin
        form = "{desc} |{bar}| {n_fmt}/{total_fmt} [{elapsed}, {remaining} left]{postfix}"
        options: dict = {"file": sys.stderr, "dynamic_ncols": True, "leave": False, "bar_format": form}
        with tqdm(total=self.total, initial=first, desc=self.name, disable=self.mode != "bar", **options) as bar:
            for item in self.iterable:
                due = self.due
                yield item
                self.done += 1
                self.step_time = (time.monotonic() - begin) / (self.done - first)
                bar.update(1)
                if not due:
                    continue
                if self.mode == "bar":
                    bar.set_postfix_str(self._text() + self._in_all(), refresh=True)
                else:
                    left = f"{duration_text(self.step_time * (self.total - self.done))} left{self._in_all()}"
                    self.logger.info("%s | %d/%d | %s | %s", self.name, self.done, self.total, self._text(), left)
                self._shown = time.monotonic()

    def _in_all(self) -> str:
        """Time left with later epochs, where there are any."""
        return f", {duration_text(self.step_time * (self.total - self.done + self.after))} in all" * (self.after > 0)

    def _text(self) -> str:
        step = f"{self.step_time:.2f} s/step" if self.step_time >= 1 else f"{1000 * self.step_time:.0f} ms/step"
        shown = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in self.metrics.items())
        return " | ".join([*shown, step])
