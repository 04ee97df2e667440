"""Ctrl-C and SIGTERM end the step, not the work."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch


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
    def watching(self) -> Iterator[None]:
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
        import flashy

        signum = self.signum or 0
        if flashy.distrib.is_distributed():
            device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
            shared = torch.tensor([signum], device=device)
            flashy.distrib.all_reduce(shared, torch.distributed.ReduceOp.MAX)
            signum = int(shared.item())
        if signum:
            raise Interrupted(signum)
