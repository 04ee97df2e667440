"""From configuration to solvers, optimizers, schedules, losses and data."""

import math
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR, LRScheduler, StepLR
from torch.utils.data import DataLoader

from .. import optim
from ..errors import UserError
from ..utils.device import resolve_device
from ..utils.left_out import missing
from .adversaries import get_adversarial_losses as get_adversarial_losses
from .adversaries import get_adversary as get_adversary
from .adversaries import get_balancer as get_balancer
from .base import StandardSolver
from .batches import get_dataloader

SPLITS = ("train", "valid", "evaluate", "generate")


class DatasetType(Enum):
    """What the items of a dataset carry beside the waveform."""

    AUDIO = "audio"
    MUSIC = "music"


def get_solver(cfg: DictConfig) -> StandardSolver:
    """The solver of `cfg.solver`: musicgen or compression.

    Raises:
        UserError: the solver is not known.
    """
    name = cfg.solver
    if name == "musicgen":
        from .musicgen import MusicGenSolver

        return MusicGenSolver(cfg)
    if name == "compression":
        if cfg.get("compression_model") == "spectral":
            from .spectral import SpectralSolver

            return SpectralSolver(cfg)
        from .compression import CompressionSolver

        return CompressionSolver(cfg)
    raise UserError(f"there is no solver '{name}'; use musicgen or compression")


def get_optim_parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """The model's parameters: first those without wishes, then a group for each module with `make_optim_group`."""
    groups: list[dict[str, Any]] = []
    taken: set[int] = set()
    for module in model.modules():
        make_group = getattr(module, "make_optim_group", None)
        if make_group is None or any(id(parameter) in taken for parameter in module.parameters()):
            continue
        group = make_group()
        group["params"] = list(group["params"])
        taken.update(id(parameter) for parameter in group["params"])
        groups.append(group)
    rest = [parameter for parameter in model.parameters() if id(parameter) not in taken]
    return [{"params": rest}, *groups] if rest else groups


def get_optimizer(params: nn.Module | Iterable[torch.Tensor], cfg: DictConfig) -> torch.optim.Optimizer:
    """The optimizer of `optim.optimizer`.

    Args:
        params: a model, or its parameters.
        cfg: the `optim` node.

    Raises:
        UserError: unknown optimizer, or D-Adaptation is not installed.
    """
    groups: Any = get_optim_parameter_groups(params) if isinstance(params, nn.Module) else list(params)
    options: dict[str, Any] = {
        "lr": float(cfg.lr),
        "betas": tuple(float(beta) for beta in cfg.adam.betas),
        "eps": float(cfg.adam.eps),
        "weight_decay": float(cfg.adam.weight_decay),
    }
    if cfg.optimizer in ("adam", "adamw"):
        kind = torch.optim.Adam if cfg.optimizer == "adam" else torch.optim.AdamW
        tensors = [t for g in groups for t in g["params"]] if groups and isinstance(groups[0], dict) else groups
        # One kernel for the whole update; elementwise the same arithmetic.
        return kind(groups, fused=all(t.device.type in ("cuda", "cpu") for t in tensors), **options)
    if cfg.optimizer == "dadam":
        try:
            from dadaptation import DAdaptAdam
        except ImportError as error:
            raise UserError(
                "optim.optimizer=dadam needs D-Adaptation: pip install dadaptation; or use optim.optimizer=adamw"
            ) from error
        return DAdaptAdam(groups, decouple=True, **options)
    raise UserError(f"optim.optimizer={cfg.optimizer} is not known; use adam, adamw or dadam")


def _needed(node: DictConfig, *names: str) -> list[Any]:
    values = [node[name] for name in names]
    for name, value in zip(names, values):
        if value is None:
            raise UserError(f"this schedule needs {node._get_full_key(name)}; set it")
    return values


def get_lr_scheduler(optimizer: torch.optim.Optimizer, cfg: DictConfig, total_updates: int) -> LRScheduler | None:
    """The schedule of `schedule.lr_scheduler`, stepped once per update; None if there is none.

    Args:
        cfg: the `schedule` node.
        total_updates: updates of the whole run.
    """
    name = cfg.lr_scheduler
    if name is None:
        return None
    if name not in ("step", "exponential", "cosine", "polynomial_decay", "inverse_sqrt", "linear_warmup"):
        raise UserError(
            f"schedule.lr_scheduler={name} is not known; use cosine, linear_warmup, inverse_sqrt, polynomial_decay, "
            "step, exponential or null"
        )
    node = cfg[name]
    if name == "step":
        step_size, gamma = _needed(node, "step_size", "gamma")
        return StepLR(optimizer, step_size=step_size, gamma=gamma)
    if name == "exponential":
        (gamma,) = _needed(node, "lr_decay")
        return ExponentialLR(optimizer, gamma=gamma)
    (warmup,) = _needed(node, "warmup")
    if name == "cosine":
        return optim.CosineLRScheduler(
            optimizer,
            total_steps=total_updates,
            warmup_steps=warmup,
            lr_min_ratio=node.lr_min_ratio,
            cycle_length=node.cycle_length,
        )
    if name == "polynomial_decay":
        return optim.PolynomialDecayLRScheduler(
            optimizer,
            warmup_steps=warmup,
            total_steps=total_updates,
            end_lr=node.end_lr,
            zero_lr_warmup_steps=node.zero_lr_warmup_steps,
            power=node.power,
        )
    if name == "inverse_sqrt":
        return optim.InverseSquareRootLRScheduler(optimizer, warmup_steps=warmup, warmup_init_lr=node.warmup_init_lr)
    return optim.LinearWarmupLRScheduler(optimizer, warmup_steps=warmup, warmup_init_lr=node.warmup_init_lr)


def get_ema(module_dict: nn.ModuleDict, cfg: DictConfig) -> optim.ModuleDictEMA | None:
    """The moving average of `optim.ema` over the given modules; None if it is off or there are none."""
    if not cfg.use or not len(module_dict):
        return None
    return optim.ModuleDictEMA(module_dict, decay=cfg.decay, unbias=True, device=resolve_device(cfg.device))


def get_loss(loss_name: str, cfg: DictConfig) -> nn.Module:
    """A reconstruction loss by name, with the settings of the node of that name."""
    from .. import losses

    kinds: dict[str, Any] = {
        "l1": nn.L1Loss,
        "l2": nn.MSELoss,
        "mel": losses.MelSpectrogramL1Loss,
        "mrstft": losses.MRSTFTLoss,
        "msspec": losses.MultiScaleMelSpectrogramLoss,
        "sisnr": losses.SISNR,
    }
    if loss_name not in kinds:
        raise UserError(f"losses.{loss_name} is not known; use {', '.join(kinds)}")
    options: Any = OmegaConf.to_container(cfg[loss_name], resolve=True)
    return kinds[loss_name](**options)


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


def get_dataset(cfg: DictConfig, split: str, dataset_type: DatasetType = DatasetType.AUDIO) -> Any | None:
    """The dataset of one split, or None where it has no data.

    The evaluate and generate stages take no more segments than the length of their material fills.
    """
    from ..data.audio_dataset import AudioDataset
    from ..data.music_dataset import MusicDataset

    source = get_source(cfg, split)
    if source is None:
        return None
    options: Any = OmegaConf.to_container(cfg.dataset, resolve=True)
    own = options[split]
    for name in (*SPLITS, "batch_size", "num_workers"):
        options.pop(name, None)
    options.update(own)
    for name in ("batch_size", "num_workers"):
        options.pop(name, None)
    options.update(num_samples=num_samples(cfg, split), sample_rate=cfg.sample_rate, channels=cfg.channels)
    kind: Any = MusicDataset if dataset_type is DatasetType.MUSIC else AudioDataset
    dataset = kind.from_meta(source, **options)
    if split in ("evaluate", "generate") and dataset.segment_duration is not None:
        seconds = sum(item.duration for item in dataset.meta)
        dataset.num_samples = min(dataset.num_samples, max(1, math.ceil(seconds / dataset.segment_duration)))
    return dataset


def get_split_loader(cfg: DictConfig, split: str, dataset: Any) -> DataLoader:
    """Batches of `dataset` with the batch size, workers and length of a split.

    `dataset.batch_size` is that of all processes together, as in the peer.

    Raises:
        UserError: the batch cannot be shared among the processes, or is larger than an epoch.
    """
    import flashy

    world_size = flashy.distrib.world_size()
    batch_size = split_batch_size(cfg, split)
    if batch_size % world_size:
        raise UserError(f"dataset.batch_size={batch_size} cannot be shared by {world_size} processes; use a multiple")
    training = split == "train"
    size = None
    if training:
        if len(dataset) < batch_size:
            raise UserError(
                f"dataset.train.num_samples={len(dataset)} gives not one batch of {batch_size}; raise it or lower "
                "dataset.batch_size"
            )
        if cfg.optim.updates_per_epoch:
            size = cfg.optim.updates_per_epoch * batch_size
    workers = cfg.generate.num_workers if split == "generate" else cfg.dataset.num_workers
    return get_dataloader(
        dataset,
        batch_size // world_size,
        num_workers=min(workers, cfg.dataset.num_workers),
        training=training,
        size=size,
        start_method=cfg.mp_start_method,
        pin_memory=resolve_device(cfg.device).type == "cuda",
    )


def get_audio_datasets(
    cfg: DictConfig,
    dataset_type: DatasetType = DatasetType.AUDIO,
    prepare: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
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


__getattr__ = missing(__name__)
