"""Linear warmup, then decay with the inverse square root of the step (Vaswani et al., arXiv 1706.03762)."""

from torch.optim import Optimizer

from .lr_scheduler import StepwiseLRScheduler


class InverseSquareRootLRScheduler(StepwiseLRScheduler):
    """From `warmup_init_lr` (null: 0) to `lr` over `warmup_steps`, then `lr * sqrt(warmup_steps / step)`.

    Steps are counted from 1 here: the schedule runs one step ahead of the others, as in the peer.
    """

    def __init__(self, optimizer: Optimizer, warmup_steps: int, warmup_init_lr: float | None = 0) -> None:
        self.warmup_steps = warmup_steps
        self.warmup_init_lr = warmup_init_lr or 0.0
        super().__init__(optimizer)

    def rate(self, base_lr: float) -> float:
        """See the class."""
        step = self.last_epoch + 1
        if step < self.warmup_steps:
            return self.warmup_init_lr + step * (base_lr - self.warmup_init_lr) / self.warmup_steps
        return base_lr * self.warmup_steps**0.5 * step**-0.5
