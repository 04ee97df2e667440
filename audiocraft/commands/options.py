"""What several commands are asked in the same words."""

import math
import typing as tp
from dataclasses import fields
from pathlib import Path

import typer

from ..errors import UserError
from ..utils.takes import Sampling

_KNOBS = {knob.name: knob.metadata["help"] for knob in fields(Sampling)}

Device = tp.Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
Folder = tp.Annotated[Path, typer.Argument(help="Folder of audio files.")]
Replace = tp.Annotated[bool, typer.Option("--replace", help="Also replace what is there of another model or codec.")]
Takes = tp.Annotated[Path, typer.Option("--out", help="Folder for the takes; earlier ones in it are kept.")]
Num = tp.Annotated[int, typer.Option("--num", min=1, help="How many takes.")]
Seed = tp.Annotated[
    int | None,
    typer.Option(
        "--seed", min=0, max=1 << 53, help="The same gives the same; take i uses SEED + i. Drawn if not given."
    ),
]

# Of playing a model.
Model = tp.Annotated[str, typer.Argument(help="Model folder, run (signature or folder), or hub id.")]
Duration = tp.Annotated[float, typer.Option("--duration", help="Seconds, a prompt included.")]
Temperature = tp.Annotated[float, typer.Option("--temperature", help=_KNOBS["temperature"])]
TopK = tp.Annotated[int, typer.Option("--top-k", help=_KNOBS["top_k"])]
TopP = tp.Annotated[float, typer.Option("--top-p", help=_KNOBS["top_p"])]
Greedy = tp.Annotated[bool, typer.Option("--greedy", help=_KNOBS["greedy"])]
Prompt = tp.Annotated[Path | None, typer.Option("--prompt", help="Audio file to continue.")]
PromptDuration = tp.Annotated[
    float | None, typer.Option("--prompt-duration", help="Use that many seconds of it (default: at most half).")
]
Text = tp.Annotated[str | None, typer.Option("--text", help="Description, for models trained with text.")]
Cfg = tp.Annotated[float, typer.Option("--cfg", help="Strength of the description.")]
Precision = tp.Annotated[str, typer.Option("--precision", help="auto, float32, int8 (CPU), bfloat16 or float16 (GPU).")]


def drawn(seed: int | None) -> int:
    """The seed that was given, or one drawn from torch."""
    import torch

    return int(torch.randint(1 << 31, ())) if seed is None else seed


def check_seconds(option: str, seconds: float | None, least: str = "above 0") -> None:
    """Refuse a length that is none.

    Raises:
        UserError: it is not above 0 (or 0, where the least is `from 0`), or infinite.
    """
    if seconds is not None and not (0 < seconds < math.inf or (seconds == 0 and least == "from 0")):
        raise UserError(f"{option} {seconds:g} is no length; give seconds {least}")
