"""What every training run does: stages and epochs, stopping and going on."""

import logging
import math
import time
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

import flashy
import torch
from flashy import distrib
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from ..errors import UserError
from ..utils.device import Autocast, resolve_device
from ..utils.rng import rng_state, seed_everything, set_rng_state
from .averages import AveragesMixin
from .checkpoints import CheckpointMixin
from .data import num_samples, split_batch_size
from .divergence import Diverged
from .interrupt import Interrupted, StopFlag
from .progress import Averager
from .steps import StepsMixin

STAGES = ("train", "valid", "evaluate", "generate")


class StandardSolver(StepsMixin, CheckpointMixin, AveragesMixin, ABC, flashy.BaseSolver):
    """A run: built from a configuration, resumed from its folder, trained by epochs.

    A subclass provides `build_model`, `build_dataloaders`, `run_step`, and `evaluate`, `generate` where it has them.

    In training, `run_step` computes a loss and calls `optimizer_step(loss)`, which does the backward pass, clipping,
    the update, the schedule and the moving average. In validation it only returns metrics.
    """

    model: nn.Module
    optimizer: Optimizer
    lr_scheduler: LRScheduler | None = None

    def __init__(self, cfg: DictConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.logger = logging.getLogger(f"audiocraft.{cfg.solver}")
        self.result_logger._logger = self.logger
        # Flashy's store of media is not used; it makes an empty folder in that of the run.
        self.result_logger._experiment_loggers.clear()
        with suppress(OSError):
            (Path(self.folder) / "outputs").rmdir()
        self.device = resolve_device(cfg.device)
        self._autocast = Autocast(cfg.autocast, cfg.autocast_dtype, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type) if self._autocast.needs_scaler else None
        if cfg.num_threads:
            torch.set_num_threads(cfg.num_threads)
        seed_everything(cfg.seed + distrib.rank())
        self.dataloaders: dict[str, DataLoader] = {}
        self._start_averages()
        self._training = False
        self._stop = StopFlag()
        self.stopped_by: int | None = None
        # Position inside the epoch: steps of the train stage done, and their averages.
        self._steps_done = 0
        self._train_average = Averager()
        self._last_save = time.monotonic()
        self.build_model()
        if distrib.is_distributed():
            distrib.broadcast_model(self.model)
        self.initialize_ema()
        self.build_dataloaders()
        self._start_loggers()

    # What a subclass provides.

    @abstractmethod
    def build_model(self) -> None:
        """Set `model`, `optimizer` and `lr_scheduler`, and register what belongs into a checkpoint."""

    @abstractmethod
    def build_dataloaders(self) -> None:
        """Fill `dataloaders`; a stage without a loader is skipped."""

    @abstractmethod
    def run_step(self, idx: int, batch: Any, metrics: dict) -> dict:
        """One step of training or validation (`is_training` tells which); returns `metrics`, filled.

        Values are numbers or scalar tensors. `loss` and `ce` are watched: where one is no longer finite, training stops
        within some steps, and nothing is saved in between.
        """

    def show(self) -> None:
        """Log what is about to be trained."""
        self.log_model_summary(self.model)

    def evaluate(self) -> dict:
        """The evaluate stage; returns its metrics."""
        return {}

    def generate(self) -> dict:
        """The generate stage; returns its metrics."""
        return {}

    @property
    def best_metric_name(self) -> str:
        """Metric of the valid stage that says which epoch was best (lower is better)."""
        return "loss"

    def get_formatter(self, stage_name: str) -> flashy.Formatter:
        """How the summary of a stage writes its metrics."""
        return flashy.Formatter({"lr": ".2e", "duration": ".1f", "samples": ".0f"}, default_format=".4g")

    # What a subclass uses.

    @property
    def autocast(self) -> AbstractContextManager:
        """Context of mixed precision; does nothing where it is off."""
        return self._autocast()

    @property
    def is_training(self) -> bool:
        """Whether the present stage updates weights."""
        return self._training

    @property
    def log_updates(self) -> int:
        """Progress lines per stage."""
        return self.cfg.logging.log_updates

    @property
    def updates_per_epoch(self) -> int:
        """Updates in one epoch: `optim.updates_per_epoch`, or fewer where the training segments do not last."""
        steps = num_samples(self.cfg, "train") // split_batch_size(self.cfg, "train")
        asked = self.cfg.optim.updates_per_epoch
        return max(1, min(asked, steps) if asked else steps)

    @property
    def total_updates(self) -> int:
        """Updates in the whole run."""
        return self.cfg.optim.epochs * self.updates_per_epoch

    @property
    def global_step(self) -> int:
        """Updates done so far."""
        return (self.epoch - 1) * self.updates_per_epoch + self._steps_done

    @property
    def _trained_epochs(self) -> int:
        """The epoch whose weights these are, also where a stage runs on its own."""
        return self.epoch if self._steps_done else self.epoch - 1

    def log_model_summary(self, model: nn.Module) -> None:
        """Log the number of parameters and the memory they take."""
        count = sum(parameter.numel() for parameter in model.parameters())
        size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
        self.logger.info("%s with %s parameters (%.1f MB)", type(model).__name__, f"{count:,}", size / 1e6)

    def check_stop(self) -> None:
        """Call this between the items of a long stage: raises where the user asked the run to stop.

        In a distributed run only the train stage stops inside; elsewhere processes may have different numbers of items.
        """
        if self._training or not distrib.is_distributed():
            self._stop.check()

    def optimizer_step(self, loss: Tensor) -> dict[str, Any]:
        """Backward pass and one update from `loss`.

        Exchanges gradients between processes, unscales, clips to `optim.max_norm`, updates, steps the schedule, and
        takes the weights into the moving average every `optim.ema.updates` updates.

        Returns:
            `lr` of this update and `grad_norm` before clipping.
        """
        scaled = loss if self.scaler is None else self.scaler.scale(loss)
        eager = distrib.is_distributed() and self.cfg.optim.get("eager_sync", False)
        with distrib.eager_sync_model(self.model) if eager else nullcontext():
            scaled.backward()
        if distrib.is_distributed() and not eager:
            distrib.sync_model(self.model)
        metrics: dict[str, Any] = {"lr": self.optimizer.param_groups[0]["lr"]}
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        # Without a limit nothing is clipped, and the norm still tells when gradients are no numbers.
        limit = self.cfg.optim.max_norm or math.inf
        metrics["grad_norm"] = nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.lr_scheduler is not None:
            self.lr_scheduler.step()
        if self.ema is not None and (self.global_step + 1) % self.cfg.optim.ema.updates == 0:
            self.ema.step()
        return metrics

    # Stages.

    def should_run_stage(self, stage_name: str) -> bool:
        """Whether a stage is due: at multiples of its `every` and in the last epoch; never if that is null."""
        every = self.cfg[stage_name].every
        return bool(every) and (self.epoch % every == 0 or self.epoch >= self.cfg.optim.epochs)

    def should_stop_training(self) -> bool:
        """Whether all epochs are done."""
        return self.epoch > self.cfg.optim.epochs

    def train(self) -> dict:
        """The train stage."""
        return self.common_train_valid("train")

    @torch.no_grad()
    def valid(self) -> dict:
        """The valid stage."""
        return self.common_train_valid("valid")

    def run_one_stage(self, stage_name: str) -> dict:
        """Run a stage other than train, with averaged weights and without gradients."""
        self._training = False
        self.model.eval()
        with torch.no_grad(), self.swap_ema_state():
            metrics = self.run_stage(stage_name, getattr(self, stage_name))
            if stage_name == "valid":
                self.update_best_state_from_stage("valid")
        return metrics

    def run_epoch(self) -> None:
        """One epoch, from where it was left."""
        if "train" not in self._pending_metrics:
            self.run_stage("train", self.train)
            self._save_in_time()
        for stage in ("valid", "evaluate", "generate"):
            if stage in self._pending_metrics or stage not in self.dataloaders:
                continue
            if stage == "valid" or self.should_run_stage(stage):
                before = rng_state()
                try:
                    self.run_one_stage(stage)
                except BaseException:
                    # It will run again from its beginning.
                    set_rng_state(before)
                    raise
                self._stop.check()

    def run(self) -> None:
        """Train until all epochs are done, or until a signal asks to stop (`stopped_by` is then that signal)."""
        if self.cfg.show:
            self.show()
            self.logger.info("%s", OmegaConf.to_yaml(self.cfg))
            return
        resumed = self.restore()
        if self.cfg.execute_only:
            self._execute_only(self.cfg.execute_only, resumed)
            return
        if self.should_stop_training():
            done = len(self.history)
            self.logger.info("This run is finished (%d epochs). Train it longer with optim.epochs=%d", done, 2 * done)
            return
        self.show()
        self.forecast_disk()
        with self._stop.watching():
            try:
                while not self.should_stop_training():
                    self.run_epoch()
                    self.commit()
                    self._stop.check()
                self.logger.info("Finished after %d epochs; the run is in %s", len(self.history), self.folder)
            except Exception as error:
                if not isinstance(error, Interrupted):
                    self._rescue(error)
                    raise
                self.stopped_by = error.signum
                self.save_checkpoints(numbered=False)
                self.logger.info(
                    "Stopped in epoch %d after %d of %d steps; the same command goes on from here",
                    min(self.epoch, self.cfg.optim.epochs),
                    self._steps_done,
                    self.updates_per_epoch,
                )

    def _rescue(self, error: Exception) -> None:
        """Where a later stage of an epoch failed, save what its train stage did."""
        if "train" not in self._pending_metrics or isinstance(error, Diverged) or not distrib.is_rank_zero():
            return
        try:
            self.write_checkpoint(numbered=False)
        except Exception as second:
            # The error that led here is the one to be told.
            self.logger.warning("The weights of this epoch could not be saved: %s", second)
        else:
            self.logger.info("The training of epoch %d is saved; the same command goes on after it", self.epoch)

    def _execute_only(self, stage: str, resumed: bool) -> None:
        if stage not in STAGES:
            raise UserError(f"execute_only={stage} is not a stage; use {', '.join(STAGES)}")
        if not resumed and not self.cfg.continue_from:
            raise UserError(
                f"execute_only={stage} needs a trained run, and {self.folder} has no checkpoint; give the settings of "
                "a run that was trained, or continue_from=CHECKPOINT"
            )
        if stage not in self.dataloaders:
            raise UserError(f"execute_only={stage} finds no audio for that stage; set datasource.{stage}")
        # What was left of an interrupted epoch has no say here.
        self._pending_metrics = {}
        with self._stop.watching():
            try:
                if stage == "train":
                    self.run_stage(stage, self.train)
                else:
                    self.run_one_stage(stage)
            except Interrupted as stop:
                self.stopped_by = stop.signum
                self.logger.info("Stopped during %s; nothing was changed", stage)

    def _start_loggers(self) -> None:
        if not self.cfg.logging.log_tensorboard or not distrib.is_rank_zero():
            return
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError:
            self.logger.info("TensorBoard is not installed, so it is not fed; pip install tensorboard if you want it")
            return
        self.init_tensorboard(**OmegaConf.to_container(self.cfg.tensorboard, resolve=True))  # type: ignore[arg-type]
