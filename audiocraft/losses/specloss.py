"""Mel-spectrogram distances at one and at several scales."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from .stftloss import stft


def mel_filters(n_bins: int, n_mels: int, sample_rate: float, f_min: float, f_max: float | None) -> torch.Tensor:
    """Triangular filters [n_mels, n_bins] on the HTK mel scale, mel = 2595 log10(1 + f / 700), peak 1.

    Low scales have fewer bins than filters: a filter between two bins is then zero throughout, which is harmless
    in a distance (both sides are at the floor).
    """
    top = sample_rate / 2 if f_max is None else f_max
    edges_mel = torch.linspace(_hz_to_mel(f_min), _hz_to_mel(top), n_mels + 2)
    edges = 700.0 * (10.0 ** (edges_mel / 2595.0) - 1.0)
    bins = torch.linspace(0, sample_rate / 2, n_bins)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (bins - left) / (centre - left)
    falling = (right - bins) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0)


def _hz_to_mel(frequency: float) -> float:
    return 2595.0 * math.log10(1.0 + frequency / 700.0)


def _reflect(x: torch.Tensor, amount: int) -> torch.Tensor:
    """Reflect [B, T] by `amount` at both sides, in several rounds where the signal is shorter than that."""
    while amount > 0:
        part = min(amount, x.shape[-1] - 1)
        if part == 0:  # one sample has no neighbour to mirror
            return F.pad(x, (amount, amount), mode="replicate")
        x = F.pad(x[:, None], (part, part), mode="reflect")[:, 0]
        amount -= part
    return x


class MelSpectrogramWrapper(nn.Module):
    """Mel power spectrogram, log10 of it by default.

    The signal is mirrored by (n_fft - hop_length) // 2 at both sides and padded with zeros until its last window is
    full, so T samples give about T / hop_length frames whatever n_fft is.

    Args:
        n_fft, hop_length, win_length: samples; win_length None means n_fft.
        n_mels: filters between f_min and f_max Hz (None: half the sample rate).
        log: log10(floor_level + power) instead of the power.
        normalized: divide the STFT by the window's norm.
    """

    window: torch.Tensor
    filters: torch.Tensor

    def __init__(
        self,
        n_fft: int = 1024,
        hop_length: int = 256,
        win_length: int | None = None,
        n_mels: int = 80,
        sample_rate: float = 22050,
        f_min: float = 0.0,
        f_max: float | None = None,
        log: bool = True,
        normalized: bool = False,
        floor_level: float = 1e-5,
    ) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.log = log
        self.floor_level = floor_level
        window = torch.hann_window(win_length or n_fft)
        self.scale = 1 / float(window.norm()) if normalized else 1.0
        self.register_buffer("window", window, persistent=False)
        filters = mel_filters(n_fft // 2 + 1, n_mels, sample_rate, f_min, f_max)
        self.register_buffer("filters", filters, persistent=False)

    def power(self, x: torch.Tensor) -> torch.Tensor:
        """Mel power [B, C * n_mels, frames] of x [B, C, T], before the logarithm."""
        B, _, T = x.shape
        side = (self.n_fft - self.hop_length) // 2
        x = _reflect(x.reshape(-1, T), side)
        beyond = max(x.shape[-1] - self.n_fft, 0) % self.hop_length
        missing = max(self.n_fft - x.shape[-1], (self.hop_length - beyond) % self.hop_length)
        spec = stft(F.pad(x, (0, missing)), self.n_fft, self.hop_length, self.window)
        mel = self.filters @ ((spec.real * self.scale).square() + (spec.imag * self.scale).square())
        return mel.reshape(B, -1, mel.shape[-1])

    def logarithm(self, mel: torch.Tensor) -> torch.Tensor:
        """log10 of what `power` gives, above the floor."""
        return torch.log10(self.floor_level + mel)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [B, C, T]; returns [B, C * n_mels, frames]."""
        mel = self.power(x)
        return self.logarithm(mel) if self.log else mel


class MelSpectrogramL1Loss(nn.Module):
    """Mean absolute difference of two mel spectrograms; a scalar. Arguments as `MelSpectrogramWrapper`."""

    def __init__(
        self,
        sample_rate: int,
        n_fft: int = 1024,
        hop_length: int = 256,
        win_length: int = 1024,
        n_mels: int = 80,
        f_min: float = 0.0,
        f_max: float | None = None,
        log: bool = True,
        normalized: bool = False,
        floor_level: float = 1e-5,
    ) -> None:
        super().__init__()
        self.melspec = MelSpectrogramWrapper(
            n_fft, hop_length, win_length, n_mels, sample_rate, f_min, f_max, log, normalized, floor_level
        )

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """x estimate, y reference: [B, C, T]."""
        return F.l1_loss(self.melspec(x), self.melspec(y))


class MultiScaleMelSpectrogramLoss(nn.Module):
    """Mel distances at window sizes 2^range_start … 2^(range_end - 1), hop a quarter; a scalar.

    Per scale: mean absolute difference of powers plus alpha times the mean squared difference of their log10
    (Défossez et al. 2022, "High fidelity neural audio compression", eq. 5).

    Args:
        sample_rate: Hz.
        range_start, range_end: exponents of two, the last one excluded.
        normalized: divide each STFT by its window's norm, and the sum by the sum of all weights.
        alphas: alpha is sqrt(window size - 1) as in the paper instead of 1.
    """

    def __init__(
        self,
        sample_rate: int,
        range_start: int = 6,
        range_end: int = 11,
        n_mels: int = 64,
        f_min: float = 0.0,
        f_max: float | None = None,
        normalized: bool = False,
        alphas: bool = True,
        floor_level: float = 1e-5,
    ) -> None:
        super().__init__()
        sizes = [2**exponent for exponent in range(range_start, range_end)]
        self.alphas = [math.sqrt(size - 1) if alphas else 1.0 for size in sizes]
        self.total = sum(alpha + 1 for alpha in self.alphas) if normalized else 1.0
        self.melspecs = nn.ModuleList(
            MelSpectrogramWrapper(
                size, size // 4, size, n_mels, sample_rate, f_min, f_max, True, normalized, floor_level
            )
            for size in sizes
        )

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """x estimate, y reference: [B, C, T]."""
        loss = x.new_zeros(())
        for alpha, melspec in zip(self.alphas, self.melspecs):
            assert isinstance(melspec, MelSpectrogramWrapper)
            # One STFT serves the linear and the log distance.
            x_mel, y_mel = melspec.power(x), melspec.power(y)
            loss = loss + F.l1_loss(x_mel, y_mel)
            loss = loss + alpha * F.mse_loss(melspec.logarithm(x_mel), melspec.logarithm(y_mel))
        return loss / self.total
