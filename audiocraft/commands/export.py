"""`export MODEL_OR_RUN --out DIR`: a trained run, or a model of any layout, becomes a model folder."""

import shlex
import typing as tp
from pathlib import Path

import typer

from ..errors import UserError
from ..utils.takes import KNOBS, own_knobs
from . import options


def export(
    model: tp.Annotated[
        str, typer.Argument(help="Run (signature, folder or checkpoint), or a model or codec (folder or hub id).")
    ],
    out: tp.Annotated[Path, typer.Option("--out", help="Folder for the model.")],
    format: tp.Annotated[
        str | None,
        typer.Option(
            "--format",
            help="peer (state_dict.bin, as audiocraft reads it), safetensors (model.safetensors, config.yaml and a "
            "model card, ready for hf upload) or onnx (with a player that needs no torch). Default: peer, or "
            "safetensors for what audiocraft cannot decode.",
        ),
    ] = None,
    quantize: tp.Annotated[
        str | None,
        typer.Option(
            "--quantize", help="With onnx: int8 (the default: a quarter of the size, faster) or none (float32)."
        ),
    ] = None,
    state: tp.Annotated[
        str | None,
        typer.Option(
            "--state",
            help="Which weights of a run: ema (running average, the default where the run kept one), best (lowest "
            "validation loss; with one validation sample that is noise) or model (the last step).",
        ),
    ] = None,
    epoch: tp.Annotated[
        int | None, typer.Option("--epoch", help="Take the checkpoint kept for this epoch (checkpoint.save_every).")
    ] = None,
    sampling: tp.Annotated[
        str | None,
        typer.Option(
            "--sampling",
            help=f"What it plays with unless told otherwise, as temperature=0.9,min_p=0.05; of {', '.join(KNOBS)}.",
        ),
    ] = None,
    replace: options.Replace = False,
) -> None:
    """Write a run as a model folder that plays here and in audiocraft, or a model in another layout."""
    knobs = _knobs(sampling)
    if format == "onnx":
        how = {"quantize": quantize or "int8", "state": state, "epoch": epoch, "replace": replace, "sampling": knobs}
        _export_player(model, out, **how)
        return

    from ..models.export import FORMATS, export_model

    if format is not None and format not in FORMATS:
        raise UserError(f"there is no format {format!r}; choose one of {', '.join((*FORMATS, 'onnx'))}")
    if quantize is not None:
        raise UserError(f"--quantize goes with --format onnx, not {format or 'the others'}; leave it out")
    folder = export_model(model, out, state, epoch, replace, format, knobs)
    show(folder)


def show(folder: Path) -> None:
    """Say how large an export is, and how to upload and to hear it."""
    from ..checkpoints.locate import WEIGHTS_FILE

    size = sum(file.stat().st_size for file in folder.rglob("*") if file.suffix in (".bin", ".safetensors")) / 2**20
    typer.echo(f"{folder}: {size:.1f} MiB")
    if (folder / WEIGHTS_FILE).is_file():
        typer.echo("upload: " + shlex.join(["hf", "upload", f"NAME/{folder.resolve().name}", str(folder)]))
    if _plays(folder):
        takes = shlex.join(["--out", str(folder / "takes")])
        typer.echo(f"listen: python -m audiocraft generate {shlex.quote(str(folder))} --duration 10 --num 4 {takes}")


def _knobs(text: str | None) -> dict[str, float]:
    """`NAME=NUMBER,…` → the knobs. Raises UserError where it is not that."""
    knobs: dict[str, float] = {}
    for part in text.split(",") if text else ():
        name, _, value = part.partition("=")
        try:
            knobs[name.strip()] = float(value)
        except ValueError as error:
            raise UserError(f"--sampling {part.strip()} says nothing; write temperature=0.9,min_p=0.05") from error
    if wrong := own_knobs(knobs)[1]:
        raise UserError(f"--sampling does not work: {wrong[0]}")
    return knobs


def _export_player(model: str, out: Path, **how: tp.Any) -> None:
    try:
        from ..onnx_player.export import export_named_player
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise UserError("--format onnx needs the package onnx; run: pip install onnx onnxruntime") from error

    folder = export_named_player(model, out, **how)
    size = sum(file.stat().st_size for file in folder.glob("*.weights")) / 2**20
    typer.echo(f"{folder}: {size:.1f} MiB")
    player = shlex.quote(str(folder / "player.py"))
    typer.echo(f"listen (pip install numpy onnxruntime): python {player} --duration 10 --num 4 --out takes")


def _plays(folder: Path) -> bool:
    """Whether the folder holds a language model, and not a codec alone."""
    from ..checkpoints.configs import read_config
    from ..checkpoints.locate import CONFIG_FILE, LM_FILE

    config = folder / CONFIG_FILE
    return (folder / LM_FILE).is_file() or (config.is_file() and "transformer_lm" in read_config(config))
