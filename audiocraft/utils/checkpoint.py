"""The peer's name for checkpoint files; the work is done in `audiocraft.checkpoints.checkpoint`."""

from ..checkpoints.checkpoint import (
    checkpoint_name,
    flush_stale_checkpoints,
    load_checkpoint,
    resolve_checkpoint_path,
    save_checkpoint,
)
from .left_out import missing

__all__ = [
    "checkpoint_name",
    "flush_stale_checkpoints",
    "load_checkpoint",
    "resolve_checkpoint_path",
    "save_checkpoint",
]
__getattr__ = missing(__name__)
