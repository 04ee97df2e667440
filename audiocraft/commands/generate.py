"""`generate MODEL`: takes, each a sound file and a JSON that says how to make it again."""

import dataclasses
import typing as tp
from pathlib import Path

import typer

from ..errors import UserError
from ..utils.takes import chosen
from . import options

if tp.TYPE_CHECKING:
    import torch

    from ..models.musicgen import MusicGen


def generate(
    model: options.Model = options.SHIPPED_MODEL,
    out: options.Takes = Path("takes"),
    num: options.Num = 4,
    duration: options.Duration = 10.0,
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
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    batch_size: tp.Annotated[
        int, typer.Option("--batch-size", min=1, help="Takes made at once; in float32 and int8 it changes no sound.")
    ] = 8,
    format: tp.Annotated[str, typer.Option("--format", help="wav, flac, ogg or mp3.")] = "wav",
) -> None:
    """Generate sound. Every take gets the next free number, and a JSON with its seed and settings."""
    knobs = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p, "cool": cool}
    knobs |= {"repetition": repetition, "greedy": greedy}
    asked = Asked(model, duration, knobs, prompt, prompt_duration, text, cfg)

    import torch

    from ..data.audio import written_suffix

    written_suffix(format)  # asked before anything is made
    musicgen, start = asked.load(device, precision)
    facts = {
        **_model_facts(model, musicgen),
        "settings": musicgen.settings,
        "text": text,
        "prompt": start and start.facts,
    }
    facts |= {"device": str(musicgen.device), "precision": musicgen.precision, "torch": torch.__version__}
    _make(musicgen, num, options.drawn(seed), batch_size, text, start, facts, out, format)


class Prompt(tp.NamedTuple):
    """The sound to continue, and what a take's JSON says about it."""

    wav: "torch.Tensor"  # [C, T]
    sample_rate: int
    facts: dict[str, tp.Any]


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a model is to play; `knobs` are those of the sampler by name, None where they were not given.

    Raises:
        UserError: what can be told before anything is loaded.
    """

    model: str
    duration: float
    knobs: dict[str, tp.Any]
    prompt: Path | None
    prompt_duration: float | None
    text: str | None
    cfg: float

    def __post_init__(self) -> None:
        if self.prompt is None and self.prompt_duration is not None:
            raise UserError("--prompt-duration needs a --prompt FILE; give one, or leave it out")
        try:
            chosen(self.knobs, {})
        except ValueError as error:
            raise UserError(str(error)) from error

    def load(self, device: str, precision: str) -> "tuple[MusicGen, Prompt | None]":
        """The model, with its settings, and what it continues."""
        from ..models import MusicGen

        musicgen = MusicGen.get_pretrained(self.model, device, precision)
        if self.text is not None and not musicgen.lm.condition_provider.text_conditions:
            raise UserError(f"{self.model} was trained without text; leave --text out")
        knobs = {name: value for name, value in self.knobs.items() if name != "greedy"}
        musicgen.set_generation_params(
            use_sampling=not self.knobs.get("greedy"), duration=self.duration, cfg_coef=self.cfg, **knobs
        )
        return musicgen, self._read_prompt(self.prompt) if self.prompt else None

    def _read_prompt(self, path: Path) -> Prompt:
        """The beginning of a file: what was asked for, else the whole file where it is at most half of the duration."""
        from ..data.audio import audio_info, audio_read

        seconds = self.prompt_duration
        if not path.is_file():
            what = "a folder, not an audio file" if path.is_dir() else "not there"
            raise UserError(f"--prompt {path} is {what}; give an audio file")
        if seconds is not None and not 0 < seconds < self.duration:
            raise UserError(f"--prompt-duration {seconds:g} must lie between 0 and the duration ({self.duration:g} s)")
        length = audio_info(path).duration
        seconds = min(length, self.duration / 2 if seconds is None else seconds)
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
