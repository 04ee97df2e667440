"""`manifest FOLDER OUT`: list the audio of a folder for training by hand."""

from pathlib import Path
from typing import Annotated

import typer


def manifest(
    folder: Annotated[Path, typer.Argument(help="Folder of audio files.")],
    out: Annotated[Path, typer.Argument(help="The manifest to write, e.g. egs/mine/data.jsonl (or .jsonl.gz).")],
    complete: Annotated[
        bool, typer.Option("--complete", help="Decode every file: finds silent and broken ones.")
    ] = False,
    resolve: Annotated[bool, typer.Option("--resolve", help="Write absolute paths.")] = False,
) -> None:
    """Write the manifest (data.jsonl) of a folder, and say what was left out and why."""
    from ..data.audio_dataset import main

    arguments = [str(folder), str(out), *(["--complete"] if complete else []), *(["--resolve"] if resolve else [])]
    if code := main(arguments):
        raise typer.Exit(code)
