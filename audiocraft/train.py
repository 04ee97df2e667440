"""Entry point of training.

    dora run solver=musicgen/micro_32khz dset=audio/jungle              in a clone
    dora -P audiocraft run solver=musicgen/micro_32khz dset=audio/mine  elsewhere; finds ./config/dset/audio/mine.yaml

`run` does the same inside a program.
"""

import logging
import os
import shutil
import signal
import sys
import typing as tp
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from dora.distrib import get_distrib_spec
from dora.xp import XP, get_xp
from omegaconf import DictConfig

from .environment import resource_dir
from .errors import UserError
from .utils.dora_main import micro_main
from .utils.files import disk_told
from .utils.logs import setup_logging
from .utils.run_lock import sole_use

if tp.TYPE_CHECKING:
    from .solvers.base import StandardSolver

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """A training run when `run` returns.

    Attributes:
        folder: of the run: checkpoints, samples, history.json, solver.log.0.
        sig: its signature; `//sig/SIG` names it.
        epochs: epochs done.
        finished: whether those are all.
        stopped_by: the signal that stopped it, if one did.
    """

    folder: Path
    sig: str
    epochs: int
    finished: bool
    stopped_by: int | None = None


def train(cfg: DictConfig) -> "StandardSolver":
    """Build the solver of `cfg` and run it; the experiment must have been entered.

    Raises:
        UserError: a setting, the audio or a checkpoint is not usable, or another process trains this run.
    """
    xp = get_xp()
    full = f"the disk that holds {xp.folder} is full; free some space, the same command resumes"
    # The first process holds the folder for all of them.
    with disk_told(full), nullcontext() if get_distrib_spec().rank else sole_use(xp.folder):
        return _train(cfg, xp)


def _train(cfg: DictConfig, xp: XP) -> "StandardSolver":
    import torch

    from .solvers import builders
    from .solvers.accumulation import too_much
    from .solvers.settings import check_settings

    rank = get_distrib_spec().rank
    log = xp.folder / f"solver.log.{rank}"
    is_first_start = not log.exists()
    solver = None
    try:
        check_settings(cfg)
        _join(cfg)
        setup_logging(cfg.logging.level, log, terminal=rank == 0)
        logger.info("Run %s in %s", xp.sig, xp.folder)
        solver = builders.get_solver(cfg)
        solver.run()
        return solver
    except Exception as error:
        taken = solver is not None and solver.global_step > 0
        if rank == 0 and is_first_start and not taken and not any(xp.folder.glob("checkpoint*.th")):
            # Nothing is in it that the same command would not make again.
            shutil.rmtree(xp.folder, ignore_errors=True)
        if isinstance(error, torch.OutOfMemoryError):
            segments, seconds = cfg.dataset.batch_size, cfg.dataset.segment_duration
            ways = (f"a smaller dataset.batch_size (now {segments})",) if segments > 1 else ()
            what = f"the model with its optimizer and batches of {segments}" + (f" x {seconds:g} s" if seconds else "")
            raise UserError(too_much(what, *ways)) from error
        raise


def _join(cfg: DictConfig) -> None:
    """Join the processes that train together."""
    import flashy
    import torch

    if get_distrib_spec().world_size > 1:
        # Functions in there take the group as a default argument. Imported once the group is there (by an optimiser's
        # first step), they keep its threads alive beyond `main`, and these can abort the interpreter's end.
        import torch.distributed.nn.functional
    flashy.distrib.init("nccl" if torch.cuda.is_available() and cfg.device != "cpu" else "gloo")


def run(overrides: tp.Sequence[str]) -> RunResult:
    """Train in this process as `dora run OVERRIDES` would, in the same run folder.

    Raises:
        UserError: as for `train`, or an override is wrong.
    """
    xp: XP = main.make_xp(list(overrides))
    main.init_xp(xp)
    with xp.enter():
        solver = train(xp.cfg)
    done = len(solver.history)
    return RunResult(xp.folder, xp.sig, done, done >= xp.cfg.optim.epochs, solver.stopped_by)


@micro_main("config", resource_dir("config"))
def main(cfg: DictConfig) -> tp.Any:
    """Main of `dora run`: errors end in one line, signals in the exit status shells expect (128 + number)."""
    import flashy
    import torch

    try:
        solver = train(cfg)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("Stopped at once; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    if flashy.distrib.is_distributed():
        torch.distributed.destroy_process_group()
    if solver.stopped_by is not None:
        sys.exit(128 + solver.stopped_by)
    return solver.history


if __name__ == "__main__":
    os.environ.setdefault("RANK", "0")
    os.environ.setdefault("WORLD_SIZE", "1")
    main()
