"""Linear warmup, then half a cosine (Loshchilov and Hutter, arXiv 1608.03983, without restarts)."""

import math

from torch.optim import Optimizer

from .lr_scheduler import StepwiseLRScheduler


class CosineLRScheduler(StepwiseLRScheduler):
    """Cosine schedule.

    Args:
        total_steps: the rate stays at `lr * lr_min_ratio` from there on.
        warmup_steps: the rate climbs from 0 to `lr` over these.
        lr_min_ratio: floor of the rate, as a fraction of `lr`.
        cycle_length: length of the half cosine, as a fraction of the steps after the warmup.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        warmup_steps: int,
        lr_min_ratio: float = 0.0,
        cycle_length: float = 1.0,
    ) -> None:
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.lr_min_ratio = lr_min_ratio
        self.cycle_length = cycle_length
        super().__init__(optimizer)

    def rate(self, base_lr: float) -> float:
        """See the class."""
        step = self.last_epoch
        if step < self.warmup_steps:
            return base_lr * step / self.warmup_steps
        if step > self.total_steps:
            return base_lr * self.lr_min_ratio
        done = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        fall = 0.5 * (1 + math.cos(math.pi * done / self.cycle_length))
        return base_lr * (self.lr_min_ratio + (1 - self.lr_min_ratio) * fall)
