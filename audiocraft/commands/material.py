"""`material FOLDER`: what a folder of audio is like, without training on it."""

import typing as tp

import typer

from . import options


def material(
    folder: options.Folder,
    scale: tp.Annotated[
        str, typer.Option("--scale", help="Size of the model that there should be enough for: pico, nano, micro, …")
    ] = "micro",
) -> None:
    """Look at a folder of audio: minutes, silence, loudness, clipping, tempi, doubles, and whether it is enough."""
    from ..data.material import ENOUGH_MINUTES, look_at
    from ..data.scan import scan_folder
    from ..errors import UserError

    if scale not in ENOUGH_MINUTES:
        raise UserError(f"there is no rule of thumb for --scale {scale}; choose one of {', '.join(ENOUGH_MINUTES)}")
    report = scan_folder(folder, workers=4, progress=True, resolve=True)
    typer.echo("\n".join(report.lines()))
    typer.echo("\n".join(look_at(report.meta, progress=True).lines(scale)))
