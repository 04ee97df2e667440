"""Rotary position embedding (RoFormer, arXiv 2104.09864)."""

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..utils.left_out import missing


class RotaryEmbedding(nn.Module):
    """Rotates adjacent pairs of channels by an angle that grows with the position.

    Args:
        dim: channels of one attention head, even.
        max_period: pair i turns by max_period^(-2i / dim) radians per step.
        xpos: not served, only False.
        scale: 1 rotates fully, 0 not at all; between, the rotation is blended with the identity.
        device: where the frequencies are; None is torch's default.
        dtype: what is rotated in, float32 or float64, whatever the type of queries and keys.

    Raises:
        UserError: an odd `dim`, or `xpos`.
    """

    frequencies: Tensor

    def __init__(
        self,
        dim: int,
        max_period: float = 10000.0,
        xpos: bool = False,
        scale: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if xpos:
            raise UserError("xpos is not served; use positional_embedding=rope without it")
        if dim % 2:
            raise UserError(f"rotary positions need an even head width, got {dim}; change dim or num_heads")
        self.scale = scale
        exponents = torch.arange(0, dim, 2, dtype=dtype, device=device) / dim
        # Part of the state dict because the peer's checkpoints hold it.
        self.register_buffer("frequencies", max_period**-exponents)

    def get_rotation(self, start: int, end: int) -> Tensor:
        """Cosine and sine, [2, S, dim / 2], of positions start .. end - 1."""
        return self._rotation(torch.arange(start, end, device=self.frequencies.device))

    def _rotation(self, positions: Tensor) -> Tensor:
        frequencies = self._computed(self.frequencies)
        angles = torch.outer(positions.to(frequencies), frequencies)
        rotation = torch.stack([angles.cos(), angles.sin()])
        if self.scale != 1.0:
            rotation = rotation * self.scale
            rotation[0] += 1.0 - self.scale
        return rotation

    def _computed(self, x: Tensor) -> Tensor:
        """x in what is rotated in: at least float32, also where a model as a whole was converted to less."""
        return x.to(torch.promote_types(self.frequencies.dtype, torch.float32))

    def rotate(self, x: Tensor, start: int | Tensor = 0, time_dim: int = 1) -> Tensor:
        """Rotate x [..., dim], whose steps along `time_dim` (not the last) are positions start, start + 1, ...; `start`
        may be a tensor [1] on the device."""
        steps = x.shape[time_dim]
        positions = torch.arange(steps, device=x.device) + start
        shape = [1] * x.dim()
        shape[time_dim], shape[-1] = steps, x.shape[-1] // 2
        cos, sin = (r.view(shape) for r in self._rotation(positions))
        even, odd = self._computed(x).unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2).to(x.dtype)

    def rotate_qk(
        self, query: Tensor, key: Tensor, start: int | Tensor = 0, time_dim: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Rotate queries and keys of the same positions."""
        return self.rotate(query, start, time_dim), self.rotate(key, start, time_dim)


__getattr__ = missing(__name__)
