"""From configuration to what a model is trained with: optimizers, schedules, moving averages, losses, adversaries."""

import inspect
import typing as tp

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR, LRScheduler, StepLR

from .. import adversarial, losses, optim
from ..errors import UserError
from ..utils.config import check_node
from ..utils.device import resolve_device
from .settings import pick

# Class by name, and its arguments with the keys of the schedule's node that give them.
_WARMUP_INIT = {"warmup_steps": "warmup", "warmup_init_lr": "warmup_init_lr"}
_SCHEDULES: dict[str, tuple[tp.Any, dict[str, str]]] = {
    "cosine": (
        optim.CosineLRScheduler,
        {"warmup_steps": "warmup", "lr_min_ratio": "lr_min_ratio", "cycle_length": "cycle_length"},
    ),
    "linear_warmup": (optim.LinearWarmupLRScheduler, _WARMUP_INIT),
    "inverse_sqrt": (optim.InverseSquareRootLRScheduler, _WARMUP_INIT),
    "polynomial_decay": (
        optim.PolynomialDecayLRScheduler,
        {
            "warmup_steps": "warmup",
            "end_lr": "end_lr",
            "zero_lr_warmup_steps": "zero_lr_warmup_steps",
            "power": "power",
        },
    ),
    "step": (StepLR, {"step_size": "step_size", "gamma": "gamma"}),
    "exponential": (ExponentialLR, {"gamma": "lr_decay"}),
}
_LOSSES: dict[str, type[nn.Module]] = {
    "l1": nn.L1Loss,
    "l2": nn.MSELoss,
    "mel": losses.MelSpectrogramL1Loss,
    "mrstft": losses.MRSTFTLoss,
    "msspec": losses.MultiScaleMelSpectrogramLoss,
    "sisnr": losses.SISNR,
}
# Class by name, and the classes whose arguments it takes.
_ADVERSARIES: dict[str, tuple[type[nn.Module], tuple[type, ...]]] = {
    "msstftd": (
        adversarial.MultiScaleSTFTDiscriminator,
        (adversarial.MultiScaleSTFTDiscriminator, adversarial.DiscriminatorSTFT),
    ),
}
# Given per scale, under a name in the plural.
_PER_SCALE = ("n_fft", "hop_length", "win_length")


def get_optim_parameter_groups(model: nn.Module) -> list[dict[str, tp.Any]]:
    """The model's parameters: first those without wishes, then a group for each module with `make_optim_group`."""
    groups: list[dict[str, tp.Any]] = []
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


def _with_matrices_apart(model: tp.Any, groups: list[dict[str, tp.Any]], node: DictConfig) -> list[dict[str, tp.Any]]:
    """The groups without the matrices of the model's layers, and one of these for Muon; the others' rate stays first.

    Raises:
        UserError: it is no model with a transformer.
    """
    transformer = getattr(model, "transformer", None)
    if transformer is None:
        raise UserError("optim.optimizer=muon is for language models; use optim.optimizer=adamw here")
    matrices = {id(parameter): parameter for parameter in transformer.parameters() if parameter.dim() == 2}
    rest = [{**group, "params": [p for p in group["params"] if id(p) not in matrices]} for group in groups]
    options = {"lr": float(node.lr), "momentum": float(node.momentum)}
    return [group for group in rest if group["params"]] + [{"params": list(matrices.values()), "muon": True, **options}]


def get_optimizer(params: nn.Module | tp.Iterable[torch.Tensor], cfg: DictConfig) -> torch.optim.Optimizer:
    """The optimizer of `optim.optimizer`.

    Args:
        params: a model, or its parameters.
        cfg: the `optim` node.

    Raises:
        UserError: unknown optimizer, one that does not fit the model, or D-Adaptation is not installed.
    """
    groups: tp.Any = get_optim_parameter_groups(params) if isinstance(params, nn.Module) else list(params)
    options: dict[str, tp.Any] = {
        "lr": float(cfg.lr),
        "betas": tuple(float(beta) for beta in cfg.adam.betas),
        "eps": float(cfg.adam.eps),
        "weight_decay": float(cfg.adam.weight_decay),
    }
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "muon": optim.Muon, "dadam": None}
    kind = pick(kinds, "optim.optimizer", cfg.optimizer)
    if kind is None:
        try:
            from dadaptation import DAdaptAdam
        except ImportError as error:
            raise UserError(
                "optim.optimizer=dadam needs D-Adaptation: pip install dadaptation; or use optim.optimizer=adamw"
            ) from error
        return DAdaptAdam(groups, decouple=True, **options)
    if kind is optim.Muon:
        groups = _with_matrices_apart(params, groups, cfg.muon)
    tensors = [t for g in groups for t in g["params"]] if groups and isinstance(groups[0], dict) else groups
    # One kernel for the whole update; elementwise the same arithmetic.
    return kind(groups, fused=all(t.device.type in ("cuda", "cpu") for t in tensors), **options)


def get_lr_scheduler(optimizer: torch.optim.Optimizer, cfg: DictConfig, total_updates: int) -> LRScheduler | None:
    """The schedule of `schedule.lr_scheduler`, stepped once per update; None if there is none.

    Args:
        cfg: the `schedule` node.
        total_updates: updates of the whole run.
    """
    if cfg.lr_scheduler is None:
        return None
    kind, keys = pick(_SCHEDULES, "schedule.lr_scheduler", cfg.lr_scheduler, "null")
    node = cfg[cfg.lr_scheduler]
    options = {argument: node[key] for argument, key in keys.items()}
    for argument, key in keys.items():
        if options[argument] is None and argument != "warmup_init_lr":
            raise UserError(f"this schedule needs {node._get_full_key(key)}; set it")
    if "total_steps" in inspect.signature(kind).parameters:
        options["total_steps"] = total_updates
    return kind(optimizer, **options)


def get_ema(module_dict: nn.ModuleDict, cfg: DictConfig) -> optim.ModuleDictEMA | None:
    """The moving average of `optim.ema` over the given modules; None if it is off or there are none."""
    if not cfg.use or not len(module_dict):
        return None
    return optim.ModuleDictEMA(module_dict, decay=cfg.decay, unbias=True, device=resolve_device(cfg.device))


def get_loss(loss_name: str, cfg: DictConfig) -> nn.Module:
    """A reconstruction loss by name, with the settings of the node of that name."""
    kind = pick(_LOSSES, f"losses.{loss_name}", loss_name)
    options: tp.Any = OmegaConf.to_container(cfg[loss_name], resolve=True)
    return kind(**options)


def get_balancer(loss_weights: tp.Mapping[str, float], cfg: DictConfig) -> losses.Balancer:
    """The balancer of the given losses.

    Args:
        loss_weights: weight by name of a loss.
        cfg: the `balancer` node: balance_grads, ema_decay, per_batch_item, total_norm.
    """
    return _build(losses.Balancer, "balancer", cfg, (losses.Balancer,), weights=dict(loss_weights))


def get_adversary(name: str, cfg: DictConfig) -> nn.Module:
    """The discriminator called `name`, with the settings of the config's node of that name.

    Raises:
        UserError: there is none of that name, or its settings do not fit.
    """
    kind, takes = pick(_ADVERSARIES, "adversarial.adversaries", name)
    adversary = _build(kind, name, cfg.get(name), takes, _PER_SCALE)
    channels, judged = cfg.get("channels"), cfg[name].get("in_channels", 1)
    if channels is not None and judged != channels and not cfg[name].get("sep_channels"):
        raise UserError(
            f"{name}.in_channels={judged} does not fit channels={channels}; set {name}.in_channels={channels}"
        )
    return adversary


def get_adversarial_losses(cfg: DictConfig) -> nn.ModuleDict:
    """An `AdversarialLoss` for each of `adversarial.adversaries`, on the run's device, with optimizers as `optim` says.

    Features are only compared where `losses.feat` weighs them: it takes a pass over the real sound.

    Args:
        cfg: the whole configuration.

    Raises:
        UserError: no adversary, an unknown one, or unknown losses under `adversarial`.
    """
    node = cfg.adversarial
    names = [node.adversaries] if isinstance(node.adversaries, str) else list(node.adversaries or [])
    if not names:
        raise UserError("adversarial.adversaries is empty; name msstftd there, or set losses.adv=0 losses.feat=0")
    distance = pick({"l1": nn.L1Loss, "l2": nn.MSELoss}, "adversarial.feat_loss", node.feat_loss)
    out = nn.ModuleDict()
    for name in names:
        adversary = get_adversary(name, cfg).to(resolve_device(cfg.device))
        out[name] = adversarial.AdversarialLoss(
            adversary,
            get_optimizer(adversary.parameters(), cfg.optim),
            adversarial.get_adv_criterion(node.adv_loss),
            adversarial.get_real_criterion(node.adv_loss),
            adversarial.get_fake_criterion(node.adv_loss),
            adversarial.FeatureMatchingLoss(distance()) if cfg.losses.get("feat") else None,
        )
    return out


def _build(
    kind: tp.Any, node: str, options: tp.Any, takes: tp.Iterable[type], but: tp.Sequence[str] = (), **others: tp.Any
) -> tp.Any:
    """`kind` with the options of a config node.

    Args:
        node: its key, for messages.
        takes: classes whose arguments may be given, but those named in `but`.
        others: further arguments.

    Raises:
        UserError: an option that it does not know or cannot use.
    """
    if options is None:
        raise UserError(f"there are no settings under {node}; give them, or start from solver=compression/default")
    given: tp.Any = OmegaConf.to_container(options, resolve=True)
    check_node(node, given, *takes, but=[*but, *others])
    return kind(**others, **given)
