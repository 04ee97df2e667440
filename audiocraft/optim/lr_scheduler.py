"""What the schedules share: a rate as a function of the step, and a state that holds only the position."""

import typing as tp

from torch.optim.lr_scheduler import LRScheduler


class StepwiseLRScheduler(LRScheduler):
    """A schedule stepped once per update whose checkpoint holds where it is, not what it is.

    The shape (warmup, total steps, ...) comes from the configuration alone, so a run that is resumed with more epochs
    follows the longer schedule from the step it had reached.
    """

    def rate(self, base_lr: float) -> float:
        """Learning rate at the present step, for a parameter group whose configured rate is `base_lr`."""
        raise NotImplementedError

    def get_lr(self) -> list[tp.Any]:
        """Learning rate of each parameter group at the present step."""
        return [self.rate(float(base_lr)) for base_lr in self.base_lrs]

    def state_dict(self) -> dict[str, int]:
        """The position: `last_epoch` counts calls of `step()`, `step_count` is one ahead."""
        return {"last_epoch": self.last_epoch, "step_count": self._step_count}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go to the position of `state_dict()` and set the optimizer's rates to those of this schedule there."""
        self.last_epoch = int(state_dict["last_epoch"])
        self._step_count = int(state_dict["step_count"])
        self._last_lr = self.get_lr()
        for group, lr in zip(self.optimizer.param_groups, self._last_lr):
            group["lr"] = lr
