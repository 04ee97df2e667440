"""Noticing that a loss is no longer a number, without waiting for the device at every step."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError

# Steps between two looks. A look waits for the device.
EVERY = 20


class Diverged(UserError):
    """A loss, or its gradient, is no longer a number: the weights since then are worth nothing and are not saved."""


def files_of(batch: Any) -> list[str]:
    """Files that a batch (waves, infos) was cut from; none for other batches."""
    infos = batch[1] if isinstance(batch, (tuple, list)) and len(batch) == 2 else ()
    return list(dict.fromkeys(str(info.meta.path) for info in infos if hasattr(info, "meta")))


class LossWatch:
    """Keeps losses of the last steps where they are, and finds the first that is not a number.

    Whoever saves weights calls `first_bad` before. What a step costs is remembering a scalar and some paths.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[int, Tensor, list[str]]] = []

    def add(self, idx: int, values: Sequence[Tensor | float], files: list[str]) -> bool:
        """Remember the values of step `idx`; returns whether it is time for a look."""
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
