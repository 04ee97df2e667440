"""What several commands are asked in the same words."""

import math
import typing as tp
from pathlib import Path

import typer

from ..errors import UserError
from ..utils.takes import KNOBS


def _knob(name: str) -> tp.Any:
    """An option that is None unless given: a model may have its own."""
    default = f" Default: the model's own, else {KNOBS[name].default:g}."
    return typer.Option(f"--{name.replace('_', '-')}", help=KNOBS[name].metadata["help"] + default)


Device = tp.Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
Folder = tp.Annotated[Path, typer.Argument(help="Folder of audio files.")]
Json = tp.Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all numbers there.")]
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
SHIPPED_CODEC = "//pretrained/spectral_32khz"
SHIPPED_MODEL = "//pretrained/jungle_pico"
Duration = tp.Annotated[float, typer.Option("--duration", help="Seconds, a prompt included.")]
Temperature = tp.Annotated[float | None, _knob("temperature")]
TopK = tp.Annotated[int | None, _knob("top_k")]
TopP = tp.Annotated[float | None, _knob("top_p")]
MinP = tp.Annotated[float | None, _knob("min_p")]
Cool = tp.Annotated[float | None, _knob("cool")]
Repetition = tp.Annotated[float | None, _knob("repetition")]
Greedy = tp.Annotated[bool, typer.Option("--greedy", help="Always the likeliest code; every take is the same.")]
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
