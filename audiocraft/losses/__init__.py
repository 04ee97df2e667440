"""Losses of the codec: spectral distances and scale-invariant SNR. All are called as loss(estimate, reference)."""

from .sisnr import SISNR
from .specloss import MelSpectrogramL1Loss, MelSpectrogramWrapper, MultiScaleMelSpectrogramLoss
from .stftloss import LogSTFTMagnitudeLoss, MRSTFTLoss, SpectralConvergenceLoss, STFTLoss, STFTLosses

__all__ = [
    "SISNR",
    "LogSTFTMagnitudeLoss",
    "MRSTFTLoss",
    "MelSpectrogramL1Loss",
    "MelSpectrogramWrapper",
    "MultiScaleMelSpectrogramLoss",
    "STFTLoss",
    "STFTLosses",
    "SpectralConvergenceLoss",
]
