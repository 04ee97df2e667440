"""Keys and values of the steps a transformer has seen: one preallocated object, passed along, never hidden."""

from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from torch import Tensor

from ..errors import UserError
from ..utils import left_out


@dataclass
class KVCache:
    """Keys and values by layer and position, made for a batch, a device and a dtype, written in place.

    A CUDA graph plays back the same kernels on the same addresses, so where one is recorded nothing may hang on
    `length`: with a `span`, single steps are written to the position that the tensor `at` holds and look at the first
    `span` positions under a mask.

    Attributes:
        keys, values: [layers, B, heads, steps, head width]; heads are those of the keys.
        at: `length` on the device, int64 [1].
        length: steps written so far; the next ones go to positions length, length + 1, ...
        cross: per layer the keys and values of cross-attention, computed at the first step and kept.
        span: see above; None looks at exactly what is written.
        mask: with a span, of the step in progress, see `write`.
        embeddings: with a span, what the transformer adds to its input, by position [steps, D]; made by its `place`,
            and shared by copies, as it is never written to.
    """

    keys: Tensor
    values: Tensor
    at: Tensor
    length: int = 0
    cross: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    span: int | None = None
    mask: Tensor | None = None
    embeddings: Tensor | None = None

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
        keys, values = (torch.zeros(shape, device=device, dtype=dtype) for _ in range(2))
        return cls(keys, values, torch.zeros(1, dtype=torch.long, device=device))

    @property
    def capacity(self) -> int:
        """Steps there is room for."""
        return self.keys.shape[3]

    @property
    def bytes(self) -> int:
        """Memory of keys and values."""
        return 2 * self.keys.nbytes

    @property
    def start(self) -> int | Tensor:
        """Position of the next step: a number, or with a `span` the tensor."""
        return self.length if self.span is None else self.at

    def write(
        self, layer: int, key: Tensor, value: Tensor, past_context: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Write the keys and values [B, heads, S, head width] of the next S steps of one layer.

        The position moves only with `advance`, after all layers have written.

        Returns:
            Views of all keys and values up to and with the new ones; with `past_context`, only those that
            the first of the new steps may still look at, and later ones. With a `span`, views of that many and a mask
            [span], True where there is something to look at; else None.
        """
        if self.span is not None:
            assert key.shape[2] == 1, "only single steps have a span"
            self.keys[layer].index_copy_(2, self.at, key.to(self.keys.dtype))
            self.values[layer].index_copy_(2, self.at, value.to(self.values.dtype))
            if layer == 0:  # the same for all
                positions = torch.arange(self.span, device=self.at.device)
                self.mask = positions <= self.at
                if past_context is not None:
                    self.mask &= positions >= self.at - past_context
            return self.keys[layer, :, :, : self.span], self.values[layer, :, :, : self.span], self.mask
        start, end = self.length, self.length + key.shape[2]
        assert end <= self.capacity, f"cache of {self.capacity} steps is full"
        self.keys[layer, :, :, start:end] = key
        self.values[layer, :, :, start:end] = value
        first = 0 if past_context is None else max(0, start - past_context)
        return self.keys[layer, :, :, first:end], self.values[layer, :, :, first:end], None

    def advance(self, steps: int) -> None:
        """Count `steps` steps as written by all layers. With a `span` only on the device: graphs play back no Python,
        so there whoever drives them moves `length`."""
        self.at.add_(steps)
        if self.span is None:
            self.length += steps

    def take(self, clips: Tensor) -> "KVCache":
        """A copy of the sequences with these numbers, int64 [N]; any may come more than once."""
        cross = {layer: (k[clips], v[clips]) for layer, (k, v) in self.cross.items()}
        keys, values = self.keys[:, clips], self.values[:, clips]
        return KVCache(keys, values, self.at.clone(), self.length, cross, embeddings=self.embeddings)

    def clone(self) -> "KVCache":
        """A copy that shares no memory; its `span` is not set."""
        cross = {layer: (k.clone(), v.clone()) for layer, (k, v) in self.cross.items()}
        keys, values = self.keys.clone(), self.values.clone()
        return KVCache(keys, values, self.at.clone(), self.length, cross, embeddings=self.embeddings)

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
        cache.at.fill_(length)
        cache.cross = {layer: (k.to(device), v.to(device)) for layer, (k, v) in saved["cross"].items()}
        return cache


class NoHiddenState:
    """The peer's streaming modules keep their state in themselves; whoever asks for that here is told of the cache."""

    def streaming(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises UserError, as do the others."""
        name = "audiocraft.modules.streaming"
        raise UserError(left_out.message(name, left_out.MODULES[name]))

    reset_streaming = get_streaming_state = set_streaming_state = flush = streaming
