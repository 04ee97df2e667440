"""Whether what is asked for fits into memory, found out before it is begun."""

import os

import torch

from ..errors import UserError

# For activations, sampling and the codec's blocks, whatever the batch.
_MARGIN = 2**29


def check_room(device: torch.device, bytes_per_clip: int, batch: int) -> None:
    """See whether the caches of `batch` clips fit into what is free on a CUDA device.

    Raises:
        UserError: they do not; it says how many would.
    """
    if device.type != "cuda":
        return
    free = torch.cuda.mem_get_info(device)[0]
    # What torch holds and does not use at the moment is free too.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    fit = max(0, (free - _MARGIN) // max(1, bytes_per_clip))
    if batch > fit:
        way_out = f"the largest batch that fits is {fit}" if fit else "ask for a shorter duration, or use device=cpu"
        raise UserError(
            f"{batch} clips at once need {batch * bytes_per_clip / 2**30:.1f} GiB beside the model and {device} has "
            f"{max(0, free) / 2**30:.1f} GiB free; {way_out}"
        )


def check_result(num_bytes: int) -> None:
    """See whether sound of this size can be held in memory as a whole, with room to write it.

    Raises:
        UserError: it cannot.
    """
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not told on this system
        return
    if 2 * num_bytes > memory:
        raise UserError(
            f"the sound alone would take {num_bytes / 2**30:.0f} GiB of {memory / 2**30:.0f} GiB of memory; ask for "
            "less, or stream it: python -m audiocraft stream MODEL"
        )
