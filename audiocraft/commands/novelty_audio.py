"""What `novelty` listens to: takes from a model or from files, the training audio, and what was held out from it."""

import typing as tp
from dataclasses import dataclass
from pathlib import Path

import typer

from ..errors import UserError
from .audio_files import find_audio, listening

if tp.TYPE_CHECKING:
    import torch

    from ..metrics.copied import Material
    from ..metrics.fingerprint import Fingerprints
    from ..metrics.novelty import Trace
    from ..metrics.sound_files import Piece
    from ..models.codec import CompressionModel
    from ..models.musicgen import MusicGen

_AT_ONCE = 8  # takes that a model plays
_MOST_HELD_OUT = 32  # pieces of 10 s
_WORKERS = 4


@dataclass
class Take:
    """Something to look up: a wave [1, T] at 32 kHz with its codes [K, F], or a file to read."""

    name: str
    piece: "Piece | None" = None
    wav: "torch.Tensor | None" = None
    codes: "torch.Tensor | None" = None

    def read(self, start: float, seconds: float) -> "torch.Tensor | None":
        """A stretch of it [1, T] at 32 kHz; None where the file cannot be read."""
        from ..metrics.sound_features import RATE
        from ..metrics.sound_files import Piece, read_piece

        if self.piece is not None:
            return read_piece(Piece(self.piece.path, start, seconds), [])
        assert self.wav is not None
        return self.wav[:, round(start * RATE) : round((start + seconds) * RATE)]


def run_checkpoint(name: str) -> Path | None:
    """The checkpoint of a run (signature or folder); None where the name is none."""
    from ..checkpoints.checkpoint import resolve_checkpoint_path

    path = Path(name).expanduser()
    if path.is_file():
        return path if path.suffix == ".th" else None
    return resolve_checkpoint_path(name)


def manifests(checkpoint: Path) -> tuple[Path, Path | None]:
    """Where the manifests of a run are: of what it trained on, and of what it held out.

    Raises:
        UserError: its config names none, or they are gone.
    """
    from ..checkpoints.checkpoint import load_checkpoint
    from ..checkpoints.configs import package_config
    from ..data.manifest import find_manifest

    package = load_checkpoint(checkpoint)
    sources = package_config(package if isinstance(package, dict) else {}, checkpoint).get("datasource") or {}
    if not sources.get("train"):
        raise UserError(f"{checkpoint} does not say what it was trained on; give that with --train")
    try:
        found = [find_manifest(str(sources[split])) for split in ("train", "valid") if sources.get(split)]
    except UserError as error:
        raise UserError(f"{error}, start where the run was trained, or give --train") from error
    return found[0], found[1] if len(found) > 1 else None


@dataclass
class Audio:
    """Files to listen to, none of them twice."""

    takes: list[str]
    material: list[str]
    held_out: list[str]

    @classmethod
    def find(cls, takes: tp.Sequence[str], train: Path, held_out: Path | None) -> "Audio":
        """What a manifest lists was trained on, whatever else it is called; from a folder, takes and what was held
        out are left out.

        Raises:
            UserError: there are no takes, or no training audio.
        """
        played = list(dict.fromkeys(path for place in takes for path in find_audio(Path(place), takes=True)))
        material = find_audio(train)
        apart = find_audio(held_out) if held_out is not None else []
        if train.is_dir():
            material = [path for path in material if path not in {*played, *apart}]
            if not material:
                raise UserError(f"{train} holds nothing but what is measured against it; give other audio")
        left = [path for path in apart if path not in {*played, *material}]
        if len(left) < len(apart):
            typer.echo(
                f"{len(apart) - len(left)} of {len(apart)} files that were held out are trained on as well, or takes: "
                "they are no yardstick and left out",
                err=True,
            )
        return cls(played, material, left)


def find_model(sources: tp.Sequence[str]) -> str | None:
    """The model that is to play; None where the sources are takes.

    Raises:
        UserError: there is nothing of that name, or a model that cannot play here.
    """
    from ..checkpoints.locate import NoModel, find_lm

    if len(sources) > 1 or Path(sources[0]).expanduser().is_file():
        return None
    folder = Path(sources[0]).expanduser()
    if folder.is_dir() and any(folder.glob("*.onnx")):
        raise UserError(f"{folder} is a player without torch (ONNX); give the takes it made, or what it was made from")
    try:
        find_lm(sources[0])
        return sources[0]
    except NoModel as error:
        if folder.is_dir():
            return None
        raise UserError(f"there is no model and there are no takes called {sources[0]}; {_WAY_OUT}") from error


_WAY_OUT = "give a folder of takes, audio files, a model folder or a run"


def load_model(name: str, device: str, duration: float) -> "MusicGen":
    """A model that plays without texts. Raises UserError as `MusicGen.get_pretrained`."""
    from ..models import MusicGen

    musicgen = MusicGen.get_pretrained(name, device, "auto")
    if musicgen.lm.condition_provider.text_conditions:
        raise UserError(f"{name} was trained with texts; generate takes with some, and give their folder")
    musicgen.set_generation_params(duration=duration)
    return musicgen


def play(musicgen: "MusicGen", num: int, seed: int) -> list[Take]:
    """Takes of a model; take i uses seed + i."""
    from tqdm import tqdm

    from ..data.audio_utils import convert_audio
    from ..metrics.sound_features import RATE

    takes: list[Take] = []
    with tqdm(total=num, desc="Playing", unit="take") as bar:
        for first in range(0, num, _AT_ONCE):
            count = min(_AT_ONCE, num - first)
            wavs, codes = musicgen.generate_unconditional(count, return_tokens=True, seed=seed + first)
            for i, (wav, code) in enumerate(zip(wavs, codes), seed + first):
                wav = convert_audio(wav.float().cpu(), musicgen.sample_rate, RATE, 1)
                takes.append(Take(f"seed {i}", wav=wav, codes=code.cpu()))
            bar.update(count)
    return takes


def from_files(paths: tp.Iterable[str]) -> list[Take]:
    """Takes that are files, each as a whole."""
    from ..metrics.sound_files import Piece

    return [Take(Path(path).name, Piece(path)) for path in paths]


def kept_apart(paths: tp.Iterable[str], skipped: list[tuple[str, str]]) -> list[Take]:
    """Pieces of files that were held out; `skipped` is told of those that are gone or broken."""
    from ..data.audio import UnreadableAudio
    from ..metrics.sound_files import cut, spread

    pieces = []
    for path in paths:
        try:
            pieces += cut([path], None)
        except UnreadableAudio as error:
            skipped.append((path, error.reason))
    return [Take(piece.name, piece) for piece in spread(pieces, _MOST_HELD_OUT)]


def own_codecs(takes: tp.Iterable[str]) -> list[str]:
    """Which codecs takes were made with, as the JSON beside each says."""
    from ..utils.files import read_json

    found = set()
    for path in takes:
        try:
            found.add(read_json(Path(path).with_suffix(".json"))["codec_file"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return sorted(str(name) for name in found)


def fingerprints(paths: tp.Sequence[str], skipped: list[tuple[str, str]]) -> "tuple[list[str], Fingerprints]":
    """Those of files that can be read and last a second, and these files' paths; `skipped` is told of the others.

    Raises:
        UserError: there is none.
    """
    from concurrent.futures import ThreadPoolExecutor

    from ..data.audio import UnreadableAudio, audio_blocks
    from ..data.token_cache import read_blocks
    from ..metrics.fingerprint import FRAMES, Fingerprints, fingerprint, fits
    from ..metrics.sound_features import RATE

    def one(path: str) -> "torch.Tensor | str":
        try:
            blocks, rate = audio_blocks(path)
            found = fingerprint(blocks, rate) if fits(rate) else fingerprint(read_blocks(path, RATE, 1), RATE)
        except UnreadableAudio as error:
            return error.reason
        return found if len(found) >= FRAMES else "it is shorter than a second"

    kept, items = [], []
    with ThreadPoolExecutor(_WORKERS) as pool, listening(len(paths)) as advance:
        for path, found in zip(paths, pool.map(one, paths)):
            advance(1)
            if isinstance(found, str):
                skipped.append((path, found))
            else:
                kept.append(path)
                items.append(found)
    if not kept:
        path, reason = skipped[-1]
        raise UserError(f"none of the training audio can be compared ({path}: {reason}); give other audio")
    return kept, Fingerprints(items)


def cached_codes(codec: "CompressionModel", paths: tp.Sequence[str]) -> "Material":
    """The codes of files, from the token cache of the runs here; those that it has not are made and kept there.

    Raises:
        UserError: a codec whose codes need a scale beside them.
    """
    import torch

    from ..data.token_cache import TokenCache
    from ..environment import AudioCraftEnvironment
    from ..metrics.copied import Material

    if getattr(codec, "renormalize", False):
        raise UserError("the codec scales every clip by its loudness, so its codes tell no copies; add --no-codes")
    report = TokenCache(AudioCraftEnvironment.get_dora_dir() / "token_cache", codec).prepare(paths)
    none = torch.zeros(0, dtype=torch.int64)
    found = [report.tokens[path].read()[0] if path in report.tokens else none for path in paths]
    return Material(found, window=max(1, round(codec.frame_rate)))


def look_up(
    takes: tp.Sequence[Take],
    prints: "Fingerprints",
    codec: "CompressionModel | None",
    material: "Material | None",
    what: str,
    skipped: list[tuple[str, str]],
) -> "list[tuple[Trace, Take]]":
    """Traces of takes that can be read and last a second, with the takes; `skipped` is told of the others."""
    from tqdm import tqdm

    from ..metrics.novelty import trace
    from ..metrics.sound_features import RATE
    from ..metrics.sound_files import encode, read_piece

    found = []
    for take in tqdm(takes, desc=f"Looking up {what}", unit="take"):
        wav = take.wav if take.piece is None else read_piece(take.piece, skipped)
        if wav is None:
            continue
        if wav.shape[1] < RATE:
            skipped.append((take.piece.path if take.piece else take.name, "it is shorter than a second"))
            continue
        codes = encode(codec, wav) if take.codes is None and codec is not None and material is not None else take.codes
        found.append((trace(take.name, wav, prints, codes, material), take))
    return found
