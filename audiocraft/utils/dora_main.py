"""Dora's entry point for hydra, with errors in one line and the configuration composed once."""

import copy
import sys
import typing as tp
from contextlib import contextmanager
from pathlib import Path

import yaml
from dora.conf import DoraConfig, update_from_hydra
from dora.hydra import HydraMain, _simplify_argv
from dora.xp import XP, get_xp
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..environment import refuse_peer
from ..errors import UserError
from . import overrides as checks
from .files import check_place


class MicroMain(HydraMain):
    """What `audiocraft.train.main` is.

    Differences to its base: wrong overrides end in one line; the peer's keys that are not served are taken at their
    defaults; `./config` of the folder the command started in is searched after ours; `dora.dir` can be overridden;
    hydra's own logging, folders and change of directory are not used.
    """

    def __call__(self) -> tp.Any:
        """What `dora run` does. Ends the program, with one line, where it cannot begin."""
        with _in_one_line():
            return super().__call__()

    def get_xp(self, argv: tp.Sequence[str]) -> XP:
        """The experiment of these overrides. Ends the program, with one line, where they are wrong."""
        with _in_one_line():
            xp = self.make_xp(argv)
            with _placed(Path(xp.dora.dir)) as folder:  # dora is about to, and fails in its own way
                folder.mkdir(parents=True, exist_ok=True)
                check_place(folder)
            return xp

    def init_xp(self, xp: XP) -> XP:
        """Make the run's folder.

        Raises:
            UserError: it cannot be made.
        """
        with _placed(Path(xp.folder)) as folder:
            folder.mkdir(parents=True, exist_ok=True)
            check_place(folder)
            return super().init_xp(xp)

    def make_xp(self, argv: tp.Sequence[str]) -> XP:
        """The experiment of these overrides.

        Raises:
            UserError: unknown keys, groups or choices; values that do not fit; the peer's package is installed too.
        """
        refuse_peer()
        if (cwd := str(Path.cwd())).count("${") > cwd.count("}"):
            raise UserError(f"hydra cannot read the name of the folder {cwd}, for its ${{ without }}; start in another")
        checks.parse(argv)
        argv = _simplify_argv(checks.with_literal_sources(argv))
        solver = next((arg.split("=", 1)[1].split("/")[0] for arg in argv if arg.startswith("solver=")), None)
        if solver in (None, "default"):
            raise UserError("no recipe was chosen; add solver=musicgen/micro_32khz, or another of config/solver")
        argv = checks.drop_peer_keys(argv, solver)
        with self._hydra():
            groups = self._choices()
            chosen = [arg for arg in argv if arg.split("=", 1)[0] in groups]
            base = checks.check(argv, groups, self._get_config_noinit)
            cfg = checks.composed(self._get_config_noinit, argv)
        delta = [(arg.split("=", 1)[0], arg.split("=", 1)[1]) for arg in chosen]
        delta += self._get_delta(base, cfg)
        return XP(dora=self._dora_of(cfg), cfg=cfg, argv=argv, delta=delta)

    def _dora_of(self, cfg: DictConfig) -> DoraConfig:
        """Dora's settings as this configuration has them: its folder depends on the environment and on overrides."""
        dora, given = copy.deepcopy(self.dora), copy.deepcopy(cfg.dora or DictConfig({}))
        if not isinstance(given.get("dir"), (str, int, float)):
            raise UserError(f"dora.dir={given.get('dir')} is no folder; give a path")
        if unknown := [key for key in map(str, given) if not hasattr(dora, key)]:
            raise UserError(f"dora has no setting {unknown[0]!r}; leave dora.{unknown[0]} out")
        given.dir = str(given.dir)
        update_from_hydra(dora, given)
        dora.exclude = [*dora.exclude, "dora.*", "slurm.*"]
        dora.dir = Path(dora.dir).expanduser().absolute()
        return dora

    def _get_delta(self, init: DictConfig, other: DictConfig) -> list[tuple[str, tp.Any]]:
        """Keys of `other` whose values differ from those of `init`; values that are still to be given count as such."""
        return list(_differences(_plain(init), _plain(other)))

    @contextmanager
    def _hydra(self) -> tp.Iterator[None]:
        with initialize_config_dir(str(self.full_config_path), job_name=self._job_name, **self.hydra_kwargs):
            if (folder := self._user_config()) is not None:
                # Not by the key hydra.searchpath, which reads `${` in a folder's name.
                loader: tp.Any = GlobalHydra.instance().config_loader()
                loader.get_search_path().prepend("user", f"file://{folder}", anchor="schema")
                loader.repository.initialize_sources(loader.get_search_path())
            yield

    def _user_config(self) -> Path | None:
        """`./config` of the working folder, if it is not ours."""
        folder = Path.cwd() / "config"
        return folder if folder.is_dir() and folder.resolve() != self.full_config_path.resolve() else None

    def _get_config_noinit(self, overrides: tp.Sequence[str] = ()) -> DictConfig:
        try:
            return compose(self.config_name, list(overrides))
        except OmegaConfBaseException:
            raise
        except (yaml.YAMLError, ValueError, OSError) as error:
            folder = self._user_config() or self.full_config_path
            raise UserError(f"a file of {folder} cannot be read ({error}); mend it") from error

    def _choices(self) -> dict[str, list[str]]:
        """Choices of each config group, from our tree and from `./config`."""
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        roots = [self.full_config_path, *filter(None, [self._user_config()])]
        return {
            group: sorted(
                {
                    str(path.relative_to(root / group).with_suffix(""))
                    for root in roots
                    for path in (root / group).rglob("*.yaml")
                }
            )
            for group in hydra.list_all_config_groups()
        }

    def _main(self) -> tp.Any:
        return self.main(get_xp().cfg)


@contextmanager
def _in_one_line() -> tp.Iterator[None]:
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def check_runs_folder(folder: Path) -> None:
    """See whether runs can be kept in a folder. One that is missing stays so.

    Raises:
        UserError: they cannot.
    """
    with _placed(folder):
        check_place(folder)


@contextmanager
def _placed(folder: Path) -> tp.Iterator[Path]:
    try:
        yield folder
    except OSError as error:
        raise UserError(
            f"runs cannot be kept in {folder} ({error.strerror}); set AUDIOCRAFT_DORA_DIR to a folder that can be "
            "written"
        ) from error


def _plain(cfg: DictConfig) -> dict[str, tp.Any]:
    plain: tp.Any = OmegaConf.to_container(cfg, resolve=False, throw_on_missing=False)
    return plain


def _differences(
    init: dict[str, tp.Any], other: dict[str, tp.Any], prefix: str = ""
) -> tp.Iterator[tuple[str, tp.Any]]:
    for key, value in other.items():
        former = init.get(key)
        if isinstance(value, dict) and isinstance(former, dict):
            yield from _differences(former, value, f"{prefix}{key}.")
        elif key not in init or value != former:
            yield f"{prefix}{key}", value


def micro_main(config_name: str, config_path: str | Path) -> tp.Any:
    """Decorator that turns `main(cfg)` into a `MicroMain`."""

    def decorator(main: tp.Any) -> MicroMain:
        return MicroMain(main, config_name=config_name, config_path=str(config_path), version_base="1.3")

    return decorator
