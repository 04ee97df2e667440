"""From a run to a model folder that plays here and in the peer: `state_dict.bin` and `compression_state_dict.bin`.

A file of the folder is a `torch.save` dict: `best_state` (float32 tensors), `xp.cfg` (YAML text), `version`,
`exported: True`; a codec that the peer knows by name is only named: `pretrained`, `version`, `exported`. Beside them
`export.json` says which run, epoch and weights were taken.
"""

import json
import logging
import typing as tp
from contextlib import ExitStack
from pathlib import Path

import torch

from .. import __version__
from ..environment import AudioCraftEnvironment
from ..errors import UserError
from ..utils.checkpoint import numbered_checkpoints, resolve_checkpoint_path
from ..utils.export_config import export_config
from ..utils.files import atomic_path
from ..utils.weights import CODEC_FILE, LM_FILE, as_float32, package_config, read_package, select_state
from . import loaders

logger = logging.getLogger(__name__)

Package = dict[str, tp.Any]
# Codecs that the peer builds from their name alone; every other one travels whole.
PEER_CODECS = ("facebook/encodec_24khz", "facebook/encodec_32khz")


def export_lm(checkpoint_path: str | Path, out_file: str | Path, state: str | None = None) -> Path:
    """Export the language model of a checkpoint of a MusicGen run.

    Args:
        checkpoint_path: the run's `checkpoint.th`, or one of an epoch.
        out_file: the file, or a folder that gets a `state_dict.bin`.
        state: `ema`, `best` or `model`; None for the averaged weights where the run kept some, else the last.
    Returns:
        The file written.
    Raises:
        UserError: no such checkpoint or state, a damaged file, a full disk.
    """
    package = _Run(Path(checkpoint_path), state).package("transformer_lm", "MusicGen")
    return _save({_file_in(out_file, LM_FILE): package})


def export_encodec(checkpoint_path: str | Path, out_file: str | Path, state: str | None = None) -> Path:
    """Export the codec of a checkpoint of a compression run; as `export_lm`."""
    package = _Run(Path(checkpoint_path), state).package("encodec", "codec")
    return _save({_file_in(out_file, CODEC_FILE): package})


def export_pretrained_compression_model(pretrained_encodec: str, out_file: str | Path) -> Path:
    """Export the codec that a language model needs: only its name where the peer knows it, else the codec itself.

    Args:
        pretrained_encodec: a codec's name as `loaders.load_compression_model` takes it.
        out_file: the file, or a folder that gets a `compression_state_dict.bin`.
    Raises:
        UserError: nothing by that name, or it cannot be written in the peer's layout.
    """
    return _save({_file_in(out_file, CODEC_FILE): _codec_package(str(pretrained_encodec))})


def export_run(
    run: str | Path, out_dir: str | Path, state: str | None = None, epoch: int | None = None, replace: bool = False
) -> Path:
    """Export a run as a model folder.

    Args:
        run: signature, run folder, or a checkpoint file.
        out_dir: the folder; an earlier export of the same run in it is replaced.
        state: `ema`, `best` or `model`; None for the averaged weights where the run kept some, else the last.
        epoch: take the checkpoint that was kept for this epoch (1 is the first); None takes the last one.
        replace: also replace another model in that folder.
    Returns:
        The folder.
    Raises:
        UserError: no such run, epoch or state, another model in the folder, a damaged file, a full disk.
    """
    out_dir = Path(out_dir)
    taken = _Run(find_checkpoint(run, epoch), state)
    if not replace:
        _check_free(out_dir, taken.checkpoint.get("xp.sig"))
    if taken.state == "best" and _valid_samples(taken.cfg) <= 1:
        logger.warning("'best' was picked on one validation sample: that is noise; --state ema is the safer choice")
    is_codec = taken.cfg.get("solver") == "compression"
    codec = None if is_codec else loaders.trained_codec(taken.cfg, taken.path)
    kept = codec == str(taken.path.parent / CODEC_FILE)
    facts = {
        "run": taken.checkpoint.get("xp.sig"),
        "checkpoint": taken.path.name,
        "epoch": len(taken.history) or None,
        "state": taken.state,
        "codec": str(taken.cfg.compression_model_checkpoint) if kept else codec,
        "metrics": taken.history[-1] if taken.history else {},
        "version": __version__,
    }
    files: dict[Path, Package | str] = {}
    if codec is None:
        files[out_dir / CODEC_FILE] = taken.package("encodec", "codec")
    else:
        files[out_dir / CODEC_FILE] = _codec_package(codec)
        files[out_dir / LM_FILE] = taken.package("transformer_lm", "MusicGen")
    files[out_dir / "export.json"] = json.dumps(facts, indent=2) + "\n"
    _save(files)
    if codec is None:
        # A folder that once held a language model must not keep it beside another codec.
        (out_dir / LM_FILE).unlink(missing_ok=True)
    return out_dir


def _check_free(folder: Path, run: str | None) -> None:
    """Refuse a folder that holds a model of anything but this run."""
    if not any((folder / name).exists() for name in (LM_FILE, CODEC_FILE)):
        return
    try:
        held = json.loads((folder / "export.json").read_text(encoding="utf-8"))["run"]
    except (OSError, ValueError, KeyError, TypeError):
        held = None
    if held is None or held != run:
        what = "another model" if held is None else f"the model of run {held}"
        raise UserError(f"{folder} holds {what}; give another --out, or --replace")


def find_checkpoint(run: str | Path, epoch: int | None = None) -> Path:
    """The checkpoint file of a run, the last one or that of an epoch.

    Raises:
        UserError: there is no such run or the epoch was not kept.
    """
    last = resolve_checkpoint_path(run)
    if last is None:
        raise UserError(
            f"there is no run {str(run)!r} with a checkpoint (signatures are looked up in "
            f"{AudioCraftEnvironment.get_dora_dir() / 'xps'}); give its signature or its folder"
        )
    if epoch is None:
        return last
    kept = dict(numbered_checkpoints(last.parent))
    if epoch not in kept:
        have = f"epochs kept: {', '.join(map(str, kept))}" if kept else "none was kept, see checkpoint.save_every"
        raise UserError(f"{last.parent} has no checkpoint of epoch {epoch}; {have}")
    return kept[epoch]


class _Run:
    """A run's checkpoint and the weights chosen from it."""

    def __init__(self, path: Path, state: str | None) -> None:
        self.path = path
        self.checkpoint = read_package(path)
        self.cfg = package_config(self.checkpoint, path)
        self.state, self._weights = select_state(self.checkpoint, state, path)
        self.history: list[dict[str, tp.Any]] = self.checkpoint.get("history") or []

    def package(self, section: str, kind: str) -> Package:
        """What the export file will hold; the run's config must have `section`, else it is no run of that `kind`."""
        if section not in self.cfg:
            raise UserError(
                f"{self.path} is not a checkpoint of a {kind} run (its config has no {section}); give another run"
            )
        return _package(self._weights, export_config(self.cfg))


def _codec_package(name: str) -> Package:
    """What the export file of a codec will hold: its name where the peer knows it, else the codec itself."""
    bare = name.removeprefix("//pretrained/")
    if bare in PEER_CODECS:
        return {"pretrained": bare, "exported": True, "version": __version__}
    if Path(name).name == CODEC_FILE and "pretrained" in (named := loaders.load_compression_model_ckpt(name)):
        return _codec_package(named["pretrained"])
    package = loaders.codec_package(name)
    return _package(package["best_state"], export_config(package_config(package, package["path"])))


def _package(weights: dict[str, torch.Tensor], cfg: str) -> Package:
    # clone: a tensor that views a larger storage would drag all of it into the file.
    state = {
        name: value.clone() if value.untyped_storage().nbytes() != value.nbytes else value.contiguous()
        for name, value in as_float32(weights).items()
    }
    return {"best_state": state, "xp.cfg": cfg, "version": __version__, "exported": True}


def _save(files: tp.Mapping[Path, Package | str]) -> Path:
    """Write all files (packages by torch, texts as they are) before the first takes the place of a former one.

    Returns:
        The path of the first.
    """
    with ExitStack() as ready:
        for path, content in files.items():
            temporary = ready.enter_context(atomic_path(path))
            if isinstance(content, str):
                temporary.write_text(content, encoding="utf-8")
            else:
                torch.save(content, temporary)
    return next(iter(files))


def _file_in(out: str | Path, name: str) -> Path:
    out = Path(out)
    return out / name if out.is_dir() else out


def _valid_samples(cfg: tp.Any) -> int:
    dataset = cfg.get("dataset") or {}
    return int((dataset.get("valid") or {}).get("num_samples") or dataset.get("num_samples") or 0)
