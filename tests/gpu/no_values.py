"""Tensors that have a device and no values: mixing devices raises, and so does whatever would wait for a GPU."""

import typing as tp

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GPU = torch.device("lazy:0")
"""Of the kinds of devices that torch's build for CPUs names, the one whose tensors can be differentiated without
values."""

_READ = {"_local_scalar_dense", "item", "nonzero", "equal", "is_nonzero", "masked_select", "_unique2", "unique_dim"}
_READ |= {"unique_consecutive", "bincount", "repeat_interleave.Tensor"}


class Watch(TorchDispatchMode):
    """In here nothing waits for a GPU: no value or size is read from it, and nothing is copied from or to it, unless
    the copy goes there and nobody waits for it (`uploads` counts these).

    `made` lists every kernel with the shapes and types of what it made: where two steps differ in it, one graph cannot
    play both.
    """

    def __init__(self, waiting_allowed: bool = False) -> None:
        super().__init__()
        self.waiting_allowed = waiting_allowed
        self.made: list[tuple[tp.Any, ...]] = []
        self.uploads = 0

    def __torch_dispatch__(self, func: tp.Any, types: tp.Any, args: tp.Any = (), kwargs: tp.Any = None) -> tp.Any:
        kwargs = kwargs or {}
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if any(x.device == GPU for x in given):
            self._check_read(func, args)
        out = func(*args, **kwargs)
        made = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        if func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            self._check_copy(given[-1].device, made[0].device, kwargs.get("non_blocking", False) or args[2:] == (True,))
        if any(x.device == GPU for x in made):
            self.made.append((func, *((tuple(x.shape), x.dtype) for x in made)))
        return out

    def _check_read(self, func: tp.Any, args: tp.Any) -> None:
        if self.waiting_allowed:
            return
        name = str(func).removeprefix("aten.")
        assert name not in _READ and name.partition(".")[0] not in _READ, f"waits for the GPU: {func}"
        if name.startswith(("index.", "index_put")):
            for index in args[1]:
                if index is not None:
                    assert index.dtype not in (torch.bool, torch.uint8), f"waits for the GPU to count: {func}"
                    assert index.device == args[0].device, f"copies what it looks up: {func}"

    def _check_copy(self, source: torch.device, target: torch.device, non_blocking: bool) -> None:
        if source.type == target.type or self.waiting_allowed:
            return
        assert target == GPU, f"copies from the GPU to {target}"
        assert non_blocking, f"copies from {source} and waits"
        self.uploads += 1


def move(module: nn.Module, optimizers: tp.Iterable[torch.optim.Optimizer] = ()) -> nn.Module:
    """`module.to(GPU)`, which cannot swap tensors without values; optimizers that have made no step yet follow."""
    moved: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                there = nn.Parameter(parameter.detach().to(GPU), parameter.requires_grad)
                part._parameters[name] = moved.setdefault(id(parameter), there)
        part._buffers.update({name: x.to(GPU) for name, x in part._buffers.items() if x is not None})
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["params"] = [moved.get(id(parameter), parameter) for parameter in group["params"]]
    return module


class Memory(TorchDispatchMode):
    """How much of the GPU's memory tensors take that are made in here, in bytes: now, and at the `peak`. Kernels' own
    working space is not in it."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: tp.Any, types: tp.Any, args: tp.Any = (), kwargs: tp.Any = None) -> tp.Any:
        out = func(*args, **(kwargs or {}))
        given = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        for x in tree_leaves(out):
            if isinstance(x, Tensor) and x.device == GPU and x.untyped_storage()._cdata not in given:
                storage = x.untyped_storage()
                self.held[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.peak = max(self.peak, self.now)
        return out

    @property
    def now(self) -> int:
        """Bytes held."""
        self.held = {key: (ref, size) for key, (ref, size) in self.held.items() if not ref.expired()}
        return sum(size for _, size in self.held.values())
