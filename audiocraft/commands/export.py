"""`export RUN --out DIR`: a trained run becomes a model folder."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[str, typer.Argument(help="Signature of the run, its folder, or a checkpoint file.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the model.")],
    state: Annotated[
        str | None,
        typer.Option(
            "--state",
            help="Which weights: ema (running average, the default where the run kept one), best (lowest validation "
            "loss; with one validation sample that is noise) or model (the last step).",
        ),
    ] = None,
    epoch: Annotated[
        int | None, typer.Option("--epoch", help="Take the checkpoint kept for this epoch (checkpoint.save_every).")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Also replace another model in that folder.")] = False,
) -> None:
    """Write a run as a model folder that plays here and in audiocraft."""
    from ..models.export import export_run

    folder = export_run(run, out, state, epoch, replace)
    size = sum(file.stat().st_size for file in folder.glob("*.bin")) / 2**20
    typer.echo(f"{folder}: {size:.1f} MiB")
    if (folder / "state_dict.bin").is_file():
        typer.echo(f"listen: python -m audiocraft generate {folder} --duration 10 --num 4 --out {folder / 'takes'}")
