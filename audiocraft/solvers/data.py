"""From configuration to batches, which can be taken up again in the middle of an epoch."""

import math
import os
import signal
import typing as tp
from enum import Enum

import torch
from flashy import distrib
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue
from torch.utils.data import DataLoader, Sampler

from ..data.audio_dataset import AudioDataset
from ..data.music_dataset import MusicDataset
from ..errors import UserError
from ..utils.device import resolve_device
from .settings import SPLITS

# Keys under `dataset` that are none of a dataset.
_OF_LOADERS = (*SPLITS, "batch_size", "num_workers")


class DatasetType(Enum):
    """What the items of a dataset carry beside the waveform."""

    AUDIO = "audio"
    MUSIC = "music"


class EpochSampler(Sampler[int]):
    """Indices 0, 1, 2, ... of one epoch, dealt out over the processes, from any position on.

    Datasets draw their segments from (epoch, index) alone, so a position is all that a resumed epoch needs and
    skipping costs nothing.

    Args:
        size: indices of the whole epoch, over all processes.
        rank, world_size: this process takes indices rank, rank + world_size, ...
    """

    def __init__(self, size: int, rank: int = 0, world_size: int = 1) -> None:
        self.size = size
        self.rank = rank
        self.world_size = world_size
        self.start = 0

    def __iter__(self) -> tp.Iterator[int]:
        return iter(range(self.rank + self.start * self.world_size, self.size, self.world_size))

    def __len__(self) -> int:
        return len(range(self.rank + self.start * self.world_size, self.size, self.world_size))


def _quiet_worker(worker_id: int) -> None:
    """Ctrl-C reaches the whole process group; the main process alone decides what becomes of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def start_loader(loader: DataLoader, epoch: int, skip: int = 0) -> int:
    """Set `loader` to batch `skip` of an epoch; returns the number of batches left."""
    if hasattr(loader.dataset, "start_epoch"):
        loader.dataset.start_epoch(epoch)
    assert isinstance(loader.sampler, EpochSampler) and loader.batch_size is not None
    loader.sampler.start = skip * loader.batch_size
    if loader.generator is not None:
        loader.generator.manual_seed(epoch)
    return len(loader)


def num_samples(cfg: DictConfig, split: str) -> int:
    """Segments per epoch of a split: its own `num_samples`, else that of `dataset`, else 10,000."""
    own = cfg.dataset[split].get("num_samples")
    return int(own if own is not None else cfg.dataset.num_samples or 10_000)


def split_batch_size(cfg: DictConfig, split: str) -> int:
    """Items per batch of a split, over all processes: its own `batch_size`, else that of `dataset`."""
    return int(cfg.dataset[split].get("batch_size") or cfg.dataset.batch_size)


def needs_split(cfg: DictConfig, split: str) -> bool:
    """Whether any stage will use a split: not where its `every` is null."""
    return split in ("train", "valid") or bool(cfg[split].every) or cfg.execute_only == split


def get_source(cfg: DictConfig, split: str) -> str | None:
    """Where `datasource` has the manifest of a split; None where there is none (`generate` then takes `evaluate`'s).

    Raises:
        UserError: no data set was chosen.
    """
    try:
        source = cfg.datasource[split]
        if source is None and split == "generate":
            source = cfg.datasource.evaluate
    except MissingMandatoryValue as error:
        raise UserError(
            f"no audio was chosen (datasource.{split}); add dset=audio/jungle, another of config/dset, "
            f"or datasource.{split}=FOLDER"
        ) from error
    return None if source is None else str(source)


def get_dataset(cfg: DictConfig, split: str, dataset_type: DatasetType = DatasetType.AUDIO) -> tp.Any | None:
    """The dataset of one split, or None where it has no data.

    The evaluate and generate stages take no more segments than the length of their material fills.
    """
    source = get_source(cfg, split)
    if source is None:
        return None
    options: tp.Any = OmegaConf.to_container(cfg.dataset, resolve=True)
    own = options[split]
    options = {name: value for name, value in {**options, **own}.items() if name not in _OF_LOADERS}
    if split != "train":
        options.pop("on_beat", None)
    options.update(num_samples=num_samples(cfg, split), sample_rate=cfg.sample_rate, channels=cfg.channels)
    kind: tp.Any = MusicDataset if dataset_type is DatasetType.MUSIC else AudioDataset
    dataset = kind.from_meta(source, **options)
    if split in ("evaluate", "generate") and dataset.segment_duration is not None:
        seconds = sum(item.duration for item in dataset.meta)
        dataset.num_samples = min(dataset.num_samples, max(1, math.ceil(seconds / dataset.segment_duration)))
    return dataset


def get_split_loader(cfg: DictConfig, split: str, dataset: tp.Any) -> DataLoader:
    """Batches of `dataset` with the batch size, workers and length of a split, in the order of its indices: shuffling
    is the dataset's own, by epoch.

    `dataset.batch_size` is that of all processes together, as in the peer.

    Raises:
        UserError: the batch cannot be shared among the processes, or is larger than an epoch.
    """
    world_size = distrib.world_size()
    batch_size = split_batch_size(cfg, split)
    if batch_size % world_size:
        raise UserError(f"dataset.batch_size={batch_size} cannot be shared by {world_size} processes; use a multiple")
    training, size = split == "train", len(dataset)
    if training:
        if size < batch_size:
            raise UserError(
                f"dataset.train.num_samples={size} gives not one batch of {batch_size}; raise it or lower "
                "dataset.batch_size"
            )
        if cfg.optim.updates_per_epoch:
            size = min(size, cfg.optim.updates_per_epoch * batch_size)
    # At most one reading process per core.
    workers = min(cfg.dataset.num_workers, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 8)
    if split == "generate":
        workers = min(workers, cfg.generate.num_workers)
    if workers and cfg.mp_start_method == "forkserver":
        # The server imports what workers need once; each worker is then a cheap fork of it.
        torch.multiprocessing.set_forkserver_preload(["torch", type(dataset).__module__])
    return DataLoader(
        dataset,
        batch_size=batch_size // world_size,
        sampler=EpochSampler(size, distrib.rank(), world_size),
        drop_last=training,
        num_workers=workers,
        collate_fn=getattr(dataset, "collater", None),
        multiprocessing_context=cfg.mp_start_method if workers else None,
        worker_init_fn=_quiet_worker,
        pin_memory=resolve_device(cfg.device).type == "cuda",
        # Of its own: starting an epoch draws a seed for the workers, which must not shift the model's random numbers.
        generator=torch.Generator(),
    )


def get_audio_datasets(
    cfg: DictConfig,
    dataset_type: DatasetType = DatasetType.AUDIO,
    prepare: tp.Callable[[dict[str, tp.Any]], dict[str, tp.Any]] | None = None,
) -> dict[str, DataLoader]:
    """Loaders of all splits that have data and a stage to use it.

    Args:
        prepare: takes all datasets by split before they go into loaders, and gives those to be used in their place.
    """
    datasets = {split: get_dataset(cfg, split, dataset_type) for split in SPLITS if needs_split(cfg, split)}
    datasets = {split: dataset for split, dataset in datasets.items() if dataset is not None}
    if prepare is not None:
        datasets = prepare(datasets)
    return {split: get_split_loader(cfg, split, dataset) for split, dataset in datasets.items()}
