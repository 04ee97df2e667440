"""Training: stages, checkpoints, and what each kind of model does in a step. Names are imported when first used."""

import typing as tp

from ..utils.left_out import missing

if tp.TYPE_CHECKING:
    from .base import StandardSolver
    from .builders import get_solver
    from .compression import CompressionSolver
    from .musicgen import MusicGenSolver

_FACES = {
    "CompressionSolver": "compression",
    "MusicGenSolver": "musicgen",
    "StandardSolver": "base",
    "get_solver": "builders",
}
__all__ = ["CompressionSolver", "MusicGenSolver", "StandardSolver", "get_solver"]
__getattr__ = missing(__name__, _FACES)
