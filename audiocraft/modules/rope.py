"""Rotary position embedding (RoFormer, arXiv 2104.09864)."""

import torch
from torch import Tensor, nn

from ..utils.left_out import missing


class RotaryEmbedding(nn.Module):
    """Rotates adjacent pairs of channels by an angle that grows with the position.

    Args:
        dim: channels of one attention head, even.
        max_period: pair i turns by max_period^(-2i / dim) radians per step.
        scale: 1 rotates fully, 0 not at all; between, the rotation is blended with the identity.
    """

    frequencies: Tensor

    def __init__(self, dim: int, max_period: float = 10000.0, scale: float = 1.0) -> None:
        super().__init__()
        assert dim % 2 == 0, f"rotary positions need an even head width, got {dim}"
        self.scale = scale
        # Part of the state dict because the peer's checkpoints hold it.
        self.register_buffer("frequencies", max_period ** -(torch.arange(0, dim, 2, dtype=torch.float32) / dim))

    def get_rotation(self, start: int, end: int) -> Tensor:
        """Cosine and sine, float32 [2, S, dim / 2], of positions start .. end - 1."""
        return self._rotation(torch.arange(start, end, device=self.frequencies.device))

    def _rotation(self, positions: Tensor) -> Tensor:
        angles = torch.outer(positions.float(), self.frequencies.float())
        rotation = torch.stack([angles.cos(), angles.sin()])
        if self.scale != 1.0:
            rotation = rotation * self.scale
            rotation[0] += 1.0 - self.scale
        return rotation

    def rotate(self, x: Tensor, start: int | Tensor = 0, time_dim: int = 1) -> Tensor:
        """Rotate x [..., dim], whose steps along `time_dim` (not the last) are positions start, start + 1, ...; `start`
        may be a tensor [1] on the device."""
        steps = x.shape[time_dim]
        positions = torch.arange(steps, device=x.device) + start
        shape = [1] * x.dim()
        shape[time_dim], shape[-1] = steps, x.shape[-1] // 2
        cos, sin = (r.view(shape) for r in self._rotation(positions))
        even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2).to(x.dtype)

    def rotate_qk(
        self, query: Tensor, key: Tensor, start: int | Tensor = 0, time_dim: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Rotate queries and keys of the same positions."""
        return self.rotate(query, start, time_dim), self.rotate(key, start, time_dim)


__getattr__ = missing(__name__)
