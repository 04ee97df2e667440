"""Learning-rate schedules, the moving average of weights, and an optimizer that PyTorch has not."""

from ..utils.left_out import missing
from .cosine_lr_scheduler import CosineLRScheduler
from .ema import ModuleDictEMA
from .inverse_sqrt_lr_scheduler import InverseSquareRootLRScheduler
from .linear_warmup_lr_scheduler import LinearWarmupLRScheduler
from .muon import Muon
from .polynomial_decay_lr_scheduler import PolynomialDecayLRScheduler

__all__ = [
    "CosineLRScheduler",
    "InverseSquareRootLRScheduler",
    "LinearWarmupLRScheduler",
    "ModuleDictEMA",
    "Muon",
    "PolynomialDecayLRScheduler",
]
__getattr__ = missing(__name__)
