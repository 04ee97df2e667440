"""`codec train FOLDER`: a codec of one's own, from the one that ships or from nothing."""

import typing as tp
from pathlib import Path

import typer

from ..errors import UserError
from . import options
from .folder import exit_if_stopped, train_on

# From trained weights: a lower rate, and less of it.
_FINE_TUNING = {
    "encodec": ["optim.lr=2e-4", "optim.epochs=8", "schedule.cosine.warmup=50"],
    "spectral": ["optim.epochs=4"],
}
_RECIPES = {"encodec": "encodec_mini_32khz", "spectral": "spectral_32khz"}


def train(
    folder: options.Folder,
    overrides: tp.Annotated[
        list[str] | None, typer.Argument(help="Any key of the configuration, e.g. losses.l1=1 optim.lr=1e-4.")
    ] = None,
    start: tp.Annotated[
        str, typer.Option("--from", metavar="CODEC", help="Weights to begin with; `nothing` begins anew.")
    ] = options.SHIPPED_CODEC,
    epochs: tp.Annotated[
        int | None,
        typer.Option("--epochs", min=1, help="Epochs of 50 steps (network: 100); more trains a run on."),
    ] = None,
    kind: tp.Annotated[
        str, typer.Option("--kind", help="From nothing: spectral, without a network, or encodec, as mini_32khz.")
    ] = "spectral",
    device: options.Device = "auto",
) -> object:
    """Train a codec on a folder of audio. The same command again resumes, after Ctrl-C too.

    It has the shape of the one that it begins with. A codec hears everything as what it was trained on: that is the
    instrument.
    """
    from ..utils.overrides import quote

    if kind not in _RECIPES:
        raise UserError(f"--kind {kind} is not served; choose one of {', '.join(_RECIPES)}")
    begin: list[str] = []
    if start != "nothing":
        start, kind = _find(start)
        begin = [f"continue_from={quote(start)}", *_FINE_TUNING[kind]]
    recipe = [f"solver=compression/{_RECIPES[kind]}", *begin]
    if epochs is not None:
        recipe.append(f"optim.epochs={epochs}")
    if device != "auto":
        recipe.append(f"device={device}")
    result = train_on(folder, recipe, overrides or [])
    if result.epochs:
        typer.echo(f"\nto use the codec of run {result.sig} ({result.epochs} epochs, {result.folder}):")
        typer.echo(
            f"  python -m audiocraft codec eval {result.sig} FOLDER --against //pretrained/spectral_32khz --out eval"
        )
        typer.echo(f"  python -m audiocraft codec bend SOUND.wav --codec //sig/{result.sig}")
        typer.echo(f"  python -m audiocraft train FOLDER --codec //sig/{result.sig}")
    exit_if_stopped(result)
    return result


def _find(codec: str) -> tuple[str, str]:
    """The name of a codec to begin with, as the configuration takes it, and its kind; asked before a long look through
    the folder.

    Raises:
        UserError: there is none of that name, or no name.
    """
    from ..checkpoints.configs import package_config
    from ..checkpoints.locate import shipped_codec
    from ..checkpoints.packages import codec_package

    if not codec.strip():
        raise UserError("--from is empty; name a codec, or begin anew with --from nothing")
    package = codec_package(codec)
    kind = "spectral" if "spectral" in package_config(package, package["path"]) else "encodec"
    is_bare = "/" not in codec and not Path(codec).exists()
    return f"//pretrained/{codec}" if is_bare and shipped_codec(codec) else codec, kind
