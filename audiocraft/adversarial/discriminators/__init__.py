"""Networks that tell real sound from reconstructed sound."""

from ...utils.left_out import missing
from .base import MultiDiscriminator
from .msstftd import DiscriminatorSTFT, MultiScaleSTFTDiscriminator

__all__ = ["DiscriminatorSTFT", "MultiDiscriminator", "MultiScaleSTFTDiscriminator"]
__getattr__ = missing(__name__)
