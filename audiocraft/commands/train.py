"""`train FOLDER`: manifests, held-out files, token cache and training, without any YAML."""

import math
import typing as tp
from pathlib import Path

import typer

from ..errors import UserError
from . import options
from .folder import exit_if_stopped, train_on

# What small models learn more from in the same time than by the recipe, which is laid for micro (docs/TRAINING.md).
_SMALL = (
    *("optim.optimizer=muon", "optim.ema.decay=0.995", "optim.updates_per_epoch=100"),
    *("tokens.loss_share=0.25", "tokens.corruption=0.1", "transformer_lm.attention_dropout=0.0"),
)
_RECIPES: dict[str, tuple[str, ...]] = {
    "pico": (
        *(*_SMALL, "transformer_lm.dropout=0.1", "transformer_lm.positional_embedding=rope"),
        *("optim.lr=3e-3", "optim.muon.lr=6e-3", "schedule.cosine.warmup=60"),
    ),
    "nano": ("optim.lr=1e-3",),
}
# To fine-tune: by how many parameters a model has at most, a third of the rates that it is trained with from nothing.
_FINE_TUNING: tuple[tuple[float, tuple[str, ...]], ...] = (
    (10e6, (*_SMALL, "optim.lr=1e-3", "optim.muon.lr=2e-3", "schedule.cosine.warmup=20")),
    (50e6, ("optim.lr=3e-4", "schedule.cosine.warmup=50")),
    (math.inf, ("optim.lr=6e-5", "schedule.cosine.warmup=50")),
)


def train(
    folder: options.Folder,
    overrides: tp.Annotated[
        list[str] | None,
        typer.Argument(help="Any key of the configuration, e.g. optim.epochs=10 dataset.batch_size=4."),
    ] = None,
    scale: tp.Annotated[
        str | None,
        typer.Option(
            "--scale",
            help="Size of the model: pico or nano for CPUs, micro, small, … (config/model/lm/model_scale; "
            "default: micro).",
        ),
    ] = None,
    epochs: tp.Annotated[
        int | None,
        typer.Option(
            "--epochs",
            min=1,
            help="Epochs of 500 steps, of 100 for small models (default: 40); more than before trains a run on.",
        ),
    ] = None,
    codec: tp.Annotated[
        str | None,
        typer.Option(
            "--codec",
            help="Codec: a folder, a run of `codec train` (//sig/SIG), or a hub id; default the one that ships (MIT). "
            "facebook/encodec_32khz is CC-BY-NC 4.0.",
        ),
    ] = None,
    start: tp.Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Fine-tune this model (folder, run, hub id, //pretrained/NAME): its weights, shape and codec.",
        ),
    ] = None,
    device: options.Device = "auto",
) -> object:
    """Train a model on a folder of audio. The same command again resumes, after Ctrl-C too."""
    if start is None:
        scale = scale or "micro"
        recipe = _anew(scale, codec)
    else:
        scale, begin = _from(start, scale, codec, overrides or [])
        recipe = ["solver=musicgen/micro_32khz", *begin]
    if epochs is not None:
        recipe.append(f"optim.epochs={epochs}")
    if device != "auto":
        recipe.append(f"device={device}")
    result = train_on(folder, recipe, overrides or [], scale)
    if result.epochs:
        out = Path("models") / result.sig
        typer.echo(f"\nto listen to run {result.sig} ({result.epochs} epochs, {result.folder}):")
        typer.echo(f"  python -m audiocraft export {result.sig} --out {out}")
        typer.echo(f"  python -m audiocraft generate {out} --duration 10 --num 4 --out takes/{result.sig}")
    exit_if_stopped(result)
    return result


def recipe_of(scale: str) -> list[str]:
    """Overrides that train a model of that scale from nothing."""
    from ..utils.overrides import quote

    return ["solver=musicgen/micro_32khz", f"model/lm/model_scale={quote(scale)}", *_RECIPES.get(scale, ())]


def _anew(scale: str, codec: str | None) -> list[str]:
    """Overrides for a model of that scale."""
    from ..utils.overrides import quote

    recipe = recipe_of(scale)
    if codec is not None:
        recipe.append(f"compression_model_checkpoint={quote(codec)}")
    return recipe


def _from(start: str, scale: str | None, codec: str | None, overrides: list[str]) -> tuple[str | None, list[str]]:
    """Scale of a model that begins with another, where it has one of ours, and overrides for it."""
    from .origin import find_origin

    if chosen := [text for text in overrides if text.startswith("model/lm")]:
        raise UserError(f"{chosen[0]} has no say beside --from: the model keeps its shape; leave it out")
    origin = find_origin(start, scale, codec)
    typer.echo(origin.summary)
    recipe = next(recipe for most, recipe in _FINE_TUNING if origin.parameters <= most)
    return origin.scale, [*origin.overrides, *recipe]
