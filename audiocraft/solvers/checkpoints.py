"""Where a run writes itself down, how it goes on from there, and how much disk that takes."""

import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from flashy import distrib
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from .. import __version__
from ..checkpoints import checkpoint as files
from ..checkpoints.configs import package_config
from ..checkpoints.weights import select_state
from ..errors import UserError
from ..utils.files import atomic_path, free_bytes
from ..utils.hub import is_hub_id
from ..utils.rng import rng_state, seed_everything, set_rng_state
from .progress import Averager

if TYPE_CHECKING:
    import flashy

    _Base = flashy.BaseSolver
else:
    _Base = object


# What stumbles over a state of another run, or over one that is damaged in a way that no checksum shows.
_MISFITS = (RuntimeError, LookupError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)


def _tensor_bytes(state: Any) -> int:
    """Bytes of all tensors in nested containers."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, dict):
        return sum(_tensor_bytes(value) for value in state.values())
    if isinstance(state, (list, tuple)):
        return sum(_tensor_bytes(value) for value in state)
    return 0


def _size(count: float) -> str:
    """Bytes for people."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _first_difference(error: RuntimeError) -> str:
    """What torch first complains of where weights do not fit a model."""
    lines = str(error).splitlines()
    return shorten(lines[min(1, len(lines) - 1)].strip(), 150, placeholder=" …")


class CheckpointMixin(_Base):
    """Checkpoints of a solver.

    `checkpoint.th` is the run as it stands, also inside an epoch; `checkpoint_N.th` the run after epoch N. Files hold
    tensors, numbers, strings, lists and dicts only, and appear whole or not at all.
    """

    cfg: DictConfig
    # Set by the solver this is mixed into.
    model: Any
    optimizer: Any
    ema: Any
    best_state: Any
    scaler: Any
    _steps_done: int
    _train_average: Averager
    _last_save: float
    _check_losses: Callable[[], None]
    _check_weights: Callable[[], None]

    def checkpoint_path_with_name(self, name: str) -> Path:
        """`checkpoint_NAME.th` in the run's folder."""
        return Path(self.folder) / files.checkpoint_name(name)

    def epoch_checkpoint_path(self, epoch: int) -> Path:
        """`checkpoint_EPOCH.th` in the run's folder."""
        return self.checkpoint_path_with_name(str(epoch))

    # State.

    def state_dict(self) -> dict[str, Any]:
        """Everything a run needs to go on."""
        state = super().state_dict()
        state["xp.cfg"] = OmegaConf.to_yaml(self.cfg)
        state["version"] = __version__
        state["epoch_state"] = {
            "epoch": self.epoch,
            "steps_done": self._steps_done,
            "average": self._train_average.state_dict(),
            "stages": self._pending_metrics,
        }
        state["scaler"] = None if self.scaler is None else self.scaler.state_dict()
        state["ema"] = None if self.ema is None else self.ema.state_dict()
        state["best_state"] = self.best_state.state_dict()
        state["rng"] = {"global": rng_state()}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave.

        Raises:
            UserError: the state is of another model, or none.
        """
        if not isinstance(state, dict) or not {"model", "optimizer", "history"} <= state.keys():
            raise UserError(
                f"the checkpoint in {self.folder} is none of a training run; put the right one back, or give "
                "label=NAME for a new run folder"
            )
        state = dict(state)
        special = {name: state.pop(name, None) for name in ("epoch_state", "scaler", "ema", "best_state", "rng")}
        for name in ("xp.cfg", "xp.sig", "version"):
            state.pop(name, None)
        try:
            if not all(isinstance(stages, dict) for epoch in state["history"] for stages in epoch.values()):
                raise ValueError("its history is none")
            super().load_state_dict({name: value for name, value in state.items() if value is not None})
            self._load_special(special, len(state["history"]))
        except _MISFITS as error:
            reason = (str(error).splitlines() or [type(error).__name__])[-1].strip()
            raise UserError(
                f"the checkpoint in {self.folder} does not fit this model ({reason}); give the settings it was trained "
                "with, or label=NAME for a new run folder"
            ) from error

    def _load_special(self, special: dict[str, Any], epochs: int) -> None:
        if self.ema is not None and special["ema"]:
            self.ema.load_state_dict(special["ema"])
        if special["best_state"]:
            self.best_state.load_state_dict(special["best_state"])
        if self.scaler is not None and special["scaler"]:
            self.scaler.load_state_dict(special["scaler"])
        if special["rng"]:
            set_rng_state(special["rng"]["global"])
            if distrib.rank():
                # The checkpoint has the state of the first process; the others draw numbers of their own.
                seed_everything(self.cfg.seed + distrib.rank() + 1000 * epochs)
        if special["epoch_state"]:
            inside = special["epoch_state"]
            self._steps_done = int(inside["steps_done"])
            self._train_average.load_state_dict(inside["average"])
            self._pending_metrics = dict(inside["stages"])

    # Writing.

    def commit(self, save_checkpoints: bool = True) -> None:
        """Close the epoch: its metrics join the history, checkpoints are written."""
        self.history.append(self._pending_metrics)
        self._start_epoch()
        self._steps_done = 0
        self._train_average = Averager()
        if save_checkpoints:
            self.save_checkpoints()
        if distrib.is_rank_zero():
            self.xp.link.update_history(self.history)

    def save_checkpoints(self, numbered: bool = True) -> None:
        """`write_checkpoint` in the first process, while the others wait.

        Raises:
            Diverged: the weights are not worth it.
        """
        self._check_weights()
        self._last_save = time.monotonic()
        if distrib.is_rank_zero():
            self.write_checkpoint(numbered)
        distrib.barrier()

    def write_checkpoint(self, numbered: bool = True) -> None:
        """Write checkpoint.th and, after an epoch that `checkpoint.save_every` names, its numbered copy.

        Args:
            numbered: False inside an epoch; checkpoint.th is then written also without `checkpoint.save_last`.
        """
        cfg = self.cfg.checkpoint
        epoch = self.epoch - 1
        keep = numbered and self._is_kept(epoch)
        if not (cfg.save_last or keep or not numbered):
            return
        target = self.checkpoint_path if cfg.save_last or not numbered else self.epoch_checkpoint_path(epoch)
        files.save_checkpoint(self.state_dict(), target)
        if keep and target != self.checkpoint_path:
            # One that was written inside an earlier epoch; the run would go on from it.
            self.checkpoint_path.unlink(missing_ok=True)
        if keep:
            self._keep_epoch(epoch)

    def _is_kept(self, epoch: int) -> bool:
        every = self.cfg.checkpoint.save_every
        return bool(every) and epoch > 0 and epoch % every == 0

    def _keep_epoch(self, epoch: int) -> None:
        """Have the numbered checkpoint of an epoch that has just ended, and no more of them than were asked for."""
        target = self.epoch_checkpoint_path(epoch)
        if self.cfg.checkpoint.save_last:
            with atomic_path(target) as temporary:
                temporary.unlink()
                try:
                    os.link(self.checkpoint_path, temporary)
                except OSError:  # a disk without second names
                    shutil.copyfile(self.checkpoint_path, temporary)
        files.flush_stale_checkpoints(self.checkpoint_path, self.cfg.checkpoint.keep_last)

    def _save_in_time(self) -> None:
        """Write checkpoint.th if `checkpoint.every_minutes` have passed; not where a stage runs on its own.

        Raises:
            Diverged: a loss since the last look was not a number.
        """
        minutes = self.cfg.checkpoint.every_minutes
        if not minutes or self.cfg.execute_only:
            return
        due = time.monotonic() - self._last_save >= 60 * minutes
        if distrib.is_distributed():
            # The first process says for all; asking at every step would cost more than it is worth.
            due = self._steps_done % 20 == 0 and distrib.broadcast_object(due)
        if due:
            self._check_losses()
            self.save_checkpoints(numbered=False)

    # Reading.

    def load_checkpoints(self) -> dict[str, Any] | None:
        """State of this run as last written, or None if it has not begun.

        Raises:
            UserError: checkpoint.th is gone or damaged while the run has begun.
        """
        last = self.checkpoint_path
        if last.is_file():
            return files.load_checkpoint(last)
        numbered = files.numbered_checkpoints(Path(self.folder))
        if not numbered:
            self._refuse_to_begin_anew()
            return None
        if not self.cfg.checkpoint.save_last:
            return files.load_checkpoint(numbered[-1][1])
        raise UserError(
            f"checkpoint.th is missing in {self.folder}, though the run has begun; go back to the last numbered one: "
            f"cp {numbered[-1][1]} {last}"
        )

    def _refuse_to_begin_anew(self) -> None:
        """A run with a history but without checkpoints has lost them; its history is not overwritten."""
        self.xp.link.load()
        if self.history and self.cfg.checkpoint.save_last:
            raise UserError(
                f"checkpoint.th is missing in {self.folder}, though {len(self.history)} epochs were trained; "
                "put it back, remove the folder to begin anew, or give label=NAME for another one"
            )
        self.history.clear()

    def restore(self) -> bool:
        """Go on from this run's checkpoint, else begin from `continue_from`; True if there was a checkpoint."""
        state = self.load_checkpoints()
        if state is None:
            if self.cfg.continue_from:
                self._continue_from(str(self.cfg.continue_from))
            return False
        self.load_state_dict(state)
        if distrib.is_rank_zero():
            self.xp.link.update_history(self.history)
            self._finish_commit()
        if self._steps_done:
            self.logger.info("Going on in epoch %d after %d steps", self.epoch, self._steps_done)
        else:
            self.logger.info("Going on after epoch %d", len(self.history))
        return True

    def _finish_commit(self) -> None:
        """Give the epoch that the checkpoint ends with its numbered one, where the process was killed in between."""
        epoch, inside = len(self.history), self._steps_done or self._pending_metrics
        if self._is_kept(epoch) and not inside and not self.cfg.execute_only:
            if not self.epoch_checkpoint_path(epoch).exists():
                self._keep_epoch(epoch)
            files.flush_stale_checkpoints(self.checkpoint_path, self.cfg.checkpoint.keep_last)

    def load_from_pretrained(self, name: str) -> dict[str, Any]:
        """State dict of the model called `//pretrained/NAME`."""
        raise UserError(f"continue_from=//pretrained/{name} is not possible for {self.cfg.solver}; give a path")

    def _continue_from(self, source: str) -> None:
        """Begin a new run from the weights of another (the averaged ones where there are any) or of a model."""
        path = files.resolve_checkpoint_path(source)
        is_model = path is not None and path.suffix in (".bin", ".safetensors")  # written out, of any layout
        is_elsewhere = is_hub_id(source) and not source.endswith(".th")
        is_model |= path is None and (Path(source).expanduser().is_dir() or is_elsewhere)
        if is_model or source.startswith("//pretrained/"):
            weights = self.load_from_pretrained(source.removeprefix("//pretrained/"))
        else:
            if path is None:
                raise UserError(
                    f"continue_from={source} leads to no checkpoint; give a run's folder, //sig/SIGNATURE, a .th file, "
                    "a model's folder or //pretrained/NAME"
                )
            state = files.load_checkpoint(path)
            if not isinstance(state, dict) or "model" not in state:
                raise UserError(f"{path} is not a training checkpoint of this project; give a checkpoint.th")
            self.check_origin(source, package_config(state, path))
            weights = select_state(state, None, path)[1]
        try:
            self.model.load_state_dict(weights)
        except RuntimeError as error:
            raise UserError(
                f"continue_from={source} is another model than this one ({_first_difference(error)}); "
                "give the same model settings, or begin anew (continue_from=null, codec train --from nothing)"
            ) from error
        if self.ema is not None:
            self.ema.reset()
        self.logger.info("Beginning with the weights of %s", source)

    def check_origin(self, source: str, cfg: DictConfig) -> None:
        """Refuse a run to continue from, of the config `cfg`, whose weights fit and yet mean something else."""

    # Disk.

    def forecast_disk(self) -> None:
        """Say how much disk the run will take, and stop if not even two checkpoints fit.

        Raises:
            UserError: there is clearly not enough.
        """
        if not distrib.is_rank_zero():
            return
        state = self.state_dict()
        one = _tensor_bytes(state)
        trained = sum(_tensor_bytes(p) for p in self.model.parameters() if p.requires_grad)
        if not _tensor_bytes(self.optimizer.state_dict()["state"]):
            one += 2 * trained
        cfg = self.cfg.checkpoint
        numbered = 0
        if cfg.save_every:
            numbered = self.cfg.optim.epochs // cfg.save_every
            numbered = numbered if cfg.keep_last is None else min(numbered, cfg.keep_last)
        # One is being written while the last one is still there; a numbered one shares its bytes with the last.
        need = one * (numbered + 2) + self._sample_bytes()
        folder = Path(self.folder)
        there = sum(path.stat().st_size for path in folder.glob("checkpoint*.th"))
        free = free_bytes(folder)
        self.logger.info("This run will take about %s in %s (%s free)", _size(need), folder, _size(free))
        advice = "lower checkpoint.keep_last, or keep runs elsewhere with AUDIOCRAFT_DORA_DIR=FOLDER"
        if free + there < 2 * one:
            raise UserError(
                f"a checkpoint takes {_size(one)} and must fit twice, but only {_size(free)} are free in "
                f"{folder}; free some space, or keep runs elsewhere with AUDIOCRAFT_DORA_DIR=FOLDER"
            )
        if free + there < need:
            self.logger.warning("That is more than is free: %s", advice)

    def _sample_bytes(self) -> int:
        """Bytes of the samples that the generate stage will write, as 16-bit sound."""
        cfg = self.cfg
        if not cfg.generate.every or "generate" not in self.dataloaders:  # type: ignore[attr-defined]
            return 0
        split = cfg.dataset.generate
        seconds = split.get("segment_duration") or cfg.dataset.segment_duration or 10
        rounds = math.ceil(cfg.optim.epochs / cfg.generate.every)
        number = len(self.dataloaders["generate"].dataset)  # type: ignore[attr-defined]
        return int(rounds * number * 2 * seconds * cfg.sample_rate * 2 * cfg.channels)
