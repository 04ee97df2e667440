"""Segments of audio files for training, and the command that makes manifests.

The command: python -m audiocraft.data.audio_dataset FOLDER egs/NAME/data.jsonl [--complete] [--resolve] [--workers N]
"""

import copy
import logging
import sys
import typing as tp
from dataclasses import InitVar, dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch.nn import functional as F
from torch.utils.data import Dataset

from ..errors import UserError
from ..utils.segments import AudioMeta, BaseInfo, SegmentInfo
from .audio import UnreadableAudio, read_stretch, untold
from .audio_utils import convert_audio
from .beats import find_grids
from .manifest import find_manifest, load_audio_meta, save_audio_meta
from .scan import DEFAULT_EXTS, MIN_DURATION, find_audio_files, main
from .scan import _get_audio_meta as _get_audio_meta
from .token_cache import CachedTokens

__all__ = ["DEFAULT_EXTS", "AudioDataset", "AudioMeta", "BaseInfo", "SegmentInfo"]
__all__ += ["find_audio_files", "load_audio_meta", "main", "save_audio_meta"]

logger = logging.getLogger(__name__)

SHORT_MODES = ("pad", "loop", "join")


@dataclass(eq=False, repr=False)
class AudioDataset(Dataset):
    """Random segments of audio files; which ones depends on index, epoch and seed alone.

    Item `index` is drawn by a generator of its own, seeded with `index + num_samples * (epoch + shuffle_seed)` if
    `shuffle` is on and `start_epoch` was called, with `index` if it is off. One draw picks the file, one the place.

    Args:
        meta: the files.
        segment_duration: seconds; None for whole files, one item each, in order.
        shuffle: give other segments in every epoch.
        num_samples: items per epoch (`segment_duration` given).
        sample_rate, channels: what items are converted to, in Hz.
        pad: fill items up to the segment with zeros; `n_frames` in the info says how much is audio.
        sample_on_duration: draw a file as often as it is long.
        sample_on_weight: draw a file as often as its `weight` says; with both, their product counts.
        min_segment_ratio: share of a segment that must be audio where the file allows it.
        max_read_retry: how many other segments to draw where one cannot be read, before every file is tried.
        return_info: items are (wav, `SegmentInfo`) instead of wav.
        min_audio_duration, max_audio_duration: leave out shorter or longer files; seconds.
        shuffle_seed: as above.
        load_wav: False gives waves [C, 0] and infos only.
        permutation_on_files: go through all files before one comes again, instead of drawing them.
        short: what becomes of a segment that its file does not fill. 'pad' leaves it short (zeros follow and are not
            counted), 'loop' repeats the file, 'join' goes on with other files: folders of loops and one-shots are what
            musicians have, and padding would be most of what a model sees of them.
        on_beat: segments begin on a beat (`beats.find_grids`) of their file, where it has a clear one.

    Raises:
        UserError: no files, none of the wanted duration, weights that are all zero, or an unknown `short`.
            While items are read: not one of the files can be read.
    """

    meta: list[AudioMeta]
    segment_duration: float | None = None
    shuffle: bool = True
    num_samples: int = 10_000
    sample_rate: int = 48_000
    channels: int = 2
    pad: bool = True
    sample_on_duration: bool = True
    sample_on_weight: bool = True
    min_segment_ratio: float = 0.5
    max_read_retry: int = 10
    return_info: bool = False
    min_audio_duration: InitVar[float | None] = None
    max_audio_duration: InitVar[float | None] = None
    shuffle_seed: int = 0
    load_wav: bool = True
    permutation_on_files: bool = False
    short: str = "pad"
    on_beat: bool = False

    def __post_init__(self, min_audio_duration: float | None, max_audio_duration: float | None) -> None:
        self.meta = _filter_duration(self.meta, min_audio_duration, max_audio_duration)
        if self.segment_duration is not None and self.segment_duration <= 0:
            raise UserError(
                f"a segment of {self.segment_duration} s holds nothing; set dataset.segment_duration above 0"
            )
        if not 0 <= self.min_segment_ratio <= 1:
            raise UserError(
                f"dataset.min_segment_ratio={self.min_segment_ratio} is not a share; choose a number from 0 to 1"
            )
        if self.permutation_on_files and (self.sample_on_duration or self.sample_on_weight):
            raise UserError(
                "dataset.train.permutation_on_files gives every file the same share;"
                " set dataset.sample_on_duration=false dataset.sample_on_weight=false with it"
            )
        if self.short not in SHORT_MODES:
            raise UserError(f"dataset.short={self.short} is unknown; choose one of {', '.join(SHORT_MODES)}")
        self.current_epoch: int | None = None
        self.sampling_probabilities = self._get_sampling_probabilities()
        # Which files were complained about, by position in `meta`; shared with the loader's workers, so that a run says
        # it once.
        self._told = torch.zeros(len(self.meta), dtype=torch.uint8).share_memory_()
        self._position = {item.path: i for i, item in enumerate(self.meta)}
        # Codes by path, and how many samples stand behind each place on an item's last axis.
        self._tokens: tp.Mapping[str, CachedTokens] | None = None
        self._hop = 1
        self._grids = find_grids(self.meta) if self.on_beat and self.segment_duration is not None else {}

    def reading(self, tokens: tp.Mapping[str, CachedTokens], hop_length: int) -> tp.Self:
        """A copy that hands out codes [K, F] in place of waves: same files, same draws, same `short`.

        Codes are cut at frame boundaries, and only frames that are audio throughout count as such. What is told in
        samples and seconds (infos, durations) stays so; durations in `meta` that are clearly wrong are mended, as with
        them draws would point behind a file's end.

        Args:
            tokens: codes by the path of their file; a file without is passed over like one that cannot be read, but
                silently: who made the codes has said why.
            hop_length: samples per frame.
        """
        out = copy.copy(self)
        out._tokens = {item.path: tokens[item.path] for item in self.meta if item.path in tokens}
        out._hop, out.meta = hop_length, list(self.meta)
        out._told = torch.tensor([item.path not in tokens for item in self.meta], dtype=torch.uint8).share_memory_()
        wrong = []
        for i, item in enumerate(self.meta):
            duration = tokens[item.path].num_samples / self.sample_rate if item.path in tokens else item.duration
            if abs(duration - item.duration) > max(0.1, 0.01 * duration):
                wrong.append(f"{item.path} lasts {duration:.2f} s, not {item.duration:.2f} s")
                out.meta[i] = replace(item, duration=duration)
        if wrong:
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            logger.warning("%s as its manifest says%s; the file is right", wrong[0], more)
            out.sampling_probabilities = out._get_sampling_probabilities()
        return out

    def __len__(self) -> int:
        return self.num_samples if self.segment_duration is not None else len(self.meta)

    def start_epoch(self, epoch: int) -> None:
        """Choose the segments of this epoch; without it a shuffled dataset is not reproducible."""
        self.current_epoch = epoch

    # Which segments

    def _get_sampling_probabilities(self) -> torch.Tensor:
        scores = [
            (item.duration if self.sample_on_duration else 1.0)
            * (1.0 if item.weight is None or not self.sample_on_weight else item.weight)
            for item in self.meta
        ]
        if not sum(scores) > 0:
            raise UserError(
                "every file has weight or duration 0, none can be drawn; set a weight above 0 in the manifest"
            )
        probabilities = torch.tensor(scores, dtype=torch.float32)
        return probabilities / probabilities.sum()

    def item_seed(self, index: int) -> int | None:
        """Seed of everything random about item `index` in this epoch; None where nothing fixes it."""
        if not self.shuffle:
            return index
        if self.current_epoch is None:
            return None
        return index + self.num_samples * (self.current_epoch + self.shuffle_seed)

    def sample_file(self, index: int, rng: torch.Generator) -> AudioMeta:
        """The file for item `index`, by one draw from `rng`, or by permutation."""
        if self.permutation_on_files:
            turn, place = divmod(index + self.num_samples * (self.current_epoch or 0), len(self.meta))
            return self.meta[_permutation(len(self.meta), turn + self.shuffle_seed)[place]]
        if not self.sample_on_weight and not self.sample_on_duration:
            return self.meta[int(torch.randint(len(self.meta), (1,), generator=rng))]
        # torch.multinomial for one draw (the first of exponential clocks to ring), written out because its random
        # numbers differ between builds of torch.
        clocks = -torch.log1p(-torch.rand(len(self.meta), generator=rng, dtype=torch.float64))
        return self.meta[int(torch.argmax(self.sampling_probabilities / clocks.clamp_min(1e-300)))]

    def draws(self, index: int) -> tp.Iterator[tuple[AudioMeta, float]]:
        """Files and places (seconds) for item `index`, without end: the first is the item, the next ones replace it
        where it cannot be read and continue it where `short` is 'join'."""
        if self.segment_duration is None:
            while True:
                yield self.meta[index % len(self.meta)], 0.0
                index += 1
        rng = torch.Generator()
        seed = self.item_seed(index)
        if seed is None:
            rng.seed()
        else:
            rng.manual_seed(seed)
        while True:
            meta = self.sample_file(index, rng)
            place = torch.rand(1, generator=rng).item() * self._reach(meta.duration, self.segment_duration)
            yield meta, self._grids[meta.path].beat_before(place) if meta.path in self._grids else place
            index += 1  # another file under permutation_on_files

    def _reach(self, duration: float, segment: float) -> float:
        """Up to which second of a file of `duration` seconds a segment of `segment` seconds may begin."""
        if self.short == "loop" and duration < segment:
            return duration  # it is entered anywhere and goes round; a one-shot that is joined keeps its attack
        return max(0.0, duration - segment * (self.min_segment_ratio if self.short == "pad" else 1))

    def sample_segment(self, index: int) -> tuple[AudioMeta, float]:
        """File and place (seconds) of item `index`."""
        return next(self.draws(index))

    # What is in them

    @property
    def segment_length(self) -> int | None:
        """Length of an item's last axis; None for whole files. Of codes, a last frame that holds any of it counts."""
        if self.segment_duration is None:
            return None
        return -(-int(self.segment_duration * self.sample_rate) // self._hop)

    def read_piece(self, meta: AudioMeta, seek_time: float) -> torch.Tensor:
        """A file from `seek_time` (seconds) on, at most a segment: a wave [C, T], converted, or codes [K, F].

        Raises:
            UnreadableAudio: also where codes are missing.
        """
        if self._tokens is not None:
            if meta.path not in self._tokens:
                raise UnreadableAudio.of(meta.path, "it could not be coded")
            start, end = self._frames(meta, seek_time)
            if end == 0:
                raise UnreadableAudio.of(meta.path, "it is shorter than one frame of the codec")
            return self._tokens[meta.path].read(start, min(start + (self.segment_length or end), end))
        wav, file = read_stretch(meta.path, seek_time, self.segment_duration or -1.0)
        notes = untold(file.path, file.notes())
        if file.rate != meta.sample_rate:
            notes.append(
                f"it is at {file.rate} Hz, not at {meta.sample_rate} Hz as its manifest says; the file is right"
            )
        if abs(file.duration - meta.duration) > MIN_DURATION:
            notes.append(
                f"it lasts {file.duration:.2f} s, its manifest says {meta.duration:.2f} s;"
                " make the manifest anew to use all of it"
            )
        if notes:
            self._tell(meta, f"{meta.path}: {'; '.join(notes)}")
        return convert_audio(wav, file.rate, self.sample_rate, self.channels)

    def _frames(self, meta: AudioMeta, seek_time: float) -> tuple[int, int]:
        """First frame of the codes at `seek_time` (seconds), and the end of the file."""
        assert self._tokens is not None
        # The last frame may reach past the end of the file; what it holds there is padding.
        end = self._tokens[meta.path].num_samples // self._hop
        return max(0, min(int(seek_time * self.sample_rate / self._hop), end - 1)), end

    def __getitem__(self, index: int) -> tp.Any:
        if not self.load_wav:
            meta, seek_time = self.sample_segment(index)
            piece = torch.zeros(self.channels, 0)
            length = int((meta.duration - seek_time) * self.sample_rate)
            if self.segment_length is not None:
                length = min(length, self.segment_length) if self.short == "pad" else self.segment_length
        else:
            pieces = self._pieces(index)
            meta, seek_time, piece = next(pieces)
            piece = self._fill(meta, piece, pieces)
            length = piece.shape[-1]
        total = length if self.segment_length is None else self.segment_length
        if self.pad and self.load_wav:
            piece = F.pad(piece, (0, total - length))
        if not self.return_info:
            return piece
        if self._tokens is not None:
            seek_time = self._frames(meta, seek_time)[0] * self._hop / self.sample_rate
        segment = (seek_time, length * self._hop, total * self._hop, self.sample_rate, self.channels)
        return piece, self.make_info(index, piece, SegmentInfo(meta, *segment))

    def _fill(self, meta: AudioMeta, piece: torch.Tensor, others: tp.Iterator[tuple]) -> torch.Tensor:
        """A piece of a file cut to a segment, or with `short` of 'loop' and 'join' brought to it."""
        length = self.segment_length
        if length is None:
            return piece
        parts, left = [piece], length - piece.shape[-1]
        if left > 0 and self.short == "loop":
            whole = self._try(meta, 0.0)
            again = piece if whole is None else whole
            parts += [again] * -(-left // again.shape[-1])
        while left > 0 and self.short == "join":
            parts.append(next(others)[2])
            left -= parts[-1].shape[-1]
        return torch.cat(parts, dim=-1)[..., :length]

    def make_info(self, index: int, wav: torch.Tensor, info: SegmentInfo) -> SegmentInfo:
        """What goes along with item `index`, a wave or codes; datasets with more to tell override it."""
        return info

    def _pieces(self, index: int) -> tp.Iterator[tuple[AudioMeta, float, torch.Tensor]]:
        """`draws` with what is there. What cannot be read is told once and passed over."""
        failures = 0
        for meta, seek_time in self.draws(index):
            piece = self._try(meta, seek_time)
            failures = failures + 1 if piece is None else 0
            if failures > self.max_read_retry:
                meta, seek_time, piece = self._any_readable(index)
            if piece is not None:
                yield meta, seek_time, piece

    def _any_readable(self, index: int) -> tuple[AudioMeta, float, torch.Tensor]:
        for shift in range(len(self.meta)):
            meta = self.meta[(index + shift) % len(self.meta)]
            piece = self._try(meta, 0.0)
            if piece is not None:
                return meta, 0.0, piece
        raise UserError(
            f"none of the {len(self.meta)} files can be read (one is {self.meta[0].path});"
            " make the manifest anew with python -m audiocraft.data.audio_dataset, which says why"
        )

    def _try(self, meta: AudioMeta, seek_time: float) -> torch.Tensor | None:
        try:
            piece = self.read_piece(meta, seek_time)
            if piece.shape[-1] == 0:
                raise UnreadableAudio.of(
                    meta.path, f"nothing at {seek_time:.2f} s, its manifest says {meta.duration:.2f} s"
                )
            return piece
        except (UnreadableAudio, OSError) as error:
            self._tell(meta, f"{error}; others are drawn instead")
            return None

    def _tell(self, meta: AudioMeta, message: str) -> None:
        if not self._told[position := self._position[meta.path]]:
            self._told[position] = 1
            logger.warning("%s", message)

    def collater(self, samples: tp.Sequence[tp.Any]) -> tp.Any:
        """Stack items to wav [B, C, T] or codes [B, K, F], with a list of infos if items have them; shorter items are
        filled with zeros, and the infos' `total_frames` then say T. The name `collate_fn` of a loader."""
        waves = [sample[0] if self.return_info else sample for sample in samples]
        longest = max(wav.shape[-1] for wav in waves)
        batch = torch.stack([F.pad(wav, (0, longest - wav.shape[-1])) for wav in waves])
        if not self.return_info:
            return batch
        infos = [copy.copy(info) for _, info in samples]
        if self.load_wav:
            for info in infos:
                info.total_frames = longest * self._hop
        return batch, infos

    @classmethod
    def from_meta(cls, root: str | Path, **kwargs: tp.Any) -> "AudioDataset":
        """Read the manifest `root`, or `data.jsonl(.gz)` in the folder `root`; the rest goes to the constructor.

        Raises:
            UserError: as `load_audio_meta`.
        """
        return cls(load_audio_meta(find_manifest(root)), **kwargs)

    @classmethod
    def from_path(
        cls, root: str | Path, minimal_meta: bool = True, exts: tp.Sequence[str] = DEFAULT_EXTS, **kwargs: tp.Any
    ) -> "AudioDataset":
        """Look through the folder `root` without a manifest; the rest goes to the constructor.

        Raises:
            UserError: as `scan_folder`.
        """
        return cls(find_audio_files(root, exts, minimal=minimal_meta), **kwargs)


@lru_cache(maxsize=4)
def _permutation(length: int, seed: int) -> list[int]:
    return torch.randperm(length, generator=torch.Generator().manual_seed(seed)).tolist()


def _filter_duration(meta: list[AudioMeta], shortest: float | None, longest: float | None) -> list[AudioMeta]:
    if not meta:
        raise UserError(
            "there are no audio files; make a manifest with python -m audiocraft.data.audio_dataset FOLDER MANIFEST"
        )
    low, high = shortest or 0.0, float("inf") if longest is None else longest
    kept = [item for item in meta if low <= item.duration <= high]
    if not kept:
        raise UserError(
            f"none of the {len(meta)} files lasts {low} to {high} s;"
            " widen dataset.min_audio_duration and dataset.max_audio_duration"
        )
    return kept


if __name__ == "__main__":
    sys.exit(main())
