"""`stream MODEL`: sound as it is being made, to a player or into a file."""

import os
import sys
import typing as tp
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError

if tp.TYPE_CHECKING:
    import torch

# A WAV header names the size before it is known; players take this one for "until it ends".
_UNKNOWN_SIZE = 0xFFFFFFFF


def stream(
    model: Annotated[str, typer.Argument(help="Model folder, run (signature or folder), or hub id.")],
    out: Annotated[
        Path, typer.Option("--out", help="WAV file to write; '-' is the standard output, for a player.")
    ] = Path("-"),
    raw: Annotated[bool, typer.Option("--raw", help="16-bit samples without a WAV header.")] = False,
    duration: Annotated[float, typer.Option("--duration", help="Seconds, a prompt included.")] = 60.0,
    seed: Annotated[int | None, typer.Option("--seed", min=0, max=1 << 53, help="Drawn if not given.")] = None,
    temperature: Annotated[float, typer.Option("--temperature", help="Above 1 wilder, below 1 tamer.")] = 1.0,
    top_k: Annotated[int, typer.Option("--top-k", help="Choose among the k likeliest codes; 0: all.")] = 250,
    top_p: Annotated[float, typer.Option("--top-p", help="Above 0: the likeliest codes up to this probability.")] = 0.0,
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
    to_file = str(out) != "-"
    if not to_file and sys.stdout.isatty():
        raise UserError("a terminal plays no sound; pipe it into a player (| ffplay -nodisp -i -), or give --out FILE")
    if prompt is None and prompt_duration is not None:
        raise UserError("--prompt-duration needs a --prompt FILE; give one, or leave it out")

    import torch

    from ..models import MusicGen
    from .generate import read_prompt

    musicgen = MusicGen.get_pretrained(model, device, precision)
    musicgen.set_generation_params(duration=duration, temperature=temperature, top_k=top_k, top_p=top_p, cfg_coef=cfg)
    start = read_prompt(prompt, prompt_duration, duration) if prompt else None
    if seed is None:
        seed = int(torch.randint(1 << 31, ()))
    print(f"seed {seed}, {duration:g} s, {musicgen.precision} on {musicgen.device}", file=sys.stderr)
    chunks = musicgen.stream(
        descriptions=[text],
        prompt=start and start.wav[None],
        prompt_sample_rate=start and start.sample_rate,
        chunk=chunk,
        seed=seed,
    )
    written = 0
    with _sink(out) as file:
        if not raw:
            file.write(_wav_header(musicgen.sample_rate, musicgen.audio_channels, _UNKNOWN_SIZE))
        for wav in chunks:
            written += file.write(_pcm16(wav[0]))
            file.flush()
        if to_file and not raw:
            file.seek(0)
            file.write(_wav_header(musicgen.sample_rate, musicgen.audio_channels, written))


@contextmanager
def _sink(out: Path) -> tp.Iterator[tp.BinaryIO]:
    """Where the samples go: a file that has its name only when it is whole, or the standard output.

    Raises UserError where whoever reads the standard output has gone.
    """
    from ..utils.files import atomic_path

    if str(out) != "-":
        if out.is_dir():
            raise UserError(f"--out {out} is a folder; give the name of a file in it")
        with atomic_path(out) as path, open(path, "wb") as file:
            yield file
        return
    try:
        yield sys.stdout.buffer
        sys.stdout.flush()
    except BrokenPipeError as error:
        # Python flushes once more when it ends, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise UserError("the player has closed the pipe; the rest was not made") from error


def _pcm16(wav: "torch.Tensor") -> bytes:
    """wav [C, t] in [-1, 1] → interleaved little-endian 16-bit samples; what is beyond is cut."""
    samples = wav.t().cpu().contiguous().numpy()
    if samples.size and not bool((samples == samples).all()):
        raise UserError("the model makes no numbers any more (NaN); try another precision or another model")
    return (samples.clip(-1, 1) * 32767).round().astype("<i2").tobytes()


def _wav_header(sample_rate: int, channels: int, data_bytes: int) -> bytes:
    """Header of a WAV file of 16-bit samples (RIFF, one `fmt ` and one `data` chunk)."""
    import struct

    block = 2 * channels
    riff = min(data_bytes + 36, _UNKNOWN_SIZE)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, sample_rate, sample_rate * block, block, 16)
    return struct.pack("<4sI4s", b"RIFF", riff, b"WAVE") + form + struct.pack("<4sI", b"data", data_bytes)
