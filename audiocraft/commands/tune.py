"""`tune MODEL --against MATERIAL`: the settings of the sampler that make a model sound most like its material."""

import shlex
import typing as tp
from pathlib import Path

import typer

from ..errors import UserError
from ..utils.tables import cell, text_table
from . import options
from .audio_files import check_file, find_audio, listening, tell, write_record

if tp.TYPE_CHECKING:
    from ..metrics.copied import Material
    from ..metrics.sound import Sound
    from ..metrics.tuning import Figures, Trial
    from ..models.codec import CompressionModel
    from ..models.musicgen import MusicGen

_EXCERPTS = 24
_COLUMNS = {"distance": 1, "beat": 2, "repetition": 2, "difference": 2, "copied": 3, "silence": 2}  # and their decimals


def tune(
    model: options.Model,
    against: tp.Annotated[
        Path,
        typer.Option(
            "--against", metavar="MATERIAL", help="What the model was trained on: folder, manifest (.jsonl) or file."
        ),
    ],
    out: tp.Annotated[
        Path | None, typer.Option("--out", help="Folder for the model with the settings that were chosen.")
    ] = None,
    num: tp.Annotated[int, typer.Option("--num", min=2, help="Takes for each setting, made at once.")] = 16,
    duration: tp.Annotated[float, typer.Option("--duration", help="Seconds of each take.")] = 10.0,
    seed: tp.Annotated[
        int, typer.Option("--seed", min=0, max=1 << 53, help="Take i of every setting uses SEED + i.")
    ] = 0,
    codes: tp.Annotated[
        bool, typer.Option("--codes/--no-codes", help="Code the material to find copies: a second per half minute.")
    ] = True,
    device: options.Device = "auto",
    replace: options.Replace = False,
    json_file: options.Json = None,
) -> None:
    """Find the settings of the sampler with which a model's free takes sound most like its material.

    About a dozen settings are played, from the wild to the tame and then around the best. Each gets a score, lower is
    better: how far its takes are from the material, and what they lack in beat and in differences between them, or
    have too much of: loops, copies, silence. With --out the model is exported with the best, which it then plays with
    unless told otherwise; without, options for `export` and `generate` are printed. docs/SOUND.md says how it is
    reckoned.
    """
    from tqdm import tqdm

    from ..metrics.tuning import MOST_TRIALS, player, ranked, search, told, written
    from ..models.export import check_export, export_model
    from .export import show
    from .takes import check_folder

    folder = Path(model).expanduser()
    if folder.is_dir() and any(folder.glob("*.onnx")):
        raise UserError(f"{model} is a player without torch (ONNX); give the run or the model it was exported from")
    check_file(json_file, ".json")
    options.check_seconds("--duration", duration)
    files = find_audio(against)
    if not files:
        raise UserError(f"{against} holds nothing but runs and takes made here; give what the model was trained on")
    if out is not None:
        check_folder(out)
        check_export(model, out, replace)
    musicgen = _load(model, device)
    material, trained_on = _listen(files, duration, musicgen.compression_model if codes else None)
    own, trials = musicgen.own_sampling, []
    with tqdm(total=MOST_TRIALS, desc="Settings", delay=0.2) as bar:
        for trial in search(player(musicgen, num, duration, seed), material, trained_on, own):
            trials.append(trial)
            bar.update()
        bar.total = bar.n
    trials = ranked(trials)
    best = trials[0].sampling
    typer.echo(_table(trials))
    typer.echo(f"\nchosen: --sampling {written(best, own)}")
    if json_file is not None:
        facts = {"model": model, "against": against.resolve().name, "num": num, "duration": duration, "seed": seed}
        facts |= {"chosen": told(best, own), "material": trials[0].material}
        write_record(json_file, {**facts, "trials": [trial.record() for trial in trials]})
        typer.echo(str(json_file))
    if out is not None:
        show(export_model(model, out, replace=replace, sampling=told(best, own)))
        return
    call, name = "python -m audiocraft", shlex.quote(model)
    given = " ".join(f"--{knob.replace('_', '-')} {value:g}" for knob, value in told(best, own).items())
    typer.echo(f"keep:   {call} export {name} --sampling {written(best, own)} --out DIR")
    typer.echo(f"listen: {call} generate {name} {given}")


def _load(model: str, device: str) -> "MusicGen":
    from ..models import MusicGen

    musicgen = MusicGen.get_pretrained(model, device, "auto")
    if musicgen.lm.condition_provider.text_conditions:
        raise UserError(f"{model} was trained with texts, and what it plays hangs on them; tune takes a model without")
    return musicgen


def _listen(
    files: list[str], seconds: float, codec: "CompressionModel | None"
) -> "tuple[list[Sound], Material | None]":
    """Excerpts as long as the takes, spread over the material, and with a codec the codes of all of it."""
    from ..metrics.copied import Material
    from ..metrics.sound import measure
    from ..metrics.sound_files import cut, encode_files, read_piece, seconds_of

    pieces, sounds = cut(files, _EXCERPTS, seconds), []
    skipped: list[tuple[str, str]] = []
    total = seconds * len(pieces) + (seconds_of(files) if codec is not None else 0)
    with listening(total) as advance:
        for piece in pieces:
            wav = read_piece(piece, skipped)
            advance(seconds)
            if wav is not None:
                sounds.append(measure(wav, piece.name))
        whole = encode_files(codec, files, advance) if codec is not None and sounds else []
    tell(skipped)
    if not sounds:
        path, reason = skipped[-1]
        raise UserError(f"none of the material can be read ({path}: {reason}); give other audio")
    return sounds, Material(whole, window=max(1, round(codec.frame_rate))) if codec is not None else None


def _table(trials: "list[Trial]") -> str:
    """One line a setting, the material above them."""
    from ..metrics.tuning import written

    def row(name: str, score: float | None, values: "Figures") -> list[str]:
        return [name, cell(score), *(cell(values[key], decimals) for key, decimals in _COLUMNS.items())]

    rows = [row("material", None, trials[0].material)]
    rows += [row(written(trial.sampling), trial.score, trial.figures) for trial in trials]
    return text_table(["", "score", *_COLUMNS], rows, least=10, gap=1)
