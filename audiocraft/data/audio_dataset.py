"""Segments of audio files for training, and the command that makes manifests.

The command: python -m audiocraft.data.audio_dataset FOLDER egs/NAME/data.jsonl [--complete] [--resolve] [--workers N]
"""

import copy
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.data import Dataset

from ..errors import UserError
from ..utils.segments import AudioMeta, BaseInfo, SegmentInfo
from .audio import UnreadableAudio, audio_info, audio_read, read_stretch, untold
from .audio_utils import convert_audio
from .manifest import find_manifest, load_audio_meta, save_audio_meta
from .scan import DEFAULT_EXTS, MIN_DURATION, find_audio_files, scan_folder
from .short import check_short, fill, seek_range

__all__ = [
    "DEFAULT_EXTS",
    "AudioDataset",
    "AudioMeta",
    "BaseInfo",
    "SegmentInfo",
    "find_audio_files",
    "load_audio_meta",
    "main",
    "save_audio_meta",
]

logger = logging.getLogger(__name__)


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
        short: 'pad', 'loop' or 'join', see `data.short`.

    Raises:
        UserError: no files, none of the wanted duration, weights that are all zero, or an unknown `short`.
            While items are read: not one of the files can be read.
    """

    def __init__(
        self,
        meta: list[AudioMeta],
        segment_duration: float | None = None,
        shuffle: bool = True,
        num_samples: int = 10_000,
        sample_rate: int = 48_000,
        channels: int = 2,
        pad: bool = True,
        sample_on_duration: bool = True,
        sample_on_weight: bool = True,
        min_segment_ratio: float = 0.5,
        max_read_retry: int = 10,
        return_info: bool = False,
        min_audio_duration: float | None = None,
        max_audio_duration: float | None = None,
        shuffle_seed: int = 0,
        load_wav: bool = True,
        permutation_on_files: bool = False,
        short: str = "pad",
    ) -> None:
        self.meta = _filter_duration(meta, min_audio_duration, max_audio_duration)
        if segment_duration is not None and segment_duration <= 0:
            raise UserError(f"a segment of {segment_duration} s holds nothing; set dataset.segment_duration above 0")
        if not 0 <= min_segment_ratio <= 1:
            raise UserError(
                f"dataset.min_segment_ratio={min_segment_ratio} is not a share; choose a number from 0 to 1"
            )
        if permutation_on_files and (sample_on_duration or sample_on_weight):
            raise UserError(
                "dataset.train.permutation_on_files gives every file the same share;"
                " set dataset.sample_on_duration=false dataset.sample_on_weight=false with it"
            )
        self.segment_duration = segment_duration
        self.shuffle = shuffle
        self.num_samples = num_samples
        self.sample_rate = sample_rate
        self.channels = channels
        self.pad = pad
        self.sample_on_duration = sample_on_duration
        self.sample_on_weight = sample_on_weight
        self.min_segment_ratio = min_segment_ratio
        self.max_read_retry = max_read_retry
        self.return_info = return_info
        self.shuffle_seed = shuffle_seed
        self.load_wav = load_wav
        self.permutation_on_files = permutation_on_files
        self.short = check_short(short)
        self.current_epoch: int | None = None
        self.sampling_probabilities = self._get_sampling_probabilities()
        # Which files were complained about, by position in `meta`; shared with the loader's workers, so that a run says
        # it once.
        self._told = torch.zeros(len(self.meta), dtype=torch.uint8).share_memory_()
        self._position = {item.path: i for i, item in enumerate(self.meta)}

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
            return self.meta[self._permuted(index)]
        if not self.sample_on_weight and not self.sample_on_duration:
            return self.meta[int(torch.randint(len(self.meta), (1,), generator=rng))]
        # torch.multinomial for one draw (the first of exponential clocks to ring), written out because its random
        # numbers differ between builds of torch.
        clocks = -torch.log1p(-torch.rand(len(self.meta), generator=rng, dtype=torch.float64))
        return self.meta[int(torch.argmax(self.sampling_probabilities / clocks.clamp_min(1e-300)))]

    def _permuted(self, index: int) -> int:
        total = index + self.num_samples * (self.current_epoch or 0)
        turn, place = divmod(total, len(self.meta))
        return _permutation(len(self.meta), turn + self.shuffle_seed)[place]

    def draws(self, index: int) -> Iterator[tuple[AudioMeta, float]]:
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
            reach = seek_range(self.short, meta.duration, self.segment_duration, self.min_segment_ratio)
            yield meta, torch.rand(1, generator=rng).item() * reach
            index += 1  # another file under permutation_on_files

    def sample_segment(self, index: int) -> tuple[AudioMeta, float]:
        """File and place (seconds) of item `index`."""
        return next(self.draws(index))

    # What is in them

    @property
    def segment_length(self) -> int | None:
        """Length of an item's last axis; None for whole files."""
        return None if self.segment_duration is None else int(self.segment_duration * self.sample_rate)

    def read_piece(self, meta: AudioMeta, seek_time: float) -> torch.Tensor:
        """Audio of a file from `seek_time` (seconds) on, at most a segment: [C, T], converted.

        A dataset of something else than samples overrides this and `segment_length`.

        Raises:
            UnreadableAudio: also if there is nothing at that place.
        """
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

    def __getitem__(self, index: int) -> Any:
        if not self.load_wav:
            meta, seek_time = self.sample_segment(index)
            wav = torch.zeros(self.channels, 0)
            n_frames = self._expected_frames(meta, seek_time)
        else:
            pieces = self._pieces(index)
            meta, seek_time, wav = next(pieces)
            if self.segment_length is not None:
                others = (piece for _, _, piece in pieces)
                wav = fill(self.short, wav, self.segment_length, lambda: self._try(meta, 0.0), others)
            n_frames = wav.shape[-1]
        total = n_frames if self.segment_length is None else self.segment_length
        if self.pad and self.load_wav:
            wav = F.pad(wav, (0, total - n_frames))
        if not self.return_info:
            return wav
        return wav, self.make_info(
            index, wav, SegmentInfo(meta, seek_time, n_frames, total, self.sample_rate, self.channels)
        )

    def make_info(self, index: int, wav: torch.Tensor, info: SegmentInfo) -> SegmentInfo:
        """What goes along with item `index`; datasets with more to tell override it."""
        return info

    def _expected_frames(self, meta: AudioMeta, seek_time: float) -> int:
        if self.segment_length is None:
            return int(meta.duration * self.sample_rate)
        left = int((meta.duration - seek_time) * self.sample_rate)
        return min(left, self.segment_length) if self.short == "pad" else self.segment_length

    def _pieces(self, index: int) -> Iterator[tuple[AudioMeta, float, torch.Tensor]]:
        """`draws` with what is there. What cannot be read is told once and passed over."""
        failures = 0
        for meta, seek_time in self.draws(index):
            piece = self._try(meta, seek_time)
            if piece is not None:
                failures = 0
                yield meta, seek_time, piece
                continue
            failures += 1
            if failures > self.max_read_retry:
                yield self._any_readable(index)

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
        position = self._position[meta.path]
        if not self._told[position]:
            self._told[position] = 1
            logger.warning("%s", message)

    # Batches

    def collater(self, samples: Sequence[Any]) -> Any:
        """Stack items to wav [B, C, T], or (wav, list of infos) if items have them; shorter items are filled with
        zeros, and the infos' `total_frames` then say T. The name `collate_fn` of a loader."""
        waves = [sample[0] if self.return_info else sample for sample in samples]
        longest = max(wav.shape[-1] for wav in waves)
        batch = torch.stack([F.pad(wav, (0, longest - wav.shape[-1])) for wav in waves])
        if not self.return_info:
            return batch
        infos = [copy.copy(info) for _, info in samples]
        if self.load_wav:
            for info in infos:
                info.total_frames = longest
        return batch, infos

    # From disk

    @classmethod
    def from_meta(cls, root: str | Path, **kwargs: Any) -> "AudioDataset":
        """Read the manifest `root`, or `data.jsonl(.gz)` in the folder `root`; the rest goes to the constructor.

        Raises:
            UserError: as `load_audio_meta`.
        """
        return cls(load_audio_meta(find_manifest(root)), **kwargs)

    @classmethod
    def from_path(
        cls, root: str | Path, minimal_meta: bool = True, exts: Sequence[str] = DEFAULT_EXTS, **kwargs: Any
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


def _get_audio_meta(file_path: str | Path, minimal: bool = True) -> AudioMeta:
    """One file's record in a manifest, with its largest sample unless `minimal`; the peer's tests make theirs so.

    Raises:
        UnreadableAudio: it cannot be read.
    """
    info = audio_info(file_path)
    amplitude = None if minimal else audio_read(file_path)[0].abs().max().item()
    return AudioMeta(str(file_path), info.duration, info.sample_rate, amplitude)


def main(argv: Sequence[str] | None = None) -> int:
    """Make a manifest of a folder and say what was left out. Returns the exit status."""
    import argparse

    parser = argparse.ArgumentParser(
        prog="python -m audiocraft.data.audio_dataset", description="Make a manifest of a folder."
    )
    parser.add_argument("root", help="folder with audio files, searched with its subfolders")
    parser.add_argument("output_meta_file", help="manifest to write, such as egs/NAME/data.jsonl or data.jsonl.gz")
    parser.add_argument("--complete", action="store_true", help="decode every file: fill in its peak, report silence")
    parser.add_argument("--resolve", action="store_true", help="write absolute paths")
    parser.add_argument("--workers", type=int, default=8, help="files read at once (default: 8)")
    args = parser.parse_args(argv)
    try:
        if not args.output_meta_file.endswith((".jsonl", ".jsonl.gz")):
            raise UserError(f"{args.output_meta_file} is no name for a manifest; let it end in .jsonl or .jsonl.gz")
        report = scan_folder(
            args.root, complete=args.complete, workers=args.workers, progress=True, resolve=args.resolve
        )
        save_audio_meta(args.output_meta_file, report.meta)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; no manifest was written", file=sys.stderr)
        return 128 + signal.SIGINT
    print("\n".join([*report.lines(), f"written to {args.output_meta_file}"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
