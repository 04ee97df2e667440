"""The weights of the epoch that validated best."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor


class StateDictSource(Protocol):
    """Anything with a state to copy, mostly a module."""

    def state_dict(self) -> Any:
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

    def _copy(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
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

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take over kept states."""
        for name, value in state.items():
            self.states[name] = self._copy(value)
