"""Batches that can be taken up again in the middle of an epoch."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler


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

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.rank + self.start * self.world_size, self.size, self.world_size))

    def __len__(self) -> int:
        return len(range(self.rank + self.start * self.world_size, self.size, self.world_size))


def _quiet_worker(worker_id: int) -> None:
    """Ctrl-C reaches the whole process group; the main process alone decides what becomes of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def get_dataloader(
    dataset: Any,
    batch_size: int,
    *,
    num_workers: int = 0,
    training: bool = False,
    size: int | None = None,
    start_method: str = "forkserver",
    pin_memory: bool = False,
) -> DataLoader:
    """Batches of `dataset` in the order of its indices (shuffling is the dataset's own, by epoch).

    Args:
        batch_size: of each process.
        num_workers: reading processes; at most one per core is started.
        training: drop a last, smaller batch.
        size: use only that many indices (over all processes); None: all.
        start_method: of the workers.
    """
    import flashy

    size = len(dataset) if size is None else min(size, len(dataset))
    sampler = EpochSampler(size, flashy.distrib.rank(), flashy.distrib.world_size())
    num_workers = min(num_workers, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 8)
    if num_workers and start_method == "forkserver":
        # The server imports what workers need once; each worker is then a cheap fork of it.
        torch.multiprocessing.set_forkserver_preload(["torch", type(dataset).__module__])
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=training,
        num_workers=num_workers,
        collate_fn=getattr(dataset, "collater", None),
        multiprocessing_context=start_method if num_workers else None,
        worker_init_fn=_quiet_worker,
        pin_memory=pin_memory,
        # Of its own: starting an epoch draws a seed for the workers, which must not shift the model's random numbers.
        generator=torch.Generator(),
    )


def start_loader(loader: DataLoader, epoch: int, skip: int = 0) -> int:
    """Set `loader` to batch `skip` of an epoch; returns the number of batches left."""
    if hasattr(loader.dataset, "start_epoch"):
        loader.dataset.start_epoch(epoch)
    assert isinstance(loader.sampler, EpochSampler) and loader.batch_size is not None
    loader.sampler.start = skip * loader.batch_size
    if loader.generator is not None:
        loader.generator.manual_seed(epoch)
    return len(loader)
