"""From configuration to what an adversarial run adds to a codec's: discriminators, their losses, the balancer."""

import inspect
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from ..adversarial import (
    AdversarialLoss,
    FeatureMatchingLoss,
    MultiScaleSTFTDiscriminator,
    get_adv_criterion,
    get_fake_criterion,
    get_real_criterion,
)
from ..adversarial.discriminators import DiscriminatorSTFT
from ..errors import UserError
from ..losses import Balancer
from ..utils.device import resolve_device
from .optimizers import get_optimizer

# name -> (class, classes whose arguments it takes)
_ADVERSARIES: dict[str, tuple[type[nn.Module], tuple[type, ...]]] = {
    "msstftd": (MultiScaleSTFTDiscriminator, (MultiScaleSTFTDiscriminator, DiscriminatorSTFT)),
}
# Given per scale, under a name in the plural.
_PER_SCALE = {"n_fft", "hop_length", "win_length"}
_FEATURES = {"l1": nn.L1Loss, "l2": nn.MSELoss}


def _arguments(*kinds: type) -> list[str]:
    """Names of the arguments of the given classes' constructors."""
    names: dict[str, None] = {}
    for kind in kinds:
        for name, parameter in inspect.signature(kind).parameters.items():
            if parameter.kind is not parameter.VAR_KEYWORD:
                names[name] = None
    return list(names)


def _build(kind: Any, node: str, options: Any, known: list[str], **others: Any) -> Any:
    """`kind` with the options of a config node; UserError for those that it does not know or cannot use."""
    if not isinstance(options, dict):
        raise UserError(f"there are no settings under {node}; give them, or start from solver=compression/default")
    if unknown := [str(name) for name in options if name not in known]:
        raise UserError(f"{node}.{unknown[0]} is no setting; use {', '.join(known)}")
    try:
        return kind(**others, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"the settings under {node} do not go together ({error}); give what its keys ask for"
        ) from error


def _plain(cfg: DictConfig | Mapping[str, Any] | None) -> Any:
    """A config node as a dict."""
    return OmegaConf.to_container(cfg, resolve=True) if isinstance(cfg, DictConfig) else cfg


def get_balancer(loss_weights: Mapping[str, float], cfg: DictConfig) -> Balancer:
    """The balancer of the given losses.

    Args:
        loss_weights: weight by name of a loss.
        cfg: the `balancer` node: balance_grads, ema_decay, per_batch_item, total_norm.
    """
    known = [name for name in _arguments(Balancer) if name != "weights"]
    return _build(Balancer, "balancer", _plain(cfg), known, weights=dict(loss_weights))


def get_adversary(name: str, cfg: DictConfig) -> nn.Module:
    """The discriminator called `name`, with the settings of the config's node of that name.

    Raises:
        UserError: there is none of that name, or its settings do not fit.
    """
    if name not in _ADVERSARIES:
        raise UserError(f"adversarial.adversaries names '{name}', which is not known; use {', '.join(_ADVERSARIES)}")
    kind, takes = _ADVERSARIES[name]
    known = [argument for argument in _arguments(*takes) if argument not in _PER_SCALE]
    options = _plain(cfg.get(name))
    adversary = _build(kind, name, options, known)
    channels, judged = cfg.get("channels"), options.get("in_channels", 1)
    if channels is not None and judged != channels and not options.get("sep_channels"):
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
    if node.feat_loss not in _FEATURES:
        raise UserError(f"adversarial.feat_loss={node.feat_loss} is not known; use {', '.join(_FEATURES)}")
    features = bool(cfg.losses.get("feat", 0))
    losses = nn.ModuleDict()
    for name in names:
        adversary = get_adversary(name, cfg).to(resolve_device(cfg.device))
        losses[name] = AdversarialLoss(
            adversary,
            get_optimizer(adversary.parameters(), cfg.optim),
            get_adv_criterion(node.adv_loss),
            get_real_criterion(node.adv_loss),
            get_fake_criterion(node.adv_loss),
            FeatureMatchingLoss(_FEATURES[node.feat_loss]()) if features else None,
        )
    return losses
