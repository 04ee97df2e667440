"""Numbers that say how close a reconstruction is and how well a codebook is used."""

from ..utils.left_out import missing
from .codebooks import CodebookUsage, codebook_usage
from .reconstruction import log_mel_distance
from .sums import si_sdr

__all__ = ["CodebookUsage", "codebook_usage", "log_mel_distance", "si_sdr"]
__getattr__ = missing(__name__)
