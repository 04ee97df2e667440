"""The steps of a stage: batches in, averages of metrics out, and a look now and then at whether losses are numbers."""

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from flashy import distrib
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.data import DataLoader

from ..errors import UserError, of_worker
from .data import start_loader
from .divergence import Diverged, LossWatch, files_of
from .progress import Averager, StageProgress, duration_text

if TYPE_CHECKING:
    import flashy

    _Base = flashy.BaseSolver
else:
    _Base = object

# Steps after which the time of stages is foretold, seconds of a stage that nobody minds, and the part of a training
# step that is no backward pass and no update.
_FORECAST_AFTER = 3
_WORTH_A_LINE = 2.0
_FORWARD_SHARE = 1 / 3
# Metrics that a progress bar has room for.
SHOWN = ("loss", "ce", "ppl", "lr")
# Metrics that must be numbers: those that gradients come from, and what these add up to.
WATCHED = {"loss", "ce", "adv", "feat", "d_loss", "penalty", "grad_norm"}


class StepsMixin(_Base):
    """How a solver goes through a split."""

    # Set by the solver this is mixed into.
    cfg: DictConfig
    model: Any
    scaler: Any
    dataloaders: dict[str, DataLoader]
    updates_per_epoch: Any
    log_updates: Any
    run_step: Callable[..., dict]
    check_stop: Callable[[], None]
    _save_in_time: Callable[[], None]
    _training: bool
    _steps_done: int
    _train_average: Averager

    def __init__(self) -> None:
        super().__init__()
        self._watch = LossWatch()
        self._forecast_done = False

    def log_progress(  # type: ignore[override]
        self, stage_name: str, iterable: Iterable, total: int | None = None, updates: int | None = None, start: int = 0
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

    def common_train_valid(self, dataset_split: str, **kwargs: Any) -> dict:
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
        begin = time.monotonic()
        try:
            for idx, batch in bar:
                due = bar.due
                metrics = self.run_step(idx, batch, {}, **kwargs)
                metrics = {name: v.detach() if isinstance(v, Tensor) else v for name, v in metrics.items()}
                if self._watch.add(idx, self._watched(metrics), files_of(batch)) or due:
                    self._check_losses()
                average.update(metrics, self._batch_weight(loader, idx))
                if due:
                    bar.update(**self._shown(metrics if self._training else average.means()))
                if self._training:
                    self._steps_done = idx + 1
                    if idx + 1 == min(skip + _FORECAST_AFTER, total):
                        self._forecast_stages((time.monotonic() - begin) / (idx + 1 - skip))
                    self._save_in_time()
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

    def fetch(self, loader: DataLoader) -> Iterator[Any]:
        """The batches of `loader`.

        Raises:
            Interrupted: instead of the loader's own error where a signal came. One to the whole process group also ends
                the reading processes, and what is left of the epoch is then read after resuming.
        """
        batches: Iterator[Any] | None = None
        while True:
            try:
                batches = batches or iter(loader)
                batch = next(batches)
            except StopIteration:
                return
            except UserError as error:
                raise of_worker(error) from None
            except (RuntimeError, OSError, EOFError):
                # Whatever a process that is no longer there makes of the connection to it.
                self.check_stop()
                raise
            yield batch

    def _batch_weight(self, loader: DataLoader, idx: int) -> float:
        """Items in batch `idx`, so that a last, smaller batch counts by its size."""
        assert loader.batch_size is not None
        size = len(range(loader.sampler.rank, loader.sampler.size, loader.sampler.world_size))  # type: ignore[attr-defined]
        return float(min(loader.batch_size, size - idx * loader.batch_size))

    def _watched(self, metrics: dict[str, Any]) -> list[Any]:
        """What must be a number for training to go on. A scaler leaves out steps whose gradient is none."""
        names = WATCHED if self.scaler is None else WATCHED - {"grad_norm"}
        return [metrics[name] for name in names & metrics.keys()]

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

    def _shown(self, metrics: dict[str, Any]) -> dict[str, str]:
        """The few metrics that the progress bar has room for."""
        values: dict[str, float] = {name: float(metrics[name]) for name in SHOWN if name in metrics}
        if "loss" in values:
            values.pop("ce", None)
        return {name: f"{value:.2e}" if name == "lr" else f"{value:.4g}" for name, value in values.items()}
