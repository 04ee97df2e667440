"""Linear warmup to a constant rate."""

from torch.optim import Optimizer

from .lr_scheduler import StepwiseLRScheduler


class LinearWarmupLRScheduler(StepwiseLRScheduler):
    """From `warmup_init_lr` (null: 0) to `lr` over `warmup_steps`, constant afterwards."""

    def __init__(self, optimizer: Optimizer, warmup_steps: int, warmup_init_lr: float | None = 0) -> None:
        self.warmup_steps = warmup_steps
        self.warmup_init_lr = warmup_init_lr or 0.0
        super().__init__(optimizer)

    def rate(self, base_lr: float) -> float:
        """See the class."""
        if self.last_epoch >= self.warmup_steps:
            return base_lr
        slope = (base_lr - self.warmup_init_lr) / self.warmup_steps
        return self.warmup_init_lr + slope * self.last_epoch
