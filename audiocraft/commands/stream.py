"""`stream MODEL`: sound as it is being made, to a player or into a file."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError


def stream(
    model: Annotated[str, typer.Argument(help="Model folder, run (signature or folder), or hub id.")],
    out: Annotated[
        Path, typer.Option("--out", help="New WAV file, or a pipe; '-' is the standard output, for a player.")
    ] = Path("-"),
    raw: Annotated[bool, typer.Option("--raw", help="16-bit samples without a WAV header.")] = False,
    duration: Annotated[float, typer.Option("--duration", help="Seconds, a prompt included.")] = 60.0,
    seed: Annotated[int | None, typer.Option("--seed", min=0, max=1 << 53, help="Drawn if not given.")] = None,
    temperature: Annotated[float, typer.Option("--temperature", help="Above 1 wilder, below 1 tamer.")] = 1.0,
    top_k: Annotated[int, typer.Option("--top-k", help="Choose among the k likeliest codes; 0: all.")] = 250,
    top_p: Annotated[float, typer.Option("--top-p", help="Above 0: the likeliest codes up to this probability.")] = 0.0,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always the likeliest code.")] = False,
    prompt: Annotated[Path | None, typer.Option("--prompt", help="Audio file to continue.")] = None,
    prompt_duration: Annotated[
        float | None, typer.Option("--prompt-duration", help="Use that many seconds of it (default: at most half).")
    ] = None,
    text: Annotated[str | None, typer.Option("--text", help="Description, for models trained with text.")] = None,
    cfg: Annotated[float, typer.Option("--cfg", help="Strength of the description.")] = 3.0,
    chunk: Annotated[float, typer.Option("--chunk", help="Seconds per chunk; the first ones are shorter.")] = 1.0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    precision: Annotated[
        str, typer.Option("--precision", help="auto, float32, int8 (CPU), bfloat16 or float16 (GPU).")
    ] = "auto",
) -> None:
    """Make one piece of any length and give out its sound (16 bits) while it is being made: `| ffplay -nodisp -i -`."""
    from .generate import check_choices

    _check_out(out)
    check_choices(temperature, greedy, prompt, prompt_duration)

    import torch

    from ..models import MusicGen
    from .generate import check_text, read_prompt
    from .wav_stream import WavStream

    musicgen = MusicGen.get_pretrained(model, device, precision)
    check_text(musicgen, model, text)
    musicgen.set_generation_params(
        duration=duration,
        use_sampling=not greedy,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        cfg_coef=cfg,
    )
    start = read_prompt(prompt, prompt_duration, duration) if prompt else None
    if seed is None:
        seed = int(torch.randint(1 << 31, ()))
    chunks = musicgen.stream(
        descriptions=[text],
        prompt=start and start.wav[None],
        prompt_sample_rate=start and start.sample_rate,
        chunk=chunk,
        seed=seed,
    )
    with WavStream(out, musicgen.sample_rate, musicgen.audio_channels, raw, duration) as sink:
        print(f"seed {seed}, {duration:g} s, {musicgen.precision} on {musicgen.device}", file=sys.stderr)
        for wav in chunks:
            sink.write(wav[0])


def _check_out(out: Path) -> None:
    """Whether sound can go there, as far as can be told before any is made."""
    if str(out) == "-":
        if sys.stdout is None:
            raise UserError("the standard output is closed; pipe it into a player (| ffplay -nodisp -i -)")
        if sys.stdout.isatty():
            raise UserError(
                "a terminal plays no sound; pipe it into a player (| ffplay -nodisp -i -), or give --out FILE"
            )
    elif out.is_dir():
        raise UserError(f"--out {out} is a folder; give the name of a file in it")
    elif out.is_file():
        raise UserError(f"--out {out} is there already; give another name")
