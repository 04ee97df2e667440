"""From configuration to optimizers, schedules, moving averages and losses."""

from collections.abc import Iterable
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR, LRScheduler, StepLR

from .. import losses, optim
from ..errors import UserError
from ..utils.device import resolve_device


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
