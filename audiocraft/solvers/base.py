"""What every training run does: epochs and stages, checkpoints, stopping and going on."""

import time
import typing as tp
from pathlib import Path

import flashy
import torch
from flashy import distrib
from omegaconf import DictConfig, OmegaConf
from torch import nn

from .. import __version__
from ..checkpoints.checkpoint import checkpoint_name
from ..data.audio import audio_write
from ..data.audio_utils import convert_audio
from ..errors import UserError
from ..utils.rng import rng_state, seed_everything, set_rng_state
from .checkpoints import Checkpoints, forecast_disk, weights_to_begin_with
from .loop import Loop
from .progress import Averager
from .settings import SPLITS
from .stops import Diverged, Interrupted

# What stumbles over a state of another run, or over one that is damaged in a way that no checksum shows.
_MISFITS = (RuntimeError, LookupError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)
# Attributes that a checkpoint holds beside those that a subclass registers; null where a run has none.
_OTHERS = ("scaler", "ema", "best_state")


class StandardSolver(Loop):
    """A run: built from a configuration, resumed from its folder, trained by epochs.

    A subclass provides `build_model`, `build_dataloaders`, `run_step`, and `evaluate`, `generate` where it has them.

    In training, `run_step` computes a loss and calls `optimizer_step(loss)`, which does the backward pass, clipping,
    the update, the schedule and the moving average. In validation it only returns metrics.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self.stopped_by: int | None = None
        self._last_save = time.monotonic()
        super().__init__(cfg)
        self.checkpoints = Checkpoints(Path(self.folder), cfg.checkpoint)
        self._start_loggers()

    # What a subclass may provide.

    def show(self) -> None:
        """Log what is about to be trained."""
        self.log_model_summary(self.model)

    def evaluate(self) -> dict:
        """The evaluate stage; returns its metrics."""
        return {}

    def generate(self) -> dict:
        """The generate stage; returns its metrics."""
        return {}

    def get_formatter(self, stage_name: str) -> flashy.Formatter:
        """How the summary of a stage writes its metrics."""
        return flashy.Formatter({"lr": ".2e", "duration": ".1f", "samples": ".0f"}, default_format=".4g")

    def load_from_pretrained(self, name: str) -> dict[str, tp.Any]:
        """State dict of the model called `//pretrained/NAME`."""
        raise UserError(f"continue_from=//pretrained/{name} is not possible for {self.cfg.solver}; give a path")

    def check_origin(self, source: str, cfg: DictConfig) -> None:
        """Refuse a run to continue from, of the config `cfg`, whose weights fit and yet mean something else."""

    def log_model_summary(self, model: nn.Module) -> None:
        """Log the number of parameters and the memory they take."""
        count = sum(parameter.numel() for parameter in model.parameters())
        size = sum(tensor.nbytes for tensor in model.state_dict().values())
        self.logger.info("%s with %s parameters (%.1f MB)", type(model).__name__, f"{count:,}", size / 1e6)

    def write_sound(self, name: str, wav: torch.Tensor) -> tuple[Path, torch.Tensor, int]:
        """Write a sound [C, T] as `samples/EPOCH/NAME` into the run's folder, as `generate.audio` says; returns where,
        what, and at which rate in Hz."""
        options: tp.Any = OmegaConf.to_container(self.cfg.generate.audio, resolve=True)
        rate = options.pop("sample_rate", None) or self.cfg.sample_rate
        folder = Path(self.folder) / self.cfg.generate.path / str(self._trained_epochs)
        sound = convert_audio(wav.float().cpu(), self.cfg.sample_rate, rate, wav.shape[0])
        return audio_write(folder / name, sound, rate, **options), sound, rate

    @property
    def _trained_epochs(self) -> int:
        """The epoch whose weights these are, also where a stage runs on its own."""
        return self.epoch if self._steps_done else self.epoch - 1

    # State.

    def state_dict(self) -> dict[str, tp.Any]:
        """Everything a run needs to go on: tensors, numbers, strings, lists and dicts only."""
        state = super().state_dict()
        state["xp.cfg"] = OmegaConf.to_yaml(self.cfg)
        state["version"] = __version__
        state["epoch_state"] = {
            "epoch": self.epoch,
            "steps_done": self._steps_done,
            "average": self._train_average.state_dict(),
            "stages": self._pending_metrics,
        }
        for name in _OTHERS:
            source = getattr(self, name)
            state[name] = None if source is None else source.state_dict()
        state["rng"] = {"global": rng_state()}
        return state

    def load_state_dict(self, state: dict[str, tp.Any]) -> None:
        """Take over what `state_dict` gave.

        Raises:
            UserError: the state is of another model, or none.
        """
        if not isinstance(state, dict) or not {"model", "optimizer", "history"} <= state.keys():
            raise UserError(
                f"the checkpoint in {self.folder} is none of a training run; put the right one back, or give "
                "label=NAME for a new run folder"
            )
        state = {name: value for name, value in state.items() if value is not None}
        inside, rng = state.pop("epoch_state", None), state.pop("rng", None)
        others = {name: state.pop(name, None) for name in (*_OTHERS, "xp.cfg", "xp.sig", "version")}
        try:
            if not all(isinstance(stages, dict) for epoch in state["history"] for stages in epoch.values()):
                raise ValueError("its history is none")
            super().load_state_dict(state)
            for name in _OTHERS:
                if others[name] and getattr(self, name) is not None:
                    getattr(self, name).load_state_dict(others[name])
            if rng:
                set_rng_state(rng["global"])
                if distrib.rank():
                    # The checkpoint has the state of the first process; the others draw numbers of their own.
                    seed_everything(self.cfg.seed + distrib.rank() + 1000 * len(self.history))
            if inside:
                self._steps_done = int(inside["steps_done"])
                self._train_average.load_state_dict(inside["average"])
                self._pending_metrics = dict(inside["stages"])
        except _MISFITS as error:
            reason = (str(error).splitlines() or [type(error).__name__])[-1].strip()
            raise UserError(
                f"the checkpoint in {self.folder} does not fit this model ({reason}); give the settings it was trained "
                "with, or label=NAME for a new run folder"
            ) from error

    # Files.

    def checkpoint_path_with_name(self, name: str) -> Path:
        """`checkpoint_NAME.th` in the run's folder."""
        return Path(self.folder) / checkpoint_name(name)

    def epoch_checkpoint_path(self, epoch: int) -> Path:
        """`checkpoint_EPOCH.th` in the run's folder."""
        return self.checkpoint_path_with_name(str(epoch))

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
        """Write checkpoints in the first process, while the others wait.

        Args:
            numbered: False inside an epoch, see `Checkpoints.write`.

        Raises:
            Diverged: the weights are not worth it.
        """
        self._check_weights()
        self._last_save = time.monotonic()
        if distrib.is_rank_zero():
            self.checkpoints.write(self.state_dict, self.epoch - 1 if numbered else None)
        distrib.barrier()

    def after_step(self) -> None:
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

    def load_checkpoints(self) -> dict[str, tp.Any] | None:
        """State of this run as last written, or None if it has not begun.

        Raises:
            UserError: checkpoint.th is gone or damaged while the run has begun.
        """
        state = self.checkpoints.load()
        if state is None:
            # A run with a history but without checkpoints has lost them; its history is not overwritten.
            self.xp.link.load()
            if self.history and self.cfg.checkpoint.save_last:
                raise UserError(
                    f"checkpoint.th is missing in {self.folder}, though {len(self.history)} epochs were trained; "
                    "put it back, remove the folder to begin anew, or give label=NAME for another one"
                )
            self.history.clear()
        return state

    def restore(self) -> bool:
        """Go on from this run's checkpoint, else begin from `continue_from`; True if there was a checkpoint."""
        state = self.load_checkpoints()
        if state is None:
            if self.cfg.continue_from:
                self._continue_from(str(self.cfg.continue_from))
            return False
        self.load_state_dict(state)
        inside = self._steps_done or self._pending_metrics
        if distrib.is_rank_zero():
            self.xp.link.update_history(self.history)
            if not inside and not self.cfg.execute_only:
                self.checkpoints.finish(len(self.history))
        if self._steps_done:
            self.logger.info("Going on in epoch %d after %d steps", self.epoch, self._steps_done)
        else:
            self.logger.info("Going on after epoch %d", len(self.history))
        return True

    def _continue_from(self, source: str) -> None:
        """Begin a new run from the weights of another (the averaged ones where there are any) or of a model."""
        weights = weights_to_begin_with(source, self.load_from_pretrained, self.check_origin)
        try:
            self.model.load_state_dict(weights)
        except RuntimeError as error:
            # The second line is the first that torch complains of.
            reason = [*str(error).splitlines(), ""][1].strip() or str(error)
            reason = reason if len(reason) <= 150 else f"{reason[:148]} …"
            raise UserError(
                f"continue_from={source} is another model than this one ({reason}); "
                "give the same model settings, or begin anew (continue_from=null, codec train --from nothing)"
            ) from error
        if self.ema is not None:
            self.ema.reset()
        self.logger.info("Beginning with the weights of %s", source)

    def _start_loggers(self) -> None:
        if not self.cfg.logging.log_tensorboard or not distrib.is_rank_zero():
            return
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError:
            self.logger.info("TensorBoard is not installed, so it is not fed; pip install tensorboard if you want it")
            return
        self.init_tensorboard(**OmegaConf.to_container(self.cfg.tensorboard, resolve=True))  # type: ignore[arg-type]

    # Stages and epochs.

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
            self.after_step()
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
        self.logger.info("Training on %s in %s", self.device, self._autocast)
        if distrib.is_rank_zero():
            sounds = len(self.dataloaders["generate"].dataset) if "generate" in self.dataloaders else 0  # type: ignore
            trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
            forecast_disk(Path(self.folder), self.state_dict(), trained, self.cfg, sounds)
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
            self.checkpoints.write(self.state_dict)
        except Exception as second:
            # The error that led here is the one to be told.
            self.logger.warning("The weights of this epoch could not be saved: %s", second)
        else:
            self.logger.info("The training of epoch %d is saved; the same command goes on after it", self.epoch)

    def _execute_only(self, stage: str, resumed: bool) -> None:
        if stage not in SPLITS:
            raise UserError(f"execute_only={stage} is not a stage; use {', '.join(SPLITS)}")
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
