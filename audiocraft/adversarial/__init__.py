"""Adversarial training of codecs: discriminators, and the losses that set them against the codec.

Source: Défossez et al. 2022, "High fidelity neural audio compression" (arXiv 2210.13438), section 3.4.
"""

from ..utils.left_out import missing
from .discriminators import DiscriminatorSTFT, MultiDiscriminator, MultiScaleSTFTDiscriminator
from .losses import (
    AdversarialLoss,
    AdvLossType,
    FeatLossType,
    FeatureMatchingLoss,
    get_adv_criterion,
    get_fake_criterion,
    get_real_criterion,
)

__all__ = [
    "AdvLossType",
    "AdversarialLoss",
    "DiscriminatorSTFT",
    "FeatLossType",
    "FeatureMatchingLoss",
    "MultiDiscriminator",
    "MultiScaleSTFTDiscriminator",
    "get_adv_criterion",
    "get_fake_criterion",
    "get_real_criterion",
]
__getattr__ = missing(__name__)
