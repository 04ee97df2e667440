"""Turn a codec run into a folder that ships: model.safetensors, config.yaml, training.json.

    python scripts/make_codec_asset.py RUN --out assets/mini_32khz

RUN is a run's signature, folder or checkpoint. The folder loads by its path, and under assets/ as //pretrained/NAME.
Where RUN went on from an asset, --before names that asset's training.json: what it tells is kept.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from told import tell

from audiocraft import __version__
from audiocraft.checkpoints.checkpoint import load_checkpoint, resolve_checkpoint_path
from audiocraft.checkpoints.configs import package_config
from audiocraft.checkpoints.packages import is_codec
from audiocraft.checkpoints.weights import select_state, write_safetensors
from audiocraft.errors import UserError
from audiocraft.utils.files import atomic_path, read_json, write_json, write_text
from audiocraft.utils.hub import is_hub_id

MODEL_KEYS = ("solver", "sample_rate", "channels", "compression_model", "encodec", "seanet", "spectral", "rvq")
_MOST_RUNS = 20  # that may have gone on from each other
TRAINING_KEYS = ("seed", "losses", "balancer", "mel", "msspec", "optim", "schedule")
SPECTRAL_KEYS = ("seed", "rvq")  # nothing takes a gradient: no losses, no rate


def make_asset(run: str, out: Path, state: str | None, dtype: str, before: Path | None = None) -> list[str]:
    """Write the three files; returns lines that say what was done.

    Args:
        run: signature, run folder or checkpoint file.
        state: `ema`, `best` or `model`; None for the averaged weights where there are some.
        dtype: `float16` or `float32`, of the tensors on disk; they are float32 again once loaded.
        before: training.json of the codec that the run went on from.

    Raises:
        UserError: no such run or state, not a codec, or `before` tells of no training.
    """
    path = resolve_checkpoint_path(run)
    if path is None:
        raise UserError(f"{run} leads to no checkpoint; give a run's signature, folder or .th file")
    checkpoint = load_checkpoint(path)
    cfg = package_config(checkpoint, path)
    if not is_codec(cfg):
        raise UserError(f"{path} is not a run of solver=compression/…; give a codec run")
    chosen, weights = select_state(checkpoint, state, path)
    kind = getattr(torch, dtype)
    tensors = {name: value.to(kind).contiguous() for name, value in weights.items()}
    if bad := [name for name, value in tensors.items() if not torch.isfinite(value).all()]:
        raise UserError(f"{bad[0]} does not fit into {dtype}; use --dtype float32, or an earlier checkpoint")

    earlier = trainings(before) if before else []
    history = checkpoint.get("history") or []
    resolved: Any = OmegaConf.to_container(cfg, resolve=False)
    facts = {
        "version": __version__,
        "weights": chosen,
        "epochs": len(history),
        # Where nothing takes a gradient the optimizer counts nothing.
        "steps": updates_done(checkpoint) or len(history) * int(cfg.optim.updates_per_epoch or 0),
        "batch_size": int(cfg.dataset.batch_size),
        "segment_duration": float(cfg.dataset.segment_duration),
        "train_seconds": round(sum(epoch["train"]["duration"] for epoch in history if "train" in epoch)),
        **{key: _plain(resolved[key]) for key in (SPECTRAL_KEYS if "spectral" in cfg else TRAINING_KEYS)},
        "continue_from": begun_with(cfg),
        "history": [{stage: _rounded(metrics) for stage, metrics in epoch.items()} for epoch in history],
    }
    if earlier:
        facts["before"] = earlier
    # The model alone: where somebody's audio and runs lay is no part of it.
    model_cfg = OmegaConf.masked_copy(cfg, [key for key in MODEL_KEYS if key in cfg])
    with atomic_path(out / "model.safetensors") as file:
        write_safetensors(tensors, file)
    write_text(out / "config.yaml", OmegaConf.to_yaml(model_cfg, resolve=True))
    write_json(out / "training.json", facts, indent=1)
    size = (out / "model.safetensors").stat().st_size / 1e6
    return [f"{chosen} weights after {facts['steps']} steps of {path}", f"written to {out} ({size:.1f} MB)"]


def trainings(path: Path) -> list[dict[str, Any]]:
    """The runs that a training.json tells of, the earliest first.

    Raises:
        UserError: it is not one.
    """
    try:
        last = read_json(path)
        earlier = last.pop("before", [])
        assert "history" in last
    except (OSError, ValueError, AttributeError, TypeError, AssertionError):
        raise UserError(f"{path} does not tell of a training; give the training.json of a codec's folder") from None
    return [*earlier, last]


def updates_done(checkpoint: dict[str, Any]) -> int:
    """Updates of a run as its optimizer counted them: where segments do not last, epochs have fewer than asked for."""
    optimizer = checkpoint.get("optimizer") or {}
    counts = [state["step"] for state in (optimizer.get("state") or {}).values() if "step" in state]
    counts += [group["k"] for group in optimizer.get("param_groups") or [] if "k" in group]  # dadam's
    return int(max(counts, default=0))


def begun_with(cfg: Any) -> list[str]:
    """What a run went on from, and what that went on from, as long as its run is there; of paths only the last part."""
    names: list[str] = []
    while (name := cfg.get("continue_from")) and len(names) < _MOST_RUNS:
        names.append(_without_place(str(name)))
        path = resolve_checkpoint_path(name)
        if path is None or path.suffix != ".th":
            break
        try:
            cfg = package_config(load_checkpoint(path), path)
        except UserError:  # damaged since: it is no part of this codec
            break
    return names


def _without_place(name: str) -> str:
    if cached := re.search(r"models--([\w.-]+?)--([\w.-]+)", name):  # a folder of the hub's cache
        return f"{cached[1]}/{cached[2]}"
    prefix, bare = name.startswith("//pretrained/") * "//pretrained/", name.removeprefix("//pretrained/")
    if bare.startswith("//") or is_hub_id(bare):
        return name
    path = Path(bare)
    return prefix + (path.parent.name if path.suffix in (".bin", ".th", ".safetensors") else path.name)


def _plain(node: Any) -> Any:
    """A config node without what is not set and without references to other nodes."""
    if not isinstance(node, dict):
        return node
    plain = {key: _plain(value) for key, value in node.items() if value is not None and "${" not in str(value)}
    return {key: value for key, value in plain.items() if value != {}}


def _rounded(metrics: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.5g}") for name, value in metrics.items()}


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and write the asset; returns the exit status."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="signature, folder or checkpoint of a codec run")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--state", choices=["ema", "best", "model"], help="default: ema where the run kept one")
    parser.add_argument("--dtype", choices=["float16", "float32"], default="float16", help="on disk")
    parser.add_argument("--before", type=Path, help="training.json of the codec that the run went on from")
    options = parser.parse_args(argv)
    return tell(lambda: make_asset(options.run, options.out, options.state, options.dtype, options.before))


if __name__ == "__main__":
    sys.exit(main())
