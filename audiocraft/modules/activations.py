"""Activations of the feed-forward block, gated ones included (arXiv 2002.05202)."""

import typing as tp

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError


class CustomGLU(nn.Module):
    """Gated linear unit a * activation(b), where a and b are the halves of x along `dim`; the width is halved."""

    def __init__(self, activation: tp.Callable[[Tensor], Tensor], dim: int = -1) -> None:
        super().__init__()
        self.dim = dim
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """x [..., 2 N, ...] → [..., N, ...]."""
        a, b = torch.chunk(x, 2, dim=self.dim)
        return a * self.activation(b)


class SwiGLU(CustomGLU):
    """Gated by SiLU (arXiv 2002.05202)."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__(nn.SiLU(), dim)


class GeGLU(CustomGLU):
    """Gated by GELU."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__(nn.GELU(), dim)


class ReGLU(CustomGLU):
    """Gated by ReLU."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__(nn.ReLU(), dim)


_ACTIVATIONS: dict[str, tp.Callable[[], tp.Callable[[Tensor], Tensor]]] = {
    "relu": lambda: F.relu,
    "gelu": lambda: F.gelu,
    "silu": lambda: F.silu,
    "swiglu": SwiGLU,
    "geglu": GeGLU,
    "reglu": ReGLU,
}


def get_activation_fn(activation: str | tp.Callable[[Tensor], Tensor]) -> tp.Callable[[Tensor], Tensor]:
    """The activation called `activation`; a callable is given back as it is.

    Raises:
        UserError: no activation has that name.
    """
    if callable(activation):
        return activation
    if activation not in _ACTIVATIONS:
        raise UserError(f"unknown activation {activation}; use one of {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[activation]()
