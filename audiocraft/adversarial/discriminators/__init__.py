"""Networks that tell real sound from reconstructed sound."""

from .base import FeatureMaps, MultiDiscriminator
from .msstftd import DiscriminatorSTFT, MultiScaleSTFTDiscriminator

__all__ = ["DiscriminatorSTFT", "FeatureMaps", "MultiDiscriminator", "MultiScaleSTFTDiscriminator"]
