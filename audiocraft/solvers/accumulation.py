"""A batch that does not fit the memory goes through the model in parts, whose gradients add up."""

import gc
import logging
import typing as tp

import torch
from torch import Tensor

from ..errors import UserError

logger = logging.getLogger(__name__)


class Accumulation:
    """In how many parts batches go; twice as many from the moment that memory runs out, until segments go one by one.

    Args:
        parts: to begin with.
        last_resort: called once where even a single segment is too much; makes each need less, and says how, or gives
            None where nothing is left to try.
        fixed: running out of memory ends the run: another process would wait for this one's gradients.
    """

    def __init__(self, parts: int, last_resort: tp.Callable[[], str | None], fixed: bool = False) -> None:
        self.parts = parts
        self.last_resort = last_resort
        self.fixed = fixed

    def run(self, rows: int, step: tp.Callable[[slice], Tensor], undo: tp.Callable[[], None]) -> Tensor:
        """The sum of what `step` gives for each part of a batch.

        Args:
            rows: segments of the batch.
            step: takes the rows of a part; with its backward pass, while training.
            undo: takes back what the parts before left; the batch then begins again.

        Raises:
            UserError: not even one segment fits.
        """
        while True:
            size = -(-rows // self.parts)
            try:
                total = step(slice(0, size))
                for begin in range(size, rows, size):
                    total = total + step(slice(begin, begin + size))
                return total
            except torch.OutOfMemoryError as error:
                if self.fixed:
                    raise UserError(
                        too_much(f"{size} segments at once", f"optim.accumulate={2 * self.parts} takes half of them")
                    ) from error
            # Not in the handler: its traceback keeps the tensors of the step alive.
            undo()
            self._need_less(size)

    def _need_less(self, size: int) -> None:
        if size > 1:
            self.parts *= 2
            remedy = (
                f"batches go in {self.parts} parts from here on (optim.accumulate={self.parts}), with the same result"
            )
        else:
            found = self.last_resort()
            if found is None:
                raise UserError(too_much("a single segment"))
            remedy = found
        logger.warning("Memory ran out with %d segments at once; %s", size, remedy)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def too_much(what: str, *ways: str) -> str:
    """What is said where the memory of the device does not do for `what`."""
    ways = (*ways, "a shorter dataset.segment_duration", "a smaller model (python -m audiocraft fit)")
    return f"the device's memory is not enough for {what}: try {', or '.join(ways)}"
