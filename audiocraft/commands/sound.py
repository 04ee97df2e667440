"""`sound TAKES`: how takes sound, alone and beside the material that a model was trained on."""

import typing as tp
from pathlib import Path

import typer

from ..errors import UserError
from . import options
from .audio_files import check_file, find_audio, listening, tell, write_record

if tp.TYPE_CHECKING:
    import torch

    from ..metrics.copied import Material
    from ..metrics.sound import Sound
    from ..models.codec import CompressionModel

TAKES, MATERIAL, HELD_OUT, RECODED = "takes", "material", "held out", "recoded"


def sound(
    takes: tp.Annotated[list[Path], typer.Argument(metavar="TAKES...", help="Folder of takes, or audio files.")],
    against: tp.Annotated[
        Path | None,
        typer.Option(
            "--against", metavar="MATERIAL", help="What a model was trained on: folder, manifest (.jsonl) or file."
        ),
    ] = None,
    held_out: tp.Annotated[
        Path | None,
        typer.Option("--held-out", metavar="FOLDER", help="Like the material, but no part of it: a yardstick."),
    ] = None,
    codec: tp.Annotated[str, typer.Option("--codec", help="Whose codes tell what is copied.")] = options.SHIPPED_CODEC,
    codes: tp.Annotated[
        bool, typer.Option("--codes/--no-codes", help="Code the material to find copies: a second per half minute.")
    ] = True,
    json_file: options.Json = None,
    figure: tp.Annotated[Path | None, typer.Option("--figure", metavar="FILE", help="Draw it, as a PNG.")] = None,
    verbose: tp.Annotated[bool, typer.Option("--verbose", help="Show every take by itself, too.")] = False,
    device: options.Device = "auto",
) -> None:
    """Say how takes sound: beat, tempo, self-repetition, level, dynamics, silence, brightness, noisiness, low end.

    With --against the same of the material stands beside it, how far the takes are from it in timbre and rhythm, how
    much they differ among themselves, and what share of them is copied from it. `recoded` is the material through the
    codec: as near as takes made of its codes can come. Files are looked at in pieces of 10 s, at most 96 of a folder.
    docs/SOUND.md says what each number means.
    """
    from ..metrics.sound import compare
    from ..metrics.sound_table import table

    if held_out is not None and against is None:
        raise UserError("--held-out stands beside the material; give that with --against")
    for path, ending in ((json_file, ".json"), (figure, ".png")):
        check_file(path, ending)
    model = _load(codec, device) if against is not None and codes else None
    found = _Files(takes, against, held_out)
    heard = _listen(found, model)
    tell(heard.skipped)
    others = {HELD_OUT: heard.sounds[HELD_OUT], RECODED: heard.sounds[RECODED]}
    report = compare(heard.sounds[TAKES], heard.sounds[MATERIAL], others, heard.trained_on)
    typer.echo(table(report, verbose))
    if json_file is not None:
        facts: dict[str, tp.Any] = {"takes": [path.resolve().name for path in takes]}
        facts["codec"] = codec if model is not None else None
        for key, place in (("against", against), ("held_out", held_out)):
            facts[key] = place.resolve().name if place is not None else None
        write_record(json_file, {**facts, "groups": report.record()})
    if figure is not None:
        from ..metrics.sound_figure import draw

        draw(report, heard.strips, figure)
    written = [str(path) for path in (json_file, figure) if path is not None]
    if written:
        typer.echo("\n" + "\n".join(written))


class _Files:
    """The audio files of each group; none is in two, whatever lies within what."""

    def __init__(self, takes: tp.Sequence[Path], against: Path | None, held_out: Path | None) -> None:
        self.takes = [path for place in takes for path in find_audio(place, takes=True)]
        self.held_out = [path for path in (find_audio(held_out) if held_out else []) if path not in self.takes]
        others = {*self.takes, *self.held_out}
        self.material = [path for path in (find_audio(against) if against else []) if path not in others]
        for place, left in ((against, self.material), (held_out, self.held_out)):
            if place is not None and not left:
                raise UserError(f"{place} holds nothing but what is measured against it; give other audio")


def _load(codec: str, device: str) -> "CompressionModel":
    from ..models.loaders import load_compression_model
    from ..utils.device import codec_device

    return load_compression_model(codec, codec_device(device))


class _Heard(tp.NamedTuple):
    """Sounds by groups, some waves of each to draw, codes of the whole material, and what was left out."""

    sounds: dict[str, list["Sound"]]
    strips: dict[str, list[tuple[str, "torch.Tensor"]]]
    trained_on: "Material | None"
    skipped: list[tuple[str, str]]


def _listen(files: _Files, codec: "CompressionModel | None") -> _Heard:
    from ..metrics.copied import Material
    from ..metrics.sound import measure
    from ..metrics.sound_figure import STRIPS
    from ..metrics.sound_files import PIECE_SECONDS, cut, decode, encode, encode_files, read_piece, seconds_of, spread

    takes = cut(files.takes)
    pieces = {TAKES: takes, MATERIAL: cut(files.material), HELD_OUT: cut(files.held_out, len(takes)), RECODED: []}
    heard = _Heard({name: [] for name in pieces}, {name: [] for name in pieces}, None, [])
    if codec is not None:
        pieces[RECODED] = spread(pieces[MATERIAL], len(takes))
    total = PIECE_SECONDS * sum(map(len, pieces.values()))
    total += seconds_of(files.material) if codec is not None else 0
    with listening(total) as advance:
        for name, group in pieces.items():
            drawn = spread(group, STRIPS)
            for piece in group:
                wav = read_piece(piece, heard.skipped)
                advance(PIECE_SECONDS)
                if wav is None:
                    continue
                coded = None
                if codec is not None and name != MATERIAL:
                    coded = encode(codec, wav)
                    if name == RECODED:
                        wav = decode(codec, coded, wav.shape[1])
                        coded = encode(codec, wav)
                heard.sounds[name].append(measure(wav, piece.name, coded))
                if piece in drawn:
                    heard.strips[name].append((piece.name, wav))
            if group and not heard.sounds[name]:
                path, reason = heard.skipped[-1]
                raise UserError(f"none of the {name} can be read ({path}: {reason}); give other audio")
        if codec is None:
            return heard
        whole = encode_files(codec, files.material, advance)
        return heard._replace(trained_on=Material(whole, window=max(1, round(codec.frame_rate))))
