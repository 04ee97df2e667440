"""From configuration to a solver; under the peer's names also to what solvers are made of."""

from omegaconf import DictConfig

from ..errors import UserError
from ..utils.left_out import missing
from .base import StandardSolver
from .data import DatasetType, get_audio_datasets
from .optimizers import (
    get_adversarial_losses,
    get_adversary,
    get_balancer,
    get_ema,
    get_loss,
    get_lr_scheduler,
    get_optim_parameter_groups,
    get_optimizer,
)

__all__ = [
    "DatasetType",
    "get_adversarial_losses",
    "get_adversary",
    "get_audio_datasets",
    "get_balancer",
    "get_ema",
    "get_loss",
    "get_lr_scheduler",
    "get_optim_parameter_groups",
    "get_optimizer",
    "get_solver",
]


def get_solver(cfg: DictConfig) -> StandardSolver:
    """The solver of `cfg.solver`: musicgen or compression.

    Raises:
        UserError: the solver is not known.
    """
    name = cfg.solver
    if name == "musicgen":
        from .musicgen import MusicGenSolver

        return MusicGenSolver(cfg)
    if name == "compression":
        if cfg.get("compression_model") == "spectral":
            from .spectral import SpectralSolver

            return SpectralSolver(cfg)
        from .compression import CompressionSolver

        return CompressionSolver(cfg)
    raise UserError(f"there is no solver '{name}'; use musicgen or compression")


__getattr__ = missing(__name__)
