"""`generate MODEL`: takes, each a sound file and a JSON that says how to make it again."""

import typing as tp
from pathlib import Path
from typing import Annotated

import typer

if tp.TYPE_CHECKING:
    import torch

    from ..models.musicgen import MusicGen


def generate(
    model: Annotated[str, typer.Argument(help="Model folder, run (signature or folder), or hub id.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the takes; earlier ones in it are kept.")] = Path(
        "takes"
    ),
    num: Annotated[int, typer.Option("--num", min=1, help="How many.")] = 4,
    duration: Annotated[float, typer.Option("--duration", help="Seconds, a prompt included.")] = 10.0,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=1 << 53, help="Take i uses SEED + i. Drawn if not given.")
    ] = None,
    temperature: Annotated[float, typer.Option("--temperature", help="Above 1 wilder, below 1 tamer.")] = 1.0,
    top_k: Annotated[int, typer.Option("--top-k", help="Choose among the k likeliest codes; 0: all.")] = 250,
    top_p: Annotated[float, typer.Option("--top-p", help="Above 0: the likeliest codes up to this probability.")] = 0.0,
    greedy: Annotated[
        bool, typer.Option("--greedy", help="Always the likeliest code; every take is the same.")
    ] = False,
    prompt: Annotated[Path | None, typer.Option("--prompt", help="Audio file to continue.")] = None,
    prompt_duration: Annotated[
        float | None, typer.Option("--prompt-duration", help="Use that many seconds of it (default: at most half).")
    ] = None,
    text: Annotated[str | None, typer.Option("--text", help="Description, for models trained with text.")] = None,
    cfg: Annotated[float, typer.Option("--cfg", help="Strength of the description.")] = 3.0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    precision: Annotated[
        str, typer.Option("--precision", help="auto, float32, int8 (CPU), bfloat16 or float16 (GPU).")
    ] = "auto",
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Takes made at once; changes no sound.")] = 8,
    format: Annotated[str, typer.Option("--format", help="wav, flac, ogg or mp3.")] = "wav",
) -> None:
    """Generate sound. Every take gets the next free number, and a JSON with its seed and settings."""
    check_choices(temperature, greedy, prompt, prompt_duration)

    import torch

    from ..data.audio import written_suffix
    from ..models import MusicGen

    written_suffix(format)  # asked before anything is made
    musicgen = MusicGen.get_pretrained(model, device, precision)
    check_text(musicgen, model, text)
    settings: dict[str, tp.Any] = {
        "duration": duration,
        "use_sampling": not greedy,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "cfg_coef": cfg,
    }
    musicgen.set_generation_params(**settings)
    start = read_prompt(prompt, prompt_duration, duration) if prompt else None
    if seed is None:
        seed = int(torch.randint(1 << 31, ()))
    facts = {**_model_facts(model, musicgen), "settings": settings, "text": text, "prompt": start and start.facts}
    facts |= {"device": str(musicgen.device), "precision": musicgen.precision, "torch": torch.__version__}
    _make(musicgen, num, seed, batch_size, text, start, facts, out, format)


def check_choices(temperature: float, greedy: bool, prompt: Path | None, prompt_duration: float | None) -> None:
    """What can be told before anything is loaded."""
    from ..errors import UserError

    if prompt is None and prompt_duration is not None:
        raise UserError("--prompt-duration needs a --prompt FILE; give one, or leave it out")
    if not temperature > 0 and not greedy:
        raise UserError(f"--temperature {temperature:g} is not above 0; for the likeliest codes give --greedy")


def check_text(musicgen: "MusicGen", name: str, text: str | None) -> None:
    """Whether the model of that name reads a text, where there is one."""
    from ..errors import UserError

    if text is not None and not musicgen.lm.condition_provider.text_conditions:
        raise UserError(f"{name} was trained without text; leave --text out")


class Prompt(tp.NamedTuple):
    """The sound to continue, and what a take's JSON says about it."""

    wav: "torch.Tensor"  # [C, T]
    sample_rate: int
    facts: dict[str, tp.Any]


def read_prompt(path: Path, seconds: float | None, duration: float) -> Prompt:
    """The beginning of a file: what was asked for, else the whole file where it is at most half of the duration."""
    from ..data.audio import audio_info, audio_read
    from ..errors import UserError

    if not path.is_file():
        what = "a folder, not an audio file" if path.is_dir() else "not there"
        raise UserError(f"--prompt {path} is {what}; give an audio file")
    if seconds is not None and not 0 < seconds < duration:
        raise UserError(f"--prompt-duration {seconds:g} must lie between 0 and the duration ({duration:g} s)")
    length = audio_info(path).duration
    seconds = min(length, duration / 2 if seconds is None else seconds)
    if seconds < length:
        typer.echo(f"continuing the first {seconds:g} s of {path.name} ({length:.1f} s)", err=True)
    wav, sample_rate = audio_read(path, duration=seconds)
    if not wav.shape[-1]:
        raise UserError(f"there is no sound in {path}; give another --prompt")
    return Prompt(wav, sample_rate, {"file": str(path), "seconds": wav.shape[-1] / sample_rate})


def _model_facts(name: str, musicgen: "MusicGen") -> dict[str, tp.Any]:
    """Which weights: their names, what tells them apart, and the run they came from where the folder says so."""
    import contextlib

    from ..checkpoints.weights import fingerprint
    from ..utils.files import read_json

    facts: dict[str, tp.Any] = {"model": name}
    for kind, file in musicgen.files.items():
        facts[f"{kind}_file"] = file
        if Path(file).is_file():
            facts[f"{kind}_fingerprint"] = fingerprint(file)
    notes = Path(musicgen.files.get("model", "")).parent / "export.json"
    with contextlib.suppress(OSError, ValueError, AttributeError):  # a folder of the peer has none
        exported = read_json(notes)
        facts["trained"] = {key: exported.get(key) for key in ("run", "epoch", "state")}
    return facts


def _make(
    musicgen: "MusicGen",
    num: int,
    seed: int,
    batch_size: int,
    text: str | None,
    prompt: Prompt | None,
    facts: dict[str, tp.Any],
    out: Path,
    format: str,
) -> None:
    from tqdm import tqdm

    from ..models.genmodel import count_frames
    from .takes import check_folder, save_take

    check_folder(out)
    frames = count_frames(facts["settings"]["duration"], musicgen.frame_rate)
    # What is refused at once should not leave a bar behind.
    with tqdm(total=num * frames, desc="Generating", unit="frame", unit_scale=True, delay=0.2) as bar:
        for first in range(0, num, batch_size):
            count = min(batch_size, num - first)

            def show(done: int, total: int, before: int = first * frames, new: int = count * frames) -> None:
                bar.update(before + round(new * done / total) - bar.n)

            musicgen.set_custom_progress_callback(show)
            if prompt is None:
                wavs = musicgen.generate([text] * count, progress=True, seed=seed + first)
            else:
                wavs = musicgen.generate_continuation(
                    prompt.wav.expand(count, -1, -1),
                    prompt.sample_rate,
                    [text] * count,
                    progress=True,
                    seed=seed + first,
                )
            for i, wav in enumerate(wavs):
                path = save_take(out, wav, musicgen.sample_rate, {"seed": seed + first + i, **facts}, format)
                bar.write(f"{path}  seed {seed + first + i}")
