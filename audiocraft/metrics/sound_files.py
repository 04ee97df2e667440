"""Files to measure as pieces of about 10 s, mono at 32 kHz, and as codes."""

import typing as tp
from dataclasses import dataclass
from pathlib import Path

import torch

from ..data.audio import UnreadableAudio, audio_info, audio_read
from ..data.audio_utils import convert_audio
from ..data.token_cache import read_blocks
from ..models.codec import CompressionModel
from .sound_features import RATE

PIECE_SECONDS = 10.0
MOST_PIECES = 96
Advance = tp.Callable[[float], object]


@dataclass(frozen=True)
class Piece:
    """A stretch of a file, in seconds; None where it goes on to the end."""

    path: str
    start: float = 0.0
    seconds: float | None = None

    @property
    def name(self) -> str:
        """The file's name, with the second it begins at where it is one of several."""
        whole = self.start == 0 and self.seconds is None
        return Path(self.path).name + ("" if whole else f" from {self.start:g} s")


def cut(paths: tp.Iterable[str | Path], most: int | None = MOST_PIECES, seconds: float = PIECE_SECONDS) -> list[Piece]:
    """Pieces of so many seconds that cover files; the last of a file is what is left, half to one and a half as long,
    and a short file is one piece.

    Of more than `most`, that many at even distances are taken: the same ones every time.

    Raises:
        UnreadableAudio: a file has no readable header.
    """
    pieces = []
    for path in paths:
        count = max(1, round(audio_info(path).duration / seconds))
        pieces += [Piece(str(path), i * seconds, seconds) for i in range(count - 1)]
        pieces.append(Piece(str(path), (count - 1) * seconds))
    return spread(pieces, most)


T = tp.TypeVar("T")


def spread(items: list[T], most: int | None) -> list[T]:
    """At most so many of a list, at even distances."""
    if most is None or len(items) <= most:
        return items
    return [items[i * len(items) // most] for i in range(most)]


def read_piece(piece: Piece, skipped: list[tuple[str, str]]) -> torch.Tensor | None:
    """The wave [1, T] at 32 kHz; None where there is none to read, which `skipped` is told, file and reason."""
    seconds = -1.0 if piece.seconds is None else piece.seconds
    try:
        wav, rate = audio_read(piece.path, piece.start, seconds)
        wav = convert_audio(wav, rate, RATE, 1)
        if wav.shape[1]:
            return wav
        reason = f"it holds no samples at {RATE} Hz"
    except UnreadableAudio as error:
        reason = error.reason
    skipped.append((piece.path, reason))
    return None


def seconds_of(paths: tp.Iterable[str]) -> float:
    """How long files are together."""
    return sum(audio_info(path).duration for path in paths)


@torch.no_grad()
def encode(codec: CompressionModel, wav: torch.Tensor) -> torch.Tensor:
    """Codes [K, F] of wav [1, T] at 32 kHz."""
    wav = convert_audio(wav, RATE, codec.sample_rate, codec.channels)
    return codec.encode(wav[None].to(device_of(codec)))[0][0].cpu()


@torch.no_grad()
def decode(codec: CompressionModel, codes: torch.Tensor, samples: int) -> torch.Tensor:
    """wav [1, samples] at 32 kHz of codes [K, F]."""
    wav = codec.decode(codes[None].to(device_of(codec)))[0].cpu()
    return convert_audio(wav, codec.sample_rate, RATE, 1)[:, :samples]


@torch.no_grad()
def encode_files(codec: CompressionModel, paths: tp.Iterable[str], advance: Advance) -> list[torch.Tensor]:
    """Codes [K, F] of whole files, of those that can be read; `advance` is called with the seconds done."""
    device, found = device_of(codec), []
    for path in paths:
        parts = []
        try:
            for block in read_blocks(path, codec.sample_rate, codec.channels):
                parts.append(codec.encode(block[None].to(device))[0][0].cpu())
                advance(block.shape[1] / codec.sample_rate)
        except UnreadableAudio:  # told of when its pieces were read, or broken behind them
            pass
        if parts:
            found.append(torch.cat(parts, dim=1))
    return found


def device_of(codec: CompressionModel) -> torch.device:
    """Where a codec's weights are."""
    return next(iter(codec.state_dict().values())).device
