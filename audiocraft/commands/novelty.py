"""`novelty MODEL_OR_TAKES --train MANIFEST`: does it play, or does it replay what it was trained on?"""

import typing as tp
from pathlib import Path

import typer

from ..errors import UserError
from . import options
from .audio_files import check_file, tell, write_record

if tp.TYPE_CHECKING:
    from ..metrics.novelty import Case, Trace
    from ..metrics.novelty_page import Pair
    from ..models.codec import CompressionModel
    from .novelty_audio import Take

    Named = tuple[Case, str, str]  # with the names of the take and of the file that it is closest to

_TOLD = 3  # of the closest stretches


def novelty(
    sources: tp.Annotated[
        list[str], typer.Argument(metavar="MODEL_OR_TAKES...", help="A model to play, or takes: a folder or files.")
    ],
    train: tp.Annotated[
        str | None,
        typer.Option(
            "--train", metavar="MANIFEST", help="What it was trained on: a manifest (.jsonl), folder, file or run."
        ),
    ] = None,
    held_out: tp.Annotated[
        Path | None,
        typer.Option("--held-out", metavar="MANIFEST", help="Like it, but not trained on: the scale."),
    ] = None,
    codec: tp.Annotated[
        str | None,
        typer.Option("--codec", help="Whose codes tell what is copied. Default: that which made the takes."),
    ] = None,
    codes: tp.Annotated[
        bool, typer.Option("--codes/--no-codes", help="Compare codes too; where training left none they are made.")
    ] = True,
    num: tp.Annotated[int, typer.Option("--num", min=1, help="Takes that a model plays.")] = 8,
    duration: tp.Annotated[float, typer.Option("--duration", help="Seconds of each.")] = 10.0,
    seed: tp.Annotated[int, typer.Option("--seed", min=0, max=1 << 53, help="Take i uses SEED + i.")] = 0,
    json_file: options.Json = None,
    page: tp.Annotated[
        Path | None, typer.Option("--page", metavar="FILE", help="An HTML page that plays the closest seconds.")
    ] = None,
    device: options.Device = "auto",
) -> None:
    """Say how much of what a model plays is copied from what it was trained on.

    For every second of the takes the closest second of the training audio: by codes for what is repeated word for word,
    by a fingerprint of the sound for what was shifted, made louder or coded anew. What was held out from training shows
    how near new music comes by itself: copies begin where at most 1 % of it reaches. A run knows what it was trained on
    and what it held out; with any other model, and with takes, --train is needed. docs/NOVELTY.md says how it is done.
    """
    from ..metrics.novelty import HELD_OUT, TAKES, judge
    from ..metrics.novelty_page import CASES, table, told, write_page
    from . import novelty_audio as audio

    for path, ending in ((json_file, ".json"), (page, ".html")):
        check_file(path, ending)
    options.check_seconds("--duration", duration)
    model = audio.find_model(sources)
    if model is not None and codec is not None:
        raise UserError(f"{model} has a codec of its own, which tells what is copied; leave --codec out")
    if model is not None and duration < 1:
        raise UserError(f"takes of {duration:g} s are too short to look up; give a --duration of a second or more")
    source, apart = _manifests(train, held_out, model)
    files = audio.Audio.find([] if model else sources, source, apart)
    compression, codec_name, skipped = None, None, list[tuple[str, str]]()
    if model is not None:
        musicgen = audio.load_model(model, device, duration)
        compression, codec_name = musicgen.compression_model, musicgen.files.get("codec")
    elif codes:
        compression, codec_name = _load_codec(codec, files.takes, device)
    material, prints = audio.fingerprints(files.material, skipped)
    index = audio.cached_codes(compression, material) if compression is not None and codes else None
    takes = audio.play(musicgen, num, seed) if model is not None else audio.from_files(files.takes)
    traces = audio.look_up(takes, prints, compression, index, TAKES, skipped)
    held = audio.look_up(audio.kept_apart(files.held_out, skipped), prints, compression, index, HELD_OUT, skipped)
    tell(skipped)
    if not traces:
        raise UserError(f"none of the takes can be looked up ({skipped[-1][1]}); give takes of a second or more")
    report = judge([one for one, _ in traces], [one for one, _ in held])
    looked_up = [take for _, take in traces]
    facts = "; ".join(_minutes(name, group) for name, group in report.groups.items())
    facts += f"; training: {len(material)} file{'s' if len(material) != 1 else ''}"
    named = [(case, looked_up[case.take].name, Path(material[case.item]).name) for case in report.worst(CASES)]
    typer.echo("\n\n".join([facts, table(report), "\n".join(told(*each) for each in named[:_TOLD])]))
    if report.copied(TAKES) is None:
        typer.echo("nothing in the takes can be heard, so nothing can be told")
    for note in report.notes:
        typer.echo(note)
    if json_file is not None:
        of = [model] if model is not None else [Path(name).resolve().name for name in sources]
        write_record(
            json_file,
            {"of": of, "codec": codec_name if codes else None, "closest": list(map(_plain, named)), **report.record()},
        )
    if page is not None:
        pairs = _pairs(named, looked_up, material)
        write_page(report, pairs, f"Is it new? {model or ', '.join(sources)}", facts, page)
    if written := [str(path) for path in (json_file, page) if path is not None]:
        typer.echo("\n" + "\n".join(written))


def _manifests(train: str | None, held_out: Path | None, model: str | None) -> tuple[Path, Path | None]:
    """Where the training audio is listed, and what was held out from it: as given, else as the run says."""
    from .novelty_audio import manifests, run_checkpoint

    checkpoint = None
    if train is None:
        checkpoint = run_checkpoint(model) if model is not None else None
        if checkpoint is None:
            raise UserError("what was it trained on? Give --train with a manifest (.jsonl), a folder or a run")
    elif not Path(train).exists() or Path(train).is_dir():
        checkpoint = run_checkpoint(train)
    if checkpoint is None:
        assert train is not None
        return Path(train), held_out
    trained_on, kept_apart = manifests(checkpoint)
    return trained_on, held_out or kept_apart


def _load_codec(codec: str | None, takes: tp.Sequence[str], device: str) -> tuple["CompressionModel", str]:
    """The codec that was asked for, else the one that made the takes, else the one that ships."""
    from ..models.loaders import load_compression_model
    from ..utils.device import codec_device
    from .novelty_audio import own_codecs

    own, where = own_codecs(takes), codec_device(device)
    if codec is None and len(own) == 1:
        try:
            return load_compression_model(own[0], where), own[0]
        except UserError as error:
            typer.echo(f"the codec of the takes is not there ({error})", err=True)
    name = codec or options.SHIPPED_CODEC
    if others := [other for other in own if other != name]:
        typer.echo(
            f"takes were made with {', '.join(others)}, and are compared by codes of {name}, which finds fewer copies; "
            "--codec chooses",
            err=True,
        )
    return load_compression_model(name, where), name


def _minutes(name: str, group: "tp.Sequence[Trace]") -> str:
    minutes, seconds = divmod(round(sum(one.seconds for one in group)), 60)
    return f"{name}: {len(group)}, {minutes}:{seconds:02d} min"


def _plain(named: "Named") -> dict[str, tp.Any]:
    from dataclasses import asdict

    case, take, source = named
    values = {key: round(value, 3) if isinstance(value, float) else value for key, value in asdict(case).items()}
    return {**values, "take": take, "item": source}


def _pairs(named: "tp.Sequence[Named]", takes: "tp.Sequence[Take]", material: tp.Sequence[str]) -> "list[Pair]":
    """Both sides of each case to listen to, of those that can still be read."""
    from ..metrics.novelty_page import CONTEXT_SECONDS, Pair
    from .novelty_audio import from_files

    files, pairs = from_files(material), []
    for case, take, source in named:
        before = min(CONTEXT_SECONDS, case.start, case.at)
        seconds = before + 1 + CONTEXT_SECONDS
        ours = takes[case.take].read(case.start - before, seconds)
        theirs = files[case.item].read(case.at - before, seconds)
        if ours is not None and theirs is not None:
            pairs.append(Pair(case, take, source, ours, theirs))
    return pairs
