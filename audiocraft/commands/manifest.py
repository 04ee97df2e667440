"""`manifest FOLDER OUT`: list the audio of a folder for training by hand."""

import typing as tp
from pathlib import Path

import typer

from . import options


def manifest(
    folder: options.Folder,
    out: tp.Annotated[Path, typer.Argument(help="The manifest to write, e.g. egs/mine/data.jsonl (or .jsonl.gz).")],
    complete: tp.Annotated[
        bool, typer.Option("--complete", help="Decode every file: finds silent and broken ones.")
    ] = False,
    resolve: tp.Annotated[bool, typer.Option("--resolve", help="Write absolute paths.")] = False,
) -> None:
    """Write the manifest (data.jsonl) of a folder, and say what was left out and why."""
    from ..data.audio_dataset import main

    arguments = [str(folder), str(out), *(["--complete"] if complete else []), *(["--resolve"] if resolve else [])]
    if code := main(arguments):
        raise typer.Exit(code)
