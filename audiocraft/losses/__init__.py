"""Losses of the codec: spectral distances and SI-SNR, called as loss(estimate, reference), and their balancer."""

from .balancer import Balancer
from .sisnr import SISNR
from .specloss import MelSpectrogramL1Loss, MelSpectrogramWrapper, MultiScaleMelSpectrogramLoss
from .stftloss import LogSTFTMagnitudeLoss, MRSTFTLoss, SpectralConvergenceLoss, STFTLoss, STFTLosses

__all__ = [
    "SISNR",
    "Balancer",
    "LogSTFTMagnitudeLoss",
    "MRSTFTLoss",
    "MelSpectrogramL1Loss",
    "MelSpectrogramWrapper",
    "MultiScaleMelSpectrogramLoss",
    "STFTLoss",
    "STFTLosses",
    "SpectralConvergenceLoss",
]
