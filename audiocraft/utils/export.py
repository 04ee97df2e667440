"""From a run to a model folder that plays here and in the peer: `state_dict.bin` and `compression_state_dict.bin`.

A file of the folder is a `torch.save` dict: `best_state` (float32 tensors), `xp.cfg` (YAML text), `version`,
`exported: True`; a codec that the peer knows by name is only named: `pretrained`, `version`, `exported`. Beside them
`export.json` says which run, epoch and weights were taken.
"""

import json
import logging
import typing as tp
from pathlib import Path

import torch

from .. import __version__
from ..errors import UserError
from .checkpoint import numbered_checkpoints, resolve_checkpoint_path
from .export_config import export_config
from .files import atomic_path
from .weights import as_float32, package_config, read_package, select_state

logger = logging.getLogger(__name__)

LM_FILE = "state_dict.bin"
CODEC_FILE = "compression_state_dict.bin"
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
    return _export(checkpoint_path, _file_in(out_file, LM_FILE), state, "transformer_lm", "MusicGen")


def export_encodec(checkpoint_path: str | Path, out_file: str | Path, state: str | None = None) -> Path:
    """Export the codec of a checkpoint of a compression run; as `export_lm`."""
    return _export(checkpoint_path, _file_in(out_file, CODEC_FILE), state, "encodec", "codec")


def export_pretrained_compression_model(pretrained_encodec: str, out_file: str | Path) -> Path:
    """Export the codec that a language model needs: only its name where the peer knows it, else the codec itself.

    Args:
        pretrained_encodec: a codec's name as `loaders.load_compression_model` takes it.
        out_file: the file, or a folder that gets a `compression_state_dict.bin`.
    Raises:
        UserError: nothing by that name, or it cannot be written in the peer's layout.
    """
    out_file = _file_in(out_file, CODEC_FILE)
    name = str(pretrained_encodec).removeprefix("//pretrained/")
    if name in PEER_CODECS:
        return _save({"pretrained": name, "exported": True, "version": __version__}, out_file)
    from ..models import loaders

    package = loaders.codec_package(pretrained_encodec)
    if "pretrained" in package:
        return export_pretrained_compression_model(package["pretrained"], out_file)
    cfg = export_config(package_config(package, package["path"]))
    return _save_weights(package["best_state"], cfg, out_file)


def export_run(run: str | Path, out_dir: str | Path, state: str | None = None, epoch: int | None = None) -> Path:
    """Export a run as a model folder.

    Args:
        run: signature, run folder, or a checkpoint file.
        out_dir: the folder; files of an earlier export in it are replaced.
        state: `ema`, `best` or `model`; None for the averaged weights where the run kept some, else the last.
        epoch: take the checkpoint that was kept for this epoch (1 is the first); None takes the last one.
    Returns:
        The folder.
    Raises:
        UserError: no such run, epoch or state, a damaged file, a full disk.
    """
    out_dir = Path(out_dir)
    path = find_checkpoint(run, epoch)
    checkpoint = read_package(path)
    cfg = package_config(checkpoint, path)
    used, _ = select_state(checkpoint, state, path)
    history = checkpoint.get("history") or []
    if used == "best" and _valid_samples(cfg) <= 1:
        logger.warning("'best' was picked on one validation sample: that is noise; --state ema is the safer choice")
    if cfg.get("solver") == "compression":
        export_encodec(path, out_dir / CODEC_FILE, state)
        # A folder that once held a language model must not keep it beside another codec.
        (out_dir / LM_FILE).unlink(missing_ok=True)
    else:
        export_pretrained_compression_model(_codec_name(cfg, path), out_dir / CODEC_FILE)
        export_lm(path, out_dir / LM_FILE, state)
    facts = {
        "run": checkpoint.get("xp.sig"),
        "checkpoint": path.name,
        "epoch": len(history) or None,
        "state": used,
        "codec": cfg.get("compression_model_checkpoint"),
        "metrics": history[-1] if history else {},
        "version": __version__,
    }
    with atomic_path(out_dir / "export.json") as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return out_dir


def find_checkpoint(run: str | Path, epoch: int | None = None) -> Path:
    """The checkpoint file of a run, the last one or that of an epoch.

    Raises:
        UserError: there is no such run or the epoch was not kept.
    """
    last = resolve_checkpoint_path(run)
    if last is None:
        raise UserError(f"there is no run {str(run)!r} with a checkpoint; give its signature or its folder")
    if epoch is None:
        return last
    kept = dict(numbered_checkpoints(last.parent))
    if epoch not in kept:
        have = f"epochs kept: {', '.join(map(str, kept))}" if kept else "none was kept, see checkpoint.save_every"
        raise UserError(f"{last.parent} has no checkpoint of epoch {epoch}; {have}")
    return kept[epoch]


def _export(path: str | Path, out_file: Path, state: str | None, section: str, kind: str) -> Path:
    checkpoint = read_package(path)
    cfg = package_config(checkpoint, path)
    if section not in cfg:
        raise UserError(f"{path} is not a checkpoint of a {kind} run (its config has no {section}); give another run")
    _, weights = select_state(checkpoint, state, path)
    return _save_weights(weights, export_config(cfg), out_file)


def _save_weights(weights: dict[str, torch.Tensor], cfg: str, out_file: Path) -> Path:
    # clone: a tensor that views a larger storage would drag all of it into the file.
    state = {
        name: value.clone() if value.untyped_storage().nbytes() != value.nbytes else value.contiguous()
        for name, value in as_float32(weights).items()
    }
    return _save({"best_state": state, "xp.cfg": cfg, "version": __version__, "exported": True}, out_file)


def _save(package: dict[str, tp.Any], out_file: Path) -> Path:
    with atomic_path(out_file) as temporary:
        torch.save(package, temporary)
    return out_file


def _file_in(out: str | Path, name: str) -> Path:
    out = Path(out)
    return out / name if out.is_dir() else out


def _codec_name(cfg: tp.Any, path: Path) -> str:
    name = cfg.get("compression_model_checkpoint")
    if not name:
        raise UserError(f"{path} does not say which codec it was trained with; it cannot be exported")
    return str(name)


def _valid_samples(cfg: tp.Any) -> int:
    dataset = cfg.get("dataset") or {}
    return int((dataset.get("valid") or {}).get("num_samples") or dataset.get("num_samples") or 0)
