"""Exponential moving average of weights."""

import typing as tp
from dataclasses import dataclass

import torch
from torch import Tensor, nn


def _tracked(module: nn.Module) -> tp.Iterator[tuple[str, Tensor]]:
    """Floating-point parameters and persistent buffers of `module`, live (no copies)."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            yield name, tensor


@dataclass(eq=False, repr=False)
class ModuleDictEMA:
    """Moving average of the floating-point parameters and persistent buffers of some modules.

    Args:
        module_dict: the modules, by name.
        decay: of the average, per step.
        unbias: weigh the steps so far as if they were all there are: the first step copies the values, and the start
            values never count. `count` is then the sum of the weights: `count = count * decay + 1`.
        device: where the average is kept.

    The average is `state[module][tensor]`.
    """

    module_dict: nn.ModuleDict
    decay: float = 0.999
    unbias: bool = True
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew from the present values."""
        self.count = 0.0
        self.state: dict[str, dict[str, Tensor]] = {
            key: {name: value.detach().to(self.device, copy=True) for name, value in _tracked(module)}
            for key, module in self.module_dict.items()
        }

    def move(self, device: torch.device | str) -> None:
        """Keep the average on another device from now on."""
        self.device = device
        for averages in self.state.values():
            averages.update({name: value.to(device) for name, value in averages.items()})

    @torch.no_grad()
    def step(self) -> None:
        """Take the present values into the average."""
        weight = 1 - self.decay
        if self.unbias:
            self.count = self.count * self.decay + 1
            weight = 1 / self.count
        for key, module in self.module_dict.items():
            averages = self.state[key]
            for name, value in _tracked(module):
                average = averages[name]
                average.lerp_(value.to(average), weight)

    def state_dict(self) -> dict[str, tp.Any]:
        """`state` and `count`."""
        return {"state": self.state, "count": self.count}

    def load_state_dict(self, state: dict[str, tp.Any]) -> None:
        """Take over what `state_dict` gave; names must match."""
        self.count = float(state["count"])
        for key, averages in self.state.items():
            given = state["state"][key]
            if given.keys() != averages.keys():
                raise KeyError(f"the averaged weights of '{key}' do not match the model")
            for name, value in given.items():
                averages[name].copy_(value)
