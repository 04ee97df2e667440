"""The weights of the epoch that validated best."""

import typing as tp
from contextlib import contextmanager

import torch
from torch import Tensor


class StateDictSource(tp.Protocol):
    """Anything with a state to copy, mostly a module."""

    def state_dict(self) -> tp.Any:
        """The state."""


class BestStateDictManager:
    """Copies of the states of some modules, kept on `device`, replaced by `update`.

    Args:
        dtype: floating-point tensors are kept in it; None keeps each tensor's own.
    """

    def __init__(self, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> None:
        self.device = torch.device(device)
        self.dtype = dtype
        self.states: dict[str, dict[str, Tensor]] = {}

    def _copy(self, state: tp.Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: tensor.detach().to(
                device=self.device, dtype=self.dtype if tensor.is_floating_point() else None, copy=True
            )
            for name, tensor in state.items()
        }

    def register(self, name: str, source: StateDictSource) -> None:
        """Keep a state under `name`, starting with the present one."""
        if name in self.states:
            raise ValueError(f"a best state of '{name}' is kept already")
        self.update(name, source)

    def update(self, name: str, source: StateDictSource) -> None:
        """Replace the state under `name` by the present one of `source`."""
        self.states[name] = self._copy(source.state_dict())

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """The kept states, by name."""
        return self.states

    def load_state_dict(self, state: tp.Mapping[str, tp.Mapping[str, Tensor]]) -> None:
        """Take over kept states."""
        for name, value in state.items():
            self.states[name] = self._copy(value)


@contextmanager
def swapped(owner: object, states: tp.Mapping[str, tp.Mapping[str, Tensor]]) -> tp.Iterator[None]:
    """Inside the context, the modules that `states` names, attributes of `owner`, have these tensors as weights."""
    kept = []
    for key, state in states.items():
        live = getattr(owner, key).state_dict()
        for name, value in state.items():
            kept.append((live[name], live[name].clone()))
            live[name].copy_(value)
    try:
        yield
    finally:
        for tensor, value in kept:
            tensor.copy_(value)
