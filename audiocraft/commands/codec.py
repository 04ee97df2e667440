"""`codec …`: what is done with a codec alone: `train` one, measure it with `eval`, play with it with `bend`."""

import typing as tp
from pathlib import Path

import typer

from ..errors import UserError
from . import audio_files, options
from .codec_bend import bend
from .codec_train import train

if tp.TYPE_CHECKING:
    from ..metrics.codec_eval import Evaluation

RECORD = "eval.json"

app = typer.Typer(
    help="Train or measure a codec, or bend sound with one.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _root() -> None:
    """Train or measure a codec, or bend sound with one."""


app.command("train", context_settings={"ignore_unknown_options": True})(train)
app.command("bend")(bend)


@app.command("eval")
def evaluate(
    codec: tp.Annotated[
        str,
        typer.Argument(
            help="Codec: //pretrained/spectral_32khz (MIT), a folder, a run, or a hub id (facebook/encodec_32khz is "
            "CC-BY-NC 4.0)."
        ),
    ],
    folder: tp.Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of audio, best such as the codec never saw.")
    ],
    against: tp.Annotated[
        list[str] | None, typer.Option("--against", metavar="CODEC", help="Another codec; may be repeated.")
    ] = None,
    seconds: tp.Annotated[
        float | None, typer.Option("--seconds", min=0.1, help="Only the first so many seconds of each file.")
    ] = None,
    out: tp.Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for eval.json and eval.png.")
    ] = None,
    replace: options.Replace = False,
    opus: tp.Annotated[bool, typer.Option("--opus/--no-opus", help="Opus at 6 and 12 kb/s beside it.")] = True,
    device: options.Device = "auto",
) -> None:
    """Say how well a codec gives a folder of audio back: distances, use of its codebooks, bits and speed.

    Beside it: Opus, the same codec with 1, 2 and 3 codebooks, silence, and a spectrum that stands still.
    """
    import torch
    from tqdm import tqdm

    from ..data.scan import scan_folder
    from ..metrics.codec_eval import evaluate
    from ..metrics.codec_table import table
    from ..metrics.coders import with_references
    from ..models.loaders import load_compression_model
    from ..utils.device import codec_device
    from .takes import check_folder

    options.check_seconds("--seconds", seconds)
    names = [codec, *(against or [])]
    known_as = labels(names)
    if out is not None:  # asked before anything is measured
        check_folder(out)
        check_replaced(out / RECORD, known_as[0], replace)
    where = codec_device(device)
    first, *others = zip([load_compression_model(name, where) for name in names], known_as)
    coders = with_references(*first, others, opus)
    report = scan_folder(folder, workers=4, shortest=0)
    length = sum(min(meta.duration, seconds or meta.duration) for meta in report.meta)
    bar_format = "{l_bar}{bar}| {n:.0f}/{total:.0f} s [{elapsed}<{remaining}]"
    with tqdm(total=length * len(coders), desc="Measuring", bar_format=bar_format) as bar:
        model = first[0]
        paths = [meta.path for meta in report.meta]
        result = evaluate(coders, paths, model.sample_rate, model.channels, seconds, where, bar.update)
    result.skipped = report.skipped + result.skipped
    typer.echo(table(result, torch.get_num_threads(), str(where)))
    if out is not None:
        from ..metrics.codec_figure import draw, take_excerpt

        facts = {"seconds_per_file": seconds, "device": str(where), "threads": torch.get_num_threads()}
        audio_files.write_record(out / RECORD, _record(result, folder) | facts)
        draw(result, take_excerpt(result, coders, device=where), out / "eval.png")
        typer.echo(f"\n{out / RECORD}\n{out / 'eval.png'}")


def check_replaced(path: Path, codec: str, replace: bool) -> None:
    """Refuse to lose what was measured of another codec; a codec's own evaluation may be made anew.

    Raises:
        UserError: the record at `path` is another codec's, or nothing that this command wrote.
    """
    from ..utils.files import read_json

    if replace or not path.exists():
        return
    try:
        other = read_json(path)["codec"]
    except (OSError, ValueError, TypeError, KeyError):
        other = "something else"
    if other != codec:
        raise UserError(f"{path} holds the evaluation of {other}; give another --out, or --replace")


def _record(evaluation: "Evaluation", folder: Path) -> dict[str, tp.Any]:
    """An evaluation as plain values, its files by their path within `folder`."""

    def inside(file: str) -> str:
        return Path(file).relative_to(folder).as_posix() if Path(file).is_relative_to(folder) else file

    scores = [score.record() for score in evaluation.scores]
    for score in scores:
        for file in score["files"]:
            file["file"] = inside(file["file"])
    return {
        "codec": evaluation.scores[0].name,
        "folder": folder.resolve().name,
        "seconds": round(evaluation.seconds, 2),
        "sample_rate": evaluation.sample_rate,
        "channels": evaluation.channels,
        "scores": scores,
        "skipped": [{"file": inside(file), "reason": reason} for file, reason in evaluation.skipped],
    }


def labels(names: tp.Sequence[str]) -> list[str]:
    """Short names of codecs for tables: the last part of each, the whole where that would not tell them apart."""
    short = []
    for name in names:
        path = Path(name)
        short.append(path.parent.name if path.suffix in (".bin", ".th", ".safetensors") else path.name)
    short = [name if label in ("", "..") or short.count(label) > 1 else label for name, label in zip(names, short)]
    return [f"{name} ({short[:i].count(name) + 1})" if name in short[:i] else name for i, name in enumerate(short)]
