"""Training: stages, checkpoints, and what each kind of model does in a step. Names are imported when first used."""

from ..utils.left_out import missing

_FACES = {
    "base": "StandardSolver",
    "builders": "get_solver",
    "compression": "CompressionSolver",
    "musicgen": "MusicGenSolver",
}
__getattr__ = missing(__name__, _FACES)
