"""Sound while its codes are still being drawn: token decoder and codec on one stream, with one state."""

import typing as tp
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..modules.chunked import StreamState as CodecState
from .codec import StreamDecoder
from .windows import Progress, SongDecoder, SongState

# The first chunk is this short, each next one twice as long: sound at once, then fewer and larger products.
_FIRST_CHUNK = 0.25


@dataclass
class StreamState:
    """Everything between two chunks of B pieces.

    Attributes:
        song: where the codes are.
        codec: what it keeps of the frames before, see `modules.chunked`.
        ahead: codes of a prompt that are not decoded yet, [B, K, f].
        chunks: given out so far.
    """

    song: SongState
    codec: CodecState
    ahead: Tensor
    chunks: int = 0

    @property
    def finished(self) -> bool:
        """Whether all sound was given out."""
        return self.song.done == self.song.total and self.ahead.shape[-1] == 0

    def clone(self) -> "StreamState":
        """A copy that goes on by itself."""
        return replace(self, song=self.song.clone(), codec=dict(self.codec))

    def take(self, clips: Sequence[int], seed: int | None = None) -> "StreamState":
        """As `SongState.take`: many takes from one moment, with the sound they share already out."""
        rows = torch.tensor(list(clips), device=self.song.window.sequence.device)
        codec = {name: part[rows] if isinstance(part, Tensor) else part for name, part in self.codec.items()}
        return replace(self, song=self.song.take(clips, seed), codec=codec, ahead=self.ahead[rows])

    def to_dict(self) -> dict[str, Any]:
        """Tensors, numbers, lists and dicts only: `torch.save` it, read it with `weights_only=True`."""
        plain = {"codec": dict(self.codec), "ahead": self.ahead.clone(), "chunks": self.chunks}
        return {"song": self.song.to_dict(), **plain}


class Streamer:
    """Draws and decodes chunk by chunk; holds no state of its own.

    Args:
        songs: draws the codes.
        codec: decodes them; its weights are fixed here.
        frame_rate: codec frames per second.
        chunk: seconds of sound per chunk; the first are shorter.
    """

    def __init__(self, songs: SongDecoder, codec: StreamDecoder, frame_rate: float, chunk: float) -> None:
        self.songs = songs
        self.codec = codec
        self.chunk = max(1, round(chunk * frame_rate))
        self.first_chunk = min(self.chunk, max(1, round(_FIRST_CHUNK * frame_rate)))

    def start(self, song: SongState, prompt: Tensor | None = None) -> StreamState:
        """The state of a piece that begins with the sound of its prompt, codes [B, K, P]."""
        if prompt is None:
            prompt = song.window.sequence[..., :0]
        return StreamState(song, {}, ahead=prompt)

    def read(self, state: StreamState, progress: Progress | None = None) -> Tensor:
        """The next chunk, wav [B, C, t]. The codec looks ahead a little, so the first may have t = 0; after the last
        one there are only such."""
        if state.finished:
            return torch.zeros(len(state.ahead), self.codec.channels, 0, device=state.ahead.device)
        frames = min(self.chunk, self.first_chunk << min(state.chunks, 20))
        parts = [state.ahead[..., :frames]]
        state.ahead = state.ahead[..., frames:]
        frames -= parts[0].shape[-1]
        while frames and not state.finished:
            codes = self.songs.read(state.song, frames, progress)
            frames -= codes.shape[-1]
            parts.append(codes)
        state.chunks += 1
        return self.codec.push(state.codec, torch.cat(parts, dim=-1), last=state.finished)

    def chunks(self, state: StreamState, progress: Progress | None = None) -> tp.Iterator[Tensor]:
        """All chunks to the end, wav [B, C, t], t > 0."""
        while not state.finished:
            wav = self.read(state, progress)
            if wav.shape[-1]:
                yield wav

    def restore(self, saved: dict[str, Any], device: torch.device | str = "cpu") -> StreamState:
        """The inverse of `StreamState.to_dict`, on `device`."""
        codec = {name: part.to(device) if isinstance(part, Tensor) else part for name, part in saved["codec"].items()}
        song = SongState.from_dict(saved["song"], device)
        return StreamState(song, codec, saved["ahead"].to(device), saved["chunks"])
