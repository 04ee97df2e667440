"""Spectral convergence and log-magnitude losses over one or several STFT resolutions.

Source: Yamamoto et al. 2020, "Parallel WaveGAN" (the two terms) with several resolutions averaged.
"""

import typing as tp

import torch
from torch import nn
from torch.nn import functional as F

EPSILON = torch.finfo(torch.float32).eps


def stft(x: torch.Tensor, n_fft: int, hop_length: int, window: torch.Tensor, center: bool = False) -> torch.Tensor:
    """Short-time Fourier transform of x [B, C, T], complex [B * C, bins, frames].

    Args:
        n_fft, hop_length: samples.
        window: of n_fft samples or fewer, and then centred in as many.
        center: mirror the signal at its ends, so that frame k is centred at sample k * hop_length.
    """
    x = x.reshape(-1, x.shape[-1])
    return torch.stft(x, n_fft, hop_length, len(window), window, center=center, return_complex=True)


def stft_magnitude(
    x: torch.Tensor, n_fft: int, hop_length: int, window: torch.Tensor, normalized: bool = False
) -> torch.Tensor:
    """Magnitudes [B * C, frames, bins] of x [B, C, T], divided by sqrt(n_fft) if `normalized`; the floor keeps the
    square root's gradient finite at silence."""
    spec = stft(x, n_fft, hop_length, window, center=True)
    power = spec.real.square() + spec.imag.square()
    return (power / n_fft if normalized else power).clamp(min=1e-7).sqrt().transpose(1, 2)


class SpectralConvergenceLoss(nn.Module):
    """Frobenius norm of the difference of magnitudes over the norm of the reference's."""

    def __init__(self, epsilon: float = EPSILON) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, x_mag: torch.Tensor, y_mag: torch.Tensor) -> torch.Tensor:
        """Magnitudes of estimate and reference, of one shape → a scalar."""
        return torch.linalg.norm(y_mag - x_mag) / (torch.linalg.norm(y_mag) + self.epsilon)


class LogSTFTMagnitudeLoss(nn.Module):
    """Mean absolute difference of natural-log magnitudes."""

    def __init__(self, epsilon: float = EPSILON) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, x_mag: torch.Tensor, y_mag: torch.Tensor) -> torch.Tensor:
        """Magnitudes of estimate and reference, of one shape → a scalar."""
        return F.l1_loss(torch.log(self.epsilon + x_mag), torch.log(self.epsilon + y_mag))


class STFTLosses(nn.Module):
    """Both terms at one resolution: (spectral convergence, log magnitude), each a scalar.

    Args:
        n_fft, hop_length, win_length: samples; a window shorter than n_fft is centred.
        window: name of a torch function of the window's length.
        normalized: divide the STFT by sqrt(n_fft).
    """

    window: torch.Tensor

    def __init__(
        self,
        n_fft: int = 1024,
        hop_length: int = 120,
        win_length: int = 600,
        window: str = "hann_window",
        normalized: bool = False,
        epsilon: float = EPSILON,
    ) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.normalized = normalized
        self.register_buffer("window", getattr(torch, window)(win_length), persistent=False)
        self.spectral_convergence = SpectralConvergenceLoss(epsilon)
        self.log_magnitude = LogSTFTMagnitudeLoss(epsilon)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x estimate, y reference: [B, C, T]."""
        args = (self.n_fft, self.hop_length, self.window, self.normalized)
        x_mag, y_mag = stft_magnitude(x, *args), stft_magnitude(y, *args)
        return self.spectral_convergence(x_mag, y_mag), self.log_magnitude(x_mag, y_mag)


class STFTLoss(nn.Module):
    """factor_sc * spectral convergence + factor_mag * log magnitude at one resolution; a scalar."""

    def __init__(
        self,
        n_fft: int = 1024,
        hop_length: int = 120,
        win_length: int = 600,
        window: str = "hann_window",
        normalized: bool = False,
        factor_sc: float = 0.1,
        factor_mag: float = 0.1,
        epsilon: float = EPSILON,
    ) -> None:
        super().__init__()
        self.losses = STFTLosses(n_fft, hop_length, win_length, window, normalized, epsilon)
        self.factor_sc = factor_sc
        self.factor_mag = factor_mag

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """x estimate, y reference: [B, C, T]."""
        convergence, magnitude = self.losses(x, y)
        return self.factor_sc * convergence + self.factor_mag * magnitude


class MRSTFTLoss(nn.Module):
    """Mean of `STFTLoss` over several resolutions; a scalar."""

    def __init__(
        self,
        n_ffts: tp.Sequence[int] = (1024, 2048, 512),
        hop_lengths: tp.Sequence[int] = (120, 240, 50),
        win_lengths: tp.Sequence[int] = (600, 1200, 240),
        window: str = "hann_window",
        factor_sc: float = 0.1,
        factor_mag: float = 0.1,
        normalized: bool = False,
        epsilon: float = EPSILON,
    ) -> None:
        super().__init__()
        assert len(n_ffts) == len(hop_lengths) == len(win_lengths)
        self.resolutions = nn.ModuleList(
            STFTLoss(n_fft, hop, win, window, normalized, factor_sc, factor_mag, epsilon)
            for n_fft, hop, win in zip(n_ffts, hop_lengths, win_lengths)
        )

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """x estimate, y reference: [B, C, T]."""
        return torch.stack([resolution(x, y) for resolution in self.resolutions]).mean()
