"""What ends a run early: Ctrl-C and SIGTERM, which end the step and not the work, and losses that are no numbers."""

import signal
import threading
import typing as tp
from contextlib import contextmanager
from types import FrameType

import torch
from flashy import distrib
from torch import Tensor

from ..errors import UserError

# Steps between two looks at losses. A look waits for the device.
EVERY = 20


class Interrupted(Exception):
    """The user, or the system, asked the run to stop; what was done is saved by whoever catches this."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class StopFlag:
    """Remembers that a signal came. A second Ctrl-C stops at once, as Python does by default."""

    def __init__(self) -> None:
        self.signum: int | None = None

    @contextmanager
    def watching(self) -> tp.Iterator[None]:
        """Listen for SIGINT and SIGTERM inside the context (in the main thread; elsewhere nothing is changed)."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signum = signum

    def check(self) -> None:
        """Raise `Interrupted` if a signal came, in all processes of a distributed run at the same call."""
        signum = self.signum or 0
        if distrib.is_distributed():
            device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
            shared = torch.tensor([signum], device=device)
            distrib.all_reduce(shared, torch.distributed.ReduceOp.MAX)
            signum = int(shared.item())
        if signum:
            raise Interrupted(signum)


class Diverged(UserError):
    """A loss, or its gradient, is no longer a number: the weights since then are worth nothing and are not saved."""


class LossWatch:
    """Keeps losses of the last steps where they are, and finds the first that is not a number.

    Whoever saves weights calls `first_bad` before. What a step costs is remembering a scalar and some paths.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[int, Tensor, list[str]]] = []

    def add(self, idx: int, values: tp.Sequence[Tensor | float], batch: tp.Any) -> bool:
        """Remember the values of step `idx` and the files of its batch; returns whether it is time for a look."""
        infos = batch[1] if isinstance(batch, (tuple, list)) and len(batch) == 2 else ()
        files = list(dict.fromkeys(str(info.meta.path) for info in infos if hasattr(info, "meta")))
        if values:
            total = sum(value.float() if isinstance(value, Tensor) else value for value in values)
            self._steps.append((idx, torch.as_tensor(total), files))
        return len(self._steps) >= EVERY

    def first_bad(self) -> tuple[int, list[str]] | None:
        """Step and files of the first value since the last look that is not a number; None if there is none."""
        steps, self._steps = self._steps, []
        if not steps:
            return None
        good = torch.isfinite(torch.stack([value for _, value, _ in steps])).tolist()
        return next(((idx, files) for (idx, _, files), fine in zip(steps, good) if not fine), None)
