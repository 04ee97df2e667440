"""Where a run writes itself down, what it begins with, and how much disk that takes."""

import logging
import math
import os
import shutil
import typing as tp
from pathlib import Path

import torch
from omegaconf import DictConfig

from ..checkpoints import checkpoint as files
from ..checkpoints.configs import package_config
from ..checkpoints.weights import select_state
from ..errors import UserError
from ..utils.files import atomic_path, free_bytes
from ..utils.hub import is_hub_id

logger = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints in a run's folder; they appear whole or not at all.

    `checkpoint.th` is the run as it stands, also inside an epoch; `checkpoint_N.th` the run after epoch N.

    Args:
        cfg: the `checkpoint` node.
    """

    def __init__(self, folder: Path, cfg: DictConfig) -> None:
        self.folder = folder
        self.cfg = cfg
        self.last = folder / files.checkpoint_name()

    def write(self, state: tp.Callable[[], dict], epoch: int | None = None) -> None:
        """Write checkpoint.th and, after an epoch that `checkpoint.save_every` names, its numbered copy.

        Args:
            state: gives what to write.
            epoch: the one that has just ended; None inside an epoch, where checkpoint.th is written also without
                `checkpoint.save_last`.
        """
        keep = epoch is not None and self._is_kept(epoch)
        if epoch is None or self.cfg.save_last:
            files.save_checkpoint(state(), self.last)
        elif keep:
            files.save_checkpoint(state(), self._numbered(epoch))
            # One that was written inside an earlier epoch; the run would go on from it.
            self.last.unlink(missing_ok=True)
        if keep and epoch is not None:
            self._keep(epoch)

    def finish(self, epoch: int) -> None:
        """Give the epoch that checkpoint.th ends with its numbered one, where the process was killed in between."""
        if self._is_kept(epoch):
            self._keep(epoch, anew=not self._numbered(epoch).exists())

    def load(self) -> dict[str, tp.Any] | None:
        """What was last written, or None if nothing was.

        Raises:
            UserError: checkpoint.th is damaged, or gone while there are numbered ones.
        """
        if self.last.is_file():
            return files.load_checkpoint(self.last)
        numbered = files.numbered_checkpoints(self.folder)
        if not numbered:
            return None
        if not self.cfg.save_last:
            return files.load_checkpoint(numbered[-1][1])
        raise UserError(
            f"checkpoint.th is missing in {self.folder}, though the run has begun; go back to the last numbered one: "
            f"cp {numbered[-1][1]} {self.last}"
        )

    def _numbered(self, epoch: int) -> Path:
        return self.folder / files.checkpoint_name(epoch)

    def _is_kept(self, epoch: int) -> bool:
        return bool(self.cfg.save_every) and epoch > 0 and epoch % self.cfg.save_every == 0

    def _keep(self, epoch: int, anew: bool = True) -> None:
        """Have the numbered checkpoint of an epoch that has ended, and no more of them than were asked for."""
        if self.cfg.save_last and anew:
            with atomic_path(self._numbered(epoch)) as temporary:
                temporary.unlink()
                try:
                    os.link(self.last, temporary)
                except OSError:  # a disk without second names
                    shutil.copyfile(self.last, temporary)
        files.flush_stale_checkpoints(self.last, self.cfg.keep_last)


def weights_to_begin_with(
    source: str, load_model: tp.Callable[[str], dict], check: tp.Callable[[str, DictConfig], None]
) -> dict[str, tp.Any]:
    """Weights of another run (the averaged ones where there are any) or of a model.

    Args:
        source: what `continue_from` says.
        load_model: gives the weights of a model by its name or path.
        check: looks at the config of a run; raises UserError where its weights fit and yet mean something else.

    Raises:
        UserError: there are none.
    """
    path = files.resolve_checkpoint_path(source)
    is_model = path is not None and path.suffix in (".bin", ".safetensors")  # written out, of any layout
    is_elsewhere = is_hub_id(source) and not source.endswith(".th")
    is_model |= path is None and (Path(source).expanduser().is_dir() or is_elsewhere)
    if is_model or source.startswith("//pretrained/"):
        return load_model(source.removeprefix("//pretrained/"))
    if path is None:
        raise UserError(
            f"continue_from={source} leads to no checkpoint; give a run's folder, //sig/SIGNATURE, a .th file, "
            "a model's folder or //pretrained/NAME"
        )
    state = files.load_checkpoint(path)
    if not isinstance(state, dict) or "model" not in state:
        raise UserError(f"{path} is not a training checkpoint of this project; give a checkpoint.th")
    check(source, package_config(state, path))
    return select_state(state, None, path)[1]


def forecast_disk(
    folder: Path, state: dict[str, tp.Any], trained: tp.Iterable[torch.Tensor], cfg: DictConfig, sounds: int
) -> None:
    """Say how much disk a run will take, and stop if not even two checkpoints fit.

    Args:
        folder: of the run.
        state: what its checkpoints hold now; before the first step the optimizer's averages are missing.
        trained: parameters that have some.
        cfg: the whole configuration.
        sounds: how many sounds the generate stage writes.

    Raises:
        UserError: there is clearly not enough.
    """
    one = _tensor_bytes(state)
    if not _tensor_bytes(state["optimizer"]["state"]):
        one += 2 * sum(parameter.nbytes for parameter in trained)
    numbered = cfg.optim.epochs // cfg.checkpoint.save_every if cfg.checkpoint.save_every else 0
    numbered = numbered if cfg.checkpoint.keep_last is None else min(numbered, cfg.checkpoint.keep_last)
    # One is being written while the last one is still there; a numbered one shares its bytes with the last.
    need = one * (numbered + 2)
    if cfg.generate.every:
        seconds = cfg.dataset.generate.get("segment_duration") or cfg.dataset.segment_duration or 10
        rounds = math.ceil(cfg.optim.epochs / cfg.generate.every)
        need += int(rounds * sounds * 2 * seconds * cfg.sample_rate * 2 * cfg.channels)  # 16-bit, prompted and free
    there = sum(path.stat().st_size for path in folder.glob("checkpoint*.th"))
    free = free_bytes(folder)
    logger.info("This run will take about %s in %s (%s free)", _size(need), folder, _size(free))
    if free + there < 2 * one:
        raise UserError(
            f"a checkpoint takes {_size(one)} and must fit twice, but only {_size(free)} are free in "
            f"{folder}; free some space, or keep runs elsewhere with AUDIOCRAFT_DORA_DIR=FOLDER"
        )
    if free + there < need:
        logger.warning(
            "That is more than is free: lower checkpoint.keep_last, or keep runs elsewhere with "
            "AUDIOCRAFT_DORA_DIR=FOLDER"
        )


def _tensor_bytes(state: tp.Any) -> int:
    """Bytes of all tensors in nested containers."""
    leaves = torch.utils._pytree.tree_leaves(state)
    return sum(leaf.nbytes for leaf in leaves if isinstance(leaf, torch.Tensor))


def _size(count: float) -> str:
    """Bytes for people."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
