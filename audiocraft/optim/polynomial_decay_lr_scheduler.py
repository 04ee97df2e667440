"""Linear warmup, then polynomial decay."""

from torch.optim import Optimizer

from .lr_scheduler import StepwiseLRScheduler


class PolynomialDecayLRScheduler(StepwiseLRScheduler):
    """Zero for `zero_lr_warmup_steps`, up to `lr` over `warmup_steps`, down to `end_lr` at `total_steps`.

    Args:
        power: of the decay; 1 is a straight line.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_steps: int,
        total_steps: int,
        end_lr: float = 0.0,
        zero_lr_warmup_steps: int = 0,
        power: float = 1.0,
    ) -> None:
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.end_lr = end_lr
        self.zero_lr_warmup_steps = zero_lr_warmup_steps
        self.power = power
        super().__init__(optimizer)

    def rate(self, base_lr: float) -> float:
        """See the class."""
        step = self.last_epoch
        silent = self.zero_lr_warmup_steps
        if silent > 0 and step <= silent:
            return 0.0
        if self.warmup_steps > 0 and step <= self.warmup_steps + silent:
            return base_lr * (step - silent) / self.warmup_steps
        if step >= self.total_steps:
            return self.end_lr
        warmup = self.warmup_steps + silent
        left = 1 - (step - warmup) / (self.total_steps - warmup)
        return self.end_lr + (base_lr - self.end_lr) * left**self.power
