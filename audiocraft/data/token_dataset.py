"""Segments of codes from the token cache, drawn as `MusicDataset` draws segments of audio."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from ..utils.segments import AudioMeta, SegmentInfo
from .audio import UnreadableAudio
from .music_dataset import MusicDataset, MusicInfo
from .token_cache import CachedTokens

logger = logging.getLogger(__name__)


class TokenDataset(MusicDataset):
    """A `MusicDataset` that hands out codes: same files, same draws, same `short`, cut at frame boundaries.

    Items are infos whose `audio_tokens` [K, F] hold the frames that are audio throughout; F falls short of a segment
    where `short` is 'pad' and the file ends. `n_frames` and `total_frames` stay in samples. Waves are empty.

    Made by `TokenDataset.of`.
    """

    tokens: Mapping[str, CachedTokens]
    hop_length: int

    @classmethod
    def of(cls, dataset: MusicDataset, tokens: Mapping[str, CachedTokens], hop_length: int) -> "TokenDataset":
        """`dataset` with codes in the place of waves.

        Args:
            tokens: codes by the path of their file; a file without is passed over like one that cannot be read, but
                silently: who made the codes has said why.
            hop_length: samples per frame.
        """
        out = cls.__new__(cls)
        out.__dict__.update(dataset.__dict__)
        out.tokens = {item.path: tokens[item.path] for item in dataset.meta if item.path in tokens}
        out.hop_length = hop_length
        out.pad = False  # what padding looks like is the model's affair
        out.return_info = True
        out.meta = list(dataset.meta)
        out._told = torch.tensor([item.path not in tokens for item in dataset.meta], dtype=torch.uint8).share_memory_()
        out._trust_codes()
        return out

    def _trust_codes(self) -> None:
        """Mend durations in `meta` that are clearly wrong; with them a draw would point behind a file's end."""
        wrong = []
        for i, item in enumerate(self.meta):
            codes = self.tokens.get(item.path)
            duration = item.duration if codes is None else codes.num_samples / self.sample_rate
            if abs(duration - item.duration) > max(0.1, 0.01 * duration):
                wrong.append(f"{item.path} lasts {duration:.2f} s, not {item.duration:.2f} s")
                self.meta[i] = replace(item, duration=duration)
        if wrong:
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            logger.warning("%s as its manifest says%s; the file is right", wrong[0], more)
            self.sampling_probabilities = self._get_sampling_probabilities()

    @property
    def segment_length(self) -> int | None:
        """Frames of a segment; a last frame that holds any of it counts, as in a codec."""
        if self.segment_duration is None:
            return None
        return -(-int(self.segment_duration * self.sample_rate) // self.hop_length)

    def _frames(self, meta: AudioMeta, seek_time: float) -> tuple[int, int]:
        """First frame of a piece at `seek_time` (seconds), and the end of the file."""
        # The last frame may reach past the end of the file; what it holds there is padding.
        end = self.tokens[meta.path].num_samples // self.hop_length
        return max(0, min(int(seek_time * self.sample_rate / self.hop_length), end - 1)), end

    def read_piece(self, meta: AudioMeta, seek_time: float) -> torch.Tensor:
        """Codes [K, F] from the frame at `seek_time` (seconds) on, at most a segment."""
        if meta.path not in self.tokens:
            raise UnreadableAudio.of(meta.path, "it could not be coded")
        start, end = self._frames(meta, seek_time)
        if end == 0:
            raise UnreadableAudio.of(meta.path, "it is shorter than one frame of the codec")
        length = self.segment_length
        return self.tokens[meta.path].read(start, end if length is None else min(start + length, end))

    def make_info(self, index: int, wav: torch.Tensor, info: SegmentInfo) -> MusicInfo:
        codes, hop = wav, self.hop_length
        info = replace(
            info,
            seek_time=self._frames(info.meta, info.seek_time)[0] * hop / self.sample_rate,
            n_frames=info.n_frames * hop,
            total_frames=info.total_frames * hop,
        )
        music = super().make_info(index, torch.zeros(self.channels, 0), info)
        music.audio_tokens = codes
        music.self_wav = None  # there is no wave to be conditioned on
        return music

    def collater(self, samples: Sequence[Any]) -> tuple[torch.Tensor, list[MusicInfo]]:
        """Empty waves [B, C, 0] and the infos."""
        return torch.zeros(len(samples), self.channels, 0), [info for _, info in samples]
