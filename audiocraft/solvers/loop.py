"""How a model is trained step by step: batches in, updates and averages of metrics out."""

import logging
import math
import time
import typing as tp
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import islice
from pathlib import Path

import flashy
import torch
from flashy import distrib
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from ..errors import UserError, of_worker
from ..optim import ModuleDictEMA
from ..utils.best_state import BestStateDictManager, swapped
from ..utils.device import Autocast, resolve_device
from ..utils.rng import seed_everything
from .accumulation import Accumulation
from .data import num_samples, split_batch_size, start_loader
from .optimizers import get_ema
from .progress import Averager, StageProgress, duration_text
from .stops import Diverged, LossWatch, StopFlag

# Steps after which the time of stages is foretold, seconds of a stage that nobody minds, and the part of a training
# step that is no backward pass and no update.
_FORECAST_AFTER = 3
_WORTH_A_LINE = 2.0
_FORWARD_SHARE = 1 / 3
# Metrics that a progress bar has room for.
SHOWN = ("loss", "ce", "ppl", "lr")
# Metrics that must be numbers: those that gradients come from, and what these add up to.
WATCHED = {"loss", "ce", "adv", "feat", "d_loss", "penalty", "grad_norm"}


class Loop(ABC, flashy.BaseSolver):
    """A model with all that it takes to train it, in memory; see `StandardSolver` for what a subclass provides."""

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
        self.best_state = BestStateDictManager()
        self.ema: ModuleDictEMA | None = None
        self._ema_modules = nn.ModuleDict()
        self._training = False
        self._stop = StopFlag()
        self._watch = LossWatch()
        self._forecast_done = False
        # Position inside the epoch: steps of the train stage done, and their averages.
        self._steps_done = 0
        self._train_average = Averager()
        self.accumulation = Accumulation(
            cfg.optim.get("accumulate", 1), self.need_less_memory, fixed=distrib.is_distributed()
        )
        self.build_model()
        if distrib.is_distributed():
            distrib.broadcast_model(self.model)
        self.initialize_ema()
        self.build_dataloaders()

    @abstractmethod
    def build_model(self) -> None:
        """Set `model`, `optimizer` and `lr_scheduler`, and register what belongs into a checkpoint."""

    @abstractmethod
    def build_dataloaders(self) -> None:
        """Fill `dataloaders`; a stage without a loader is skipped."""

    @abstractmethod
    def run_step(self, idx: int, batch: tp.Any, metrics: dict) -> dict:
        """One step of training or validation (`is_training` tells which); returns `metrics`, filled.

        Values are numbers or scalar tensors. `loss` and `ce` are watched: where one is no longer finite, training stops
        within some steps, and nothing is saved in between.
        """

    def need_less_memory(self) -> str | None:
        """Make a segment need less memory than now, and say how; None where nothing is left to try."""
        return None

    def after_step(self) -> None:
        """Called between two steps of training."""

    @property
    def best_metric_name(self) -> str:
        """Metric of the valid stage that says which epoch was best (lower is better)."""
        return "loss"

    # Averaged weights and the best ones, kept beside those that are trained.

    def register_best_state(self, *args: str) -> None:
        """Keep the states of these attributes (modules) from the epoch that validates best."""
        for name in args:
            self.best_state.register(name, getattr(self, name))

    def register_ema(self, *args: str) -> None:
        """Average the weights of these attributes (modules)."""
        self._ema_modules.update({name: getattr(self, name) for name in args})

    def initialize_ema(self) -> None:
        """Begin the moving average of the registered modules."""
        self.ema = get_ema(self._ema_modules, self.cfg.optim.ema)

    def swap_ema_state(self) -> AbstractContextManager:
        """Context in which the modules have their averaged weights."""
        return swapped(self, self.ema.state) if self.ema is not None and self.ema.count else nullcontext()

    def swap_best_state(self) -> AbstractContextManager:
        """Context in which the modules have the weights that validated best."""
        return swapped(self, self.best_state.states)

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

    def check_stop(self) -> None:
        """Call this between the items of a long stage: raises where the user asked the run to stop.

        In a distributed run only the train stage stops inside; elsewhere processes may have different numbers of items.
        """
        if self._training or not distrib.is_distributed():
            self._stop.check()

    def optimizer_step(self, loss: Tensor) -> dict[str, tp.Any]:
        """Backward pass and one update from `loss`; returns what `update` does."""
        self.backward(loss)
        return self.update()

    @property
    def _eager_sync(self) -> bool:
        # What earlier parts of a batch added to the gradients would not be exchanged.
        eager = distrib.is_distributed() and self.cfg.optim.get("eager_sync", False)
        return eager and self.accumulation.parts == 1

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss` to those that are there."""
        scaled = loss if self.scaler is None else self.scaler.scale(loss)
        with distrib.eager_sync_model(self.model) if self._eager_sync else nullcontext():
            scaled.backward()

    def update(self) -> dict[str, tp.Any]:
        """One update from the gradients that are there.

        Exchanges them between processes, unscales, clips to `optim.max_norm`, updates, steps the schedule, and takes
        the weights into the moving average every `optim.ema.updates` updates.

        Returns:
            `lr` of this update and `grad_norm` before clipping.
        """
        if distrib.is_distributed() and not self._eager_sync:
            distrib.sync_model(self.model)
        metrics: dict[str, tp.Any] = {"lr": self.optimizer.param_groups[0]["lr"]}
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

    def fetch(self, loader: DataLoader) -> tp.Iterator[tp.Any]:
        """The batches of `loader`.

        Raises:
            Interrupted: instead of the loader's own error where a signal came. One to the whole process group also ends
                the reading processes, and what is left of the epoch is then read after resuming.
        """
        try:
            yield from loader
        except UserError as error:
            raise of_worker(error) from None
        except (RuntimeError, OSError, EOFError):
            # Whatever a process that is no longer there makes of the connection to it.
            self.check_stop()
            raise

    def log_progress(  # type: ignore[override]
        self,
        stage_name: str,
        iterable: tp.Iterable,
        total: int | None = None,
        updates: int | None = None,
        start: int = 0,
    ) -> StageProgress:
        """Iterate over `iterable` under a progress bar; `update(**metrics)` of the result sets what it shows."""
        return StageProgress(
            f"{stage_name.capitalize()} | epoch {self.epoch}/{self.cfg.optim.epochs}",
            iterable,
            total=len(iterable) if total is None else total,  # type: ignore[arg-type]
            start=start,
            after=(self.cfg.optim.epochs - self.epoch) * self.updates_per_epoch if self._training else 0,
            mode=self.cfg.logging.progress if distrib.is_rank_zero() else "off",
            updates=self.log_updates if updates is None else updates,
            logger=self.logger,
        )

    # A pass through a split.

    def common_train_valid(self, dataset_split: str, **kwargs: tp.Any) -> dict:
        """Go through a split step by step; returns the averages of what `run_step` gave."""
        self._training = dataset_split == "train"
        self.model.train(self._training)
        loader = self.dataloaders[dataset_split]
        skip = self._steps_done if self._training else 0
        average = self._train_average if self._training else Averager()
        left = start_loader(loader, self.epoch, skip)
        total = self.updates_per_epoch if self._training else left
        if self._training and left + skip < total:
            raise UserError(
                f"the training data gives {left + skip} steps where {total} are expected; "
                "check dataset.train.num_samples"
            )
        batches = islice(enumerate(self.fetch(loader), start=skip), total - skip)
        bar = self.log_progress(dataset_split, batches, total=total, start=skip)
        # A scaler leaves out steps whose gradient is no number.
        watched = WATCHED if self.scaler is None else WATCHED - {"grad_norm"}
        begin = time.monotonic()
        try:
            for idx, batch in bar:
                due = bar.due
                metrics = self.run_step(idx, batch, {}, **kwargs)
                metrics = {name: v.detach() if isinstance(v, Tensor) else v for name, v in metrics.items()}
                if self._watch.add(idx, [metrics[name] for name in watched & metrics.keys()], batch) or due:
                    self._check_losses()
                average.update(metrics, _batch_weight(loader, idx))
                if due:
                    bar.update(**_shown(metrics if self._training else average.means()))
                if self._training:
                    self._steps_done = idx + 1
                    if idx + 1 == min(skip + _FORECAST_AFTER, total):
                        self._forecast_stages((time.monotonic() - begin) / (idx + 1 - skip))
                    self.after_step()
                self.check_stop()
        finally:
            # Also where a signal came: the caller would save.
            self._check_losses()
        return average.means_of_all()

    def _forecast_stages(self, step_seconds: float) -> None:
        """Say once which stage will take longer than the training before it, from how long the first steps took."""
        if self._forecast_done or not distrib.is_rank_zero():
            return
        self._forecast_done = True
        for stage in ("valid", "evaluate", "generate"):
            every = 1 if stage == "valid" else self.cfg[stage].every
            if stage not in self.dataloaders or not every:
                continue
            due = min(-(-self.epoch // every) * every, self.cfg.optim.epochs)
            training = step_seconds * ((due - self.epoch + 1) * self.updates_per_epoch - self._steps_done)
            try:
                seconds = self.stage_seconds(stage, step_seconds)
            except UserError:  # of a model that has diverged, say: told where it matters
                continue
            if seconds > max(training, _WORTH_A_LINE):
                number = len(self.dataloaders[stage].dataset)  # type: ignore[arg-type]
                leave_out = f", {stage}.every=null leaves it out" if stage != "valid" else ""
                self.logger.info(
                    "The %s stage will take about %s, longer than the %s of training before it: "
                    "a smaller dataset.%s.num_samples (now %d) shortens it%s",
                    *(stage, duration_text(seconds), duration_text(training), stage, number, leave_out),
                )

    def stage_seconds(self, stage: str, step_seconds: float) -> float:
        """About how long a stage takes, where a training step takes `step_seconds`: a third of it is the model forward,
        which is all that stages do with a segment."""
        segments = len(self.dataloaders[stage].dataset)  # type: ignore[arg-type]
        return step_seconds * _FORWARD_SHARE * segments / self.cfg.dataset.batch_size

    # Divergence.

    def _check_losses(self) -> None:
        """Raise `Diverged` if a loss of this stage so far was not a number."""
        bad = self._watch.first_bad()
        if bad is not None:
            idx, files = bad
            where = f"step {idx} of epoch {self.epoch} ({self.current_stage}; files: {', '.join(files) or 'unknown'})"
            raise self._diverged(f"the loss is no longer a number at {where}", "leave these files out")

    def _check_weights(self) -> None:
        """Raise `Diverged` if the weights have left the numbers that can be trained on, which the next loss will show.

        Called before they are saved, so that no checkpoint holds them.
        """
        weights = [parameter.detach().float() for parameter in self.model.parameters()]
        if weights and not torch.stack([weight.square().sum() for weight in weights]).isfinite().all():
            raise self._diverged(f"the weights have run away by step {self._steps_done} of epoch {self.epoch}")

    def _diverged(self, what: str, *ways: str) -> Diverged:
        last = self.checkpoint_path
        kept = f"the last good checkpoint is {last}" if last.is_file() else "there is no checkpoint yet"
        ways = (f"lower optim.lr (now {self.cfg.optim.lr:g})", "clip with optim.max_norm=1", *ways)
        ways += ("set autocast=false",) if self.cfg.autocast else ()
        return Diverged(f"{what}; {kept}; {', '.join(ways[:-1])} or {ways[-1]}")


def _batch_weight(loader: DataLoader, idx: int) -> float:
    """Items in batch `idx`, so that a last, smaller batch counts by its size."""
    assert loader.batch_size is not None
    size = len(range(loader.sampler.rank, loader.sampler.size, loader.sampler.world_size))  # type: ignore[attr-defined]
    return float(min(loader.batch_size, size - idx * loader.batch_size))


def _shown(metrics: dict[str, tp.Any]) -> dict[str, str]:
    """The few metrics that the progress bar has room for."""
    values: dict[str, float] = {name: float(metrics[name]) for name in SHOWN if name in metrics}
    if "loss" in values:
        values.pop("ce", None)
    return {name: f"{value:.2e}" if name == "lr" else f"{value:.4g}" for name, value in values.items()}
