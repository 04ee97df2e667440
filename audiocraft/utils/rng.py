"""The state of all random number generators, as tensors and numbers."""

import math
import random
import typing as tp

import numpy as np
import torch

from ..errors import UserError


def as_seed(seed: tp.Any) -> int:
    """A seed as a plain integer: whole numbers of Python, numpy and torch, whole floats too.

    Raises:
        UserError: anything else.
    """
    value = seed
    if isinstance(seed, (torch.Tensor, np.ndarray, np.generic)) and math.prod(seed.shape) == 1:
        value = seed.item()
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, int):
        raise UserError(f"a seed is a whole number, not {' '.join(repr(seed).split())[:60]}; give one such as 7")
    return int(value)


def seed_everything(seed: int) -> None:
    """Seed torch (all devices), numpy and random."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def rng_state() -> dict[str, tp.Any]:
    """States of the global generators of torch (CPU and CUDA), numpy and random, fit for a checkpoint."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    assert isinstance(keys, np.ndarray)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [name, keys.tolist(), int(position), int(has_gauss), float(cached)],
        "python": [version, list(words), gauss],
    }


def set_rng_state(state: dict[str, tp.Any]) -> None:
    """Go back to what `rng_state` gave. CUDA generators are only set on a machine with as many GPUs."""
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([each.cpu() for each in state["cuda"]])
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
