"""`stream MODEL`: sound as it is being made, to a player or into a file."""

import sys
import typing as tp
from contextlib import contextmanager
from pathlib import Path

import typer

from ..errors import UserError
from ..utils.files import disk_told
from ..utils.takes import drop_stdout, most_seconds, open_sound, to_pcm, wav_header
from . import options


def stream(
    model: options.Model = options.SHIPPED_MODEL,
    out: tp.Annotated[
        Path, typer.Option("--out", help="New WAV file, or a pipe; '-' is the standard output, for a player.")
    ] = Path("-"),
    raw: tp.Annotated[bool, typer.Option("--raw", help="16-bit samples without a WAV header.")] = False,
    duration: options.Duration = 60.0,
    seed: options.Seed = None,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    min_p: options.MinP = None,
    cool: options.Cool = None,
    repetition: options.Repetition = None,
    greedy: options.Greedy = False,
    prompt: options.Prompt = None,
    prompt_duration: options.PromptDuration = None,
    text: options.Text = None,
    cfg: options.Cfg = 3.0,
    chunk: tp.Annotated[float, typer.Option("--chunk", help="Seconds per chunk; the first ones are shorter.")] = 1.0,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
) -> None:
    """Make one piece of any length and give out its sound (16 bits) while it is being made: `| ffplay -nodisp -i -`."""
    from .generate import Asked

    _check_out(out)
    knobs = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p, "cool": cool}
    knobs |= {"repetition": repetition, "greedy": greedy}
    asked = Asked(model, duration, knobs, prompt, prompt_duration, text, cfg)

    from ..models.genmodel import count_frames

    musicgen, start = asked.load(device, precision)
    seed = options.drawn(seed)
    chunks = musicgen.stream(
        descriptions=[text],
        prompt=start and start.wav[None],
        prompt_sample_rate=start and start.sample_rate,
        chunk=chunk,
        seed=seed,
    )
    rate, channels = musicgen.sample_rate, musicgen.audio_channels
    samples = count_frames(duration, musicgen.frame_rate) * musicgen.compression_model.hop_length
    most = most_seconds(rate, channels)
    if str(out) != "-" and not out.exists() and not raw and samples > most * rate:
        raise UserError(f"a WAV file holds at most {most} s of this sound; ask for less, or give --raw")
    with _reader(out), open_sound(str(out)) as sink:
        print(f"seed {seed}, {duration:g} s, {musicgen.precision} on {musicgen.device}", file=sys.stderr)
        sink.write(b"" if raw else wav_header(rate, channels, samples))
        for wav in chunks:
            if wav.isnan().any():
                raise UserError("the model makes no numbers any more (NaN); try another precision or another model")
            sink.write(to_pcm(wav[0].cpu().numpy()))
            sink.flush()


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


@contextmanager
def _reader(out: Path) -> tp.Iterator[None]:
    """Whoever reads what is written to `out` inside may go, and a disk may be full; then it ends in one line."""
    place = "behind the standard output" if str(out) == "-" else f"of {out}"
    try:
        with disk_told(f"the disk {place} is full; free some space, the rest was not made", out):
            yield
            if str(out) == "-":
                sys.stdout.flush()
    except BrokenPipeError as error:
        drop_stdout()
        raise UserError("the player has closed the pipe; the rest was not made") from error
    except UserError:
        drop_stdout()
        raise
