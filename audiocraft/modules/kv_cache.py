"""Keys and values of the steps a transformer has seen: one preallocated object, passed along, never hidden."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class KVCache:
    """Keys and values by layer and position, made for a batch, a device and a dtype, written in place.

    Attributes:
        keys, values: [layers, B, heads, steps, head width]; heads are those of the keys.
        length: steps written so far; the next ones go to positions length, length + 1, ...
        cross: per layer the keys and values of cross-attention, computed at the first step and kept.
    """

    keys: Tensor
    values: Tensor
    length: int = 0
    cross: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @classmethod
    def empty(
        cls,
        layers: int,
        batch: int,
        heads: int,
        steps: int,
        head_dim: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> "KVCache":
        """Room for `steps` steps of `batch` sequences."""
        shape = (layers, batch, heads, steps, head_dim)
        return cls(torch.zeros(shape, device=device, dtype=dtype), torch.zeros(shape, device=device, dtype=dtype))

    @property
    def capacity(self) -> int:
        """Steps there is room for."""
        return self.keys.shape[3]

    def write(self, layer: int, key: Tensor, value: Tensor, past_context: int | None = None) -> tuple[Tensor, Tensor]:
        """Write the keys and values [B, heads, S, head width] of the next S steps of one layer.

        `length` moves only with `advance`, after all layers have written.

        Returns:
            Views of all keys and values up to and with the new ones; with `past_context`, only those that
            the first of the new steps may still look at, and later ones.
        """
        start, end = self.length, self.length + key.shape[2]
        assert end <= self.capacity, f"cache of {self.capacity} steps is full"
        self.keys[layer, :, :, start:end] = key
        self.values[layer, :, :, start:end] = value
        first = 0 if past_context is None else max(0, start - past_context)
        return self.keys[layer, :, :, first:end], self.values[layer, :, :, first:end]

    def advance(self, steps: int) -> None:
        """Count `steps` steps as written by all layers."""
        self.length += steps

    def clone(self) -> "KVCache":
        """A copy that shares no memory."""
        cross = {layer: (k.clone(), v.clone()) for layer, (k, v) in self.cross.items()}
        return KVCache(self.keys.clone(), self.values.clone(), self.length, cross)

    def to_dict(self) -> dict[str, Any]:
        """Tensors and numbers only, for torch.save; steps not yet written are left out."""
        used = (slice(None),) * 3 + (slice(0, self.length),)
        return {
            "keys": self.keys[used].clone(),
            "values": self.values[used].clone(),
            "capacity": self.capacity,
            "cross": {layer: list(kv) for layer, kv in self.cross.items()},
        }

    @classmethod
    def from_dict(cls, saved: dict[str, Any], device: torch.device | str = "cpu") -> "KVCache":
        """The inverse of `to_dict`, on `device`."""
        layers, batch, heads, length, head_dim = saved["keys"].shape
        cache = cls.empty(layers, batch, heads, saved["capacity"], head_dim, device, saved["keys"].dtype)
        cache.keys[..., :length, :] = saved["keys"].to(device)
        cache.values[..., :length, :] = saved["values"].to(device)
        cache.length = length
        cache.cross = {layer: (k.to(device), v.to(device)) for layer, (k, v) in saved["cross"].items()}
        return cache
