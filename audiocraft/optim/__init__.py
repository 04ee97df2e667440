"""Learning-rate schedules and the moving average of weights."""

from ..utils.left_out import missing
from .cosine_lr_scheduler import CosineLRScheduler
from .ema import ModuleDictEMA
from .inverse_sqrt_lr_scheduler import InverseSquareRootLRScheduler
from .linear_warmup_lr_scheduler import LinearWarmupLRScheduler
from .polynomial_decay_lr_scheduler import PolynomialDecayLRScheduler

__all__ = [
    "CosineLRScheduler",
    "InverseSquareRootLRScheduler",
    "LinearWarmupLRScheduler",
    "ModuleDictEMA",
    "PolynomialDecayLRScheduler",
]
__getattr__ = missing(__name__)
