"""From configuration to what an adversarial run adds to a codec's: discriminators, their losses, the balancer."""

from collections.abc import Iterable, Mapping
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
from ..utils.config import check_node
from ..utils.device import resolve_device
from .optimizers import get_optimizer

# name -> class, and one whose arguments it takes as well
_ADVERSARIES: dict[str, tuple[type[nn.Module], type]] = {"msstftd": (MultiScaleSTFTDiscriminator, DiscriminatorSTFT)}
# Given per scale, under a name in the plural.
_PER_SCALE = {"n_fft", "hop_length", "win_length"}
_FEATURES = {"l1": nn.L1Loss, "l2": nn.MSELoss}


def _build(kind: Any, node: str, options: Any, *more_kinds: type, but: Iterable[str] = (), **others: Any) -> Any:
    """`kind` with the options of a config node; UserError for those that it, or `more_kinds`, do not know."""
    if not isinstance(options, dict):
        raise UserError(f"there are no settings under {node}; give them, or start from solver=compression/default")
    check_node(node, options, kind, *more_kinds, but=[*but, *others])
    return kind(**others, **options)


def _plain(cfg: DictConfig | Mapping[str, Any] | None) -> Any:
    """A config node as a dict."""
    return OmegaConf.to_container(cfg, resolve=True) if isinstance(cfg, DictConfig) else cfg


def get_balancer(loss_weights: Mapping[str, float], cfg: DictConfig) -> Balancer:
    """The balancer of the given losses.

    Args:
        loss_weights: weight by name of a loss.
        cfg: the `balancer` node: balance_grads, ema_decay, per_batch_item, total_norm.
    """
    return _build(Balancer, "balancer", _plain(cfg), weights=dict(loss_weights))


def get_adversary(name: str, cfg: DictConfig) -> nn.Module:
    """The discriminator called `name`, with the settings of the config's node of that name.

    Raises:
        UserError: there is none of that name, or its settings do not fit.
    """
    if name not in _ADVERSARIES:
        raise UserError(f"adversarial.adversaries names '{name}', which is not known; use {', '.join(_ADVERSARIES)}")
    options = _plain(cfg.get(name))
    kind, takes = _ADVERSARIES[name]
    adversary = _build(kind, name, options, takes, but=_PER_SCALE)
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
