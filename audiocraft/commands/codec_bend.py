"""`codec bend IN`: audio through a codec whose codes are bent on the way."""

import typing as tp
from pathlib import Path

import typer

from ..errors import UserError
from . import options
from .audio_files import find_audio

if tp.TYPE_CHECKING:
    import torch

    from ..explore.recipe import Recipe
    from ..models.codec import CompressionModel, Decoder

_GIVEN = f"{__name__}.given"


def _note(ctx: typer.Context, param: typer.CallbackParam, values: list[str] | None) -> list[str] | None:
    """Keep the order in which the operations were given: options are processed in it."""
    for value in values or []:
        ctx.meta.setdefault(_GIVEN, []).append((str(param.name).replace("_", "-"), value))
    return values


def _operation(option: str, metavar: str, help: str) -> tp.Any:
    return typer.Option(option, metavar=metavar, help=help, callback=_note)


def bend(
    ctx: typer.Context,
    source: tp.Annotated[Path, typer.Argument(metavar="IN", help="Audio file, or a folder of them.")],
    drop: tp.Annotated[
        list[str] | None, _operation("--drop", "K", "Leave out codebooks, such as 1 or 3,4; the first one too.")
    ] = None,
    swap: tp.Annotated[list[str] | None, _operation("--swap", "A:B", "Two codebooks read each other's codes.")] = None,
    shuffle: tp.Annotated[
        list[str] | None, _operation("--shuffle", "LENGTH[@K]", "Blocks of that length change places.")
    ] = None,
    hold: tp.Annotated[
        list[str] | None, _operation("--hold", "LENGTH[@K]", "Sample and hold: one frame sounds for that long.")
    ] = None,
    stutter: tp.Annotated[
        list[str] | None, _operation("--stutter", "LENGTH[@K]", "Blocks of that length repeat, 2 to 4 times.")
    ] = None,
    reverse: tp.Annotated[
        list[str] | None, _operation("--reverse", "LENGTH|all[@K]", "Backwards, in blocks or as a whole.")
    ] = None,
    permute_codes: tp.Annotated[
        list[str] | None, _operation("--permute-codes", "K|all", "The entries of codebooks change places.")
    ] = None,
    rate: tp.Annotated[
        list[str] | None, _operation("--rate", "SPEED", "2: every second frame; 0.5: each twice. Pitch stays.")
    ] = None,
    lookup: tp.Annotated[
        list[str] | None,
        _operation("--lookup", "CODEC", "Read the codes in another codec's codebooks, of the same width."),
    ] = None,
    buzz: tp.Annotated[
        bool, typer.Option("--buzz", help="A click per frame instead of tones and noise; of spectral codecs.")
    ] = False,
    amount: tp.Annotated[
        float | None,
        typer.Option("--amount", min=0, max=1, help="Share of frames, blocks or entries touched (default: all)."),
    ] = None,
    codec: tp.Annotated[str, typer.Option("--codec", help="Encodes and decodes.")] = options.SHIPPED_CODEC,
    seed: options.Seed = None,
    num: tp.Annotated[int, typer.Option("--num", min=1, help="How many takes of each file.")] = 1,
    start: tp.Annotated[float, typer.Option("--start", min=0, help="Begin at that second of the input.")] = 0.0,
    duration: tp.Annotated[float | None, typer.Option("--duration", help="Use that many seconds of it.")] = None,
    out: options.Takes = Path("outputs/bent"),
    device: options.Device = "auto",
) -> None:
    """Bend sound: encode it, disturb its codes, decode. Without operations each seed draws some.

    LENGTH is seconds (0.25) or frames of the codec (5f); @1,2 behind it chooses codebooks. Operations apply in the
    order given, those of one kind together where the first stands. The input is brought to the codec's rate and
    channels; all operations but --rate keep its length. With --lookup too it is the decoder of --codec that plays.
    Every take gets the next free number, and a JSON with its seed and operations.
    """
    import torch

    from ..explore.recipe import lookup_names, parse_recipe
    from ..models.loaders import load_compression_model
    from ..utils.device import codec_device
    from .takes import check_folder

    files = [str(source)] if source.is_file() else find_audio(source)
    if not files:
        raise UserError(f"{source} holds nothing but runs and takes made here; give a folder of other audio")
    options.check_seconds("--start", start, "from 0")
    options.check_seconds("--duration", duration)
    where = codec_device(device)
    model = load_compression_model(codec, where)
    recipe = ctx.meta.get(_GIVEN, [])
    names = lookup_names(parse_recipe(recipe, model))
    player = model.bent_decoder([(name, load_compression_model(name, where)) for name in names], buzz)
    check_folder(out)
    facts: dict[str, tp.Any] = {"codec": codec, "codec_fingerprint": _fingerprint(codec)}
    facts |= {"lookup": {name: _fingerprint(name) for name in names}} if names else {}
    facts |= {"buzz": True} if buzz else {}
    facts |= {"device": str(where), "torch": torch.__version__}
    seed = options.drawn(seed)
    job = _Job(model, player, recipe, amount, range(seed, seed + num), start, duration, out, facts)
    _bend_all(files, job, alone=not source.is_dir())


class _Job(tp.NamedTuple):
    """What is done to each file."""

    codec: "CompressionModel"
    player: "Decoder"
    recipe: "Recipe"  # empty: drawn by the seed
    amount: float | None  # None: all, or drawn with the recipe
    seeds: range
    start: float
    duration: float | None
    out: Path
    facts: dict[str, tp.Any]


def _fingerprint(codec: str) -> str | None:
    """What tells its weights apart; None for the debug codec, which has no file."""
    from ..checkpoints.packages import codec_package
    from ..checkpoints.weights import fingerprint

    return None if codec.endswith("debug_compression_model") else fingerprint(codec_package(codec)["path"])


def _bend_all(files: list[str], job: _Job, alone: bool) -> None:
    """Bend each file; of several, those that cannot be read are told of and left out."""
    from ..data.audio import UnreadableAudio

    failed: list[str] = []
    for path in files:
        try:
            wav, facts = _read(path, job)
        except UnreadableAudio as error:
            if alone:
                raise
            failed.append(f"{path}: {error.reason}")
            typer.echo(f"left out {failed[-1]}", err=True)
            continue
        _bend_file(path, wav, facts, job)
    if len(failed) == len(files):
        raise UserError(f"none of the {len(files)} files could be bent ({failed[0]}); give other audio")


def _read(path: str, job: _Job) -> tuple["torch.Tensor", dict[str, tp.Any]]:
    """Audio [1, C, T] as the codec takes it, and what it was."""
    from torch.nn import functional as F

    from ..data.audio import UnreadableAudio, audio_read
    from ..data.audio_utils import convert_audio

    given, sample_rate = audio_read(path, job.start, -1 if job.duration is None else job.duration)
    if not given.shape[-1]:
        reason = f"it holds no sound from {job.start:g} s on" if job.start else "it holds no sound of that length"
        raise UnreadableAudio(f"{path}: {reason}; check --start and --duration", path, reason)
    wav = convert_audio(given, sample_rate, job.codec.sample_rate, job.codec.channels)
    # Of a few samples at a high rate nothing may be left.
    wav = F.pad(wav, (0, max(0, 1 - wav.shape[-1])))
    facts = {"file": path, "start": job.start, "seconds": given.shape[-1] / sample_rate}
    return wav[None], {**facts, "sample_rate": sample_rate, "channels": given.shape[0]}


def _bend_file(path: str, wav: "torch.Tensor", source: dict[str, tp.Any], job: _Job) -> None:
    import dataclasses

    import torch

    from ..explore.recipe import bend_codes, parse_recipe, random_recipe, total_speed
    from .takes import save_take

    device = next(iter(job.codec.state_dict().values())).device
    with torch.no_grad():
        codes, scale = job.codec.encode(wav.to(device))
        for seed in job.seeds:
            recipe, amount = job.recipe, 1.0
            if not recipe:
                recipe, amount = random_recipe(job.codec.num_codebooks, torch.Generator().manual_seed(seed))
            amount = amount if job.amount is None else job.amount
            bends = parse_recipe(recipe, job.codec)
            # A generator of its own, so that the recipe drawn and the same one given make the same sound.
            generator = torch.Generator().manual_seed(seed)
            bent = bend_codes(codes.cpu(), bends, job.codec.cardinality, amount, generator)
            length = max(1, round(wav.shape[-1] / total_speed(bends)))
            result = job.player.decode(bent.to(device), scale)[0, :, :length]
            options = _options(recipe, amount)
            facts = {
                "input": source,
                "seed": seed,
                "command": _command(path, seed, options, job),
                "amount": amount,
                "operations": [_plain(dataclasses.asdict(each)) for each in bends],
                **job.facts,
            }
            take = save_take(job.out, result, job.codec.sample_rate, facts)
            unmoved = "  (changed nothing: too short, or nothing touched)" if torch.equal(bent, codes.cpu()) else ""
            typer.echo(f"{take}  seed {seed}  {' '.join(options)}{unmoved}")


def _plain(bend: dict[str, tp.Any]) -> dict[str, tp.Any]:
    return {key: value for key, value in bend.items() if value is not None}


def _options(recipe: "Recipe", amount: float) -> list[str]:
    """The operations as they are given on the command line."""
    return [text for option, value in recipe for text in (f"--{option}", value)] + ["--amount", str(amount)]


def _command(path: str, seed: int, options: list[str], job: _Job) -> str:
    """The command that makes this take again."""
    import shlex

    stretch = ["--start", str(job.start)] if job.start else []
    stretch += ["--duration", str(job.duration)] if job.duration is not None else []
    words = ["python", "-m", "audiocraft", "codec", "bend", path, "--codec", job.facts["codec"]]
    words += ["--buzz"] if job.facts.get("buzz") else []
    return shlex.join([*words, "--seed", str(seed), *options, *stretch])
