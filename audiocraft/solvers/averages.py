"""Averaged weights and the best ones: kept beside those that are trained, and put in their place for a while."""

import logging
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig
from torch import Tensor, nn

from ..optim import ModuleDictEMA
from ..utils.best_state import BestStateDictManager
from .optimizers import get_ema

if TYPE_CHECKING:
    import flashy

    _Base = flashy.BaseSolver
else:
    _Base = object


class AveragesMixin(_Base):
    """The moving average and the best state of a solver's modules."""

    # Set by the solver this is mixed into.
    cfg: DictConfig
    logger: logging.Logger
    best_metric_name: Any

    def _start_averages(self) -> None:
        self.best_state = BestStateDictManager()
        self.ema: ModuleDictEMA | None = None
        self._ema_modules = nn.ModuleDict()

    def register_best_state(self, *args: str) -> None:
        """Keep the states of these attributes (modules) from the epoch that validates best."""
        for name in args:
            self.best_state.register(name, getattr(self, name))

    def register_ema(self, *args: str) -> None:
        """Average the weights of these attributes (modules)."""
        for name in args:
            self._ema_modules[name] = getattr(self, name)

    def initialize_ema(self) -> None:
        """Begin the moving average of the registered modules."""
        self.ema = get_ema(self._ema_modules, self.cfg.optim.ema)

    @contextmanager
    def _swapped(self, states: dict[str, dict[str, Tensor]]) -> Iterator[None]:
        """Put `states` in place of the weights of the attributes they name, inside the context."""
        kept: dict[str, dict[str, Tensor]] = {}
        for key, state in states.items():
            live = getattr(self, key).state_dict()
            kept[key] = {name: live[name].clone() for name in state}
            for name, value in state.items():
                live[name].copy_(value)
        try:
            yield
        finally:
            for key, state in kept.items():
                live = getattr(self, key).state_dict()
                for name, value in state.items():
                    live[name].copy_(value)

    def swap_ema_state(self) -> AbstractContextManager:
        """Context in which the modules have their averaged weights."""
        return self._swapped(self.ema.state) if self.ema is not None and self.ema.count else nullcontext()

    def swap_best_state(self) -> AbstractContextManager:
        """Context in which the modules have the weights that validated best."""
        return self._swapped(self.best_state.states)

    def update_best_state_from_stage(self, stage_name: str = "valid") -> None:
        """Keep the present weights as the best ones if this epoch's `stage_name` says so."""
        value = self._pending_metrics[stage_name].get(self.best_metric_name)
        if value is None:
            return
        former = [epoch[stage_name][self.best_metric_name] for epoch in self.history if stage_name in epoch]
        if value <= min(former, default=math.inf):
            self.logger.info("Best epoch so far: %s %.4f", self.best_metric_name, value)
            for name in self.best_state.states:
                self.best_state.update(name, getattr(self, name))
