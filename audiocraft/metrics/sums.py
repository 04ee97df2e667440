"""Distances between signals that come clip by clip, gathered as sums, so that a long file needs little memory.

The result over several clips is that of the whole, not a mean of means: a loud clip weighs in SI-SDR and spectral
convergence what it weighs in the file. Only the frames at the cuts differ, as each clip is framed by itself.
"""

import math
from functools import lru_cache

import torch
from torch.nn import functional as F

from ..losses import LogSTFTMagnitudeLoss, MRSTFTLoss, STFTLoss
from ..losses.stftloss import stft_magnitude

# Mean power of an original below which it counts as silence (-80 dB): no ratio to it means anything.
SILENT_POWER = 1e-8


class Moments:
    """Means of x, y and their products over pairs of signals [C, T], channel by channel, gathered as sums."""

    def __init__(self) -> None:
        self.samples = 0
        self._sums: torch.Tensor | float = 0.0

    def add(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Take in the next clip of both, [C, T]."""
        x, y = x.cpu().double(), y.cpu().double()
        self._sums = self._sums + torch.stack([x.sum(1), y.sum(1), (x * y).sum(1), (x * x).sum(1), (y * y).sum(1)])
        self.samples += x.shape[1]

    def centred(self) -> tuple[float, float, float]:
        """Means over samples and channels of x y, x² and y², each channel's mean removed."""
        assert isinstance(self._sums, torch.Tensor), "nothing was added"
        x, y, xy, xx, yy = self._sums / self.samples
        return float((xy - x * y).mean()), float((xx - x * x).mean()), float((yy - y * y).mean())


class SiSdrSums(Moments):
    """`si_sdr` of one signal of C channels: estimates x of references y."""

    @property
    def reference_power(self) -> float:
        """Mean power of the reference, its mean removed."""
        return self.centred()[2]

    def value(self, epsilon: float = 1e-8) -> float:
        """dB; `epsilon` is added to mean powers."""
        product, estimate, reference = self.centred()
        scale = product / (reference + epsilon)
        # Rounding may leave a little less than nothing where the two are the same.
        noise = max(0.0, estimate - 2 * scale * product + scale**2 * reference)
        return 10 * math.log10((scale**2 * reference + epsilon) / (noise + epsilon))


def si_sdr(estimate: torch.Tensor, reference: torch.Tensor, epsilon: float = 1e-8) -> torch.Tensor:
    """Scale-invariant signal-to-distortion ratio in dB over the whole signal, mean removed.

    Source: Le Roux et al. 2019, "SDR - half-baked or well done?". A silent estimate gives a large negative value.

    Args:
        estimate, reference: [B, C, T]; channels are taken as one long signal.
        epsilon: floor of the mean powers.

    Returns:
        [B], higher is better.
    """
    values = []
    for x, y in zip(estimate, reference):
        sums = SiSdrSums()
        sums.add(x, y)
        values.append(sums.value(epsilon))
    return torch.tensor(values, device=estimate.device)


@lru_cache(maxsize=1)
def _resolutions() -> tuple[STFTLoss, ...]:
    return tuple(MRSTFTLoss().resolutions)  # type: ignore[arg-type]


def stft_magnitudes(wav: torch.Tensor) -> list[torch.Tensor]:
    """Magnitudes [C, frames, bins] of wav [C, T] at each resolution of `MRSTFTLoss`.

    A signal too short to be mirrored at the longest window is filled up with zeros.
    """
    longest = max(one.losses.n_fft for one in _resolutions())
    wav = F.pad(wav.float(), (0, max(0, longest - wav.shape[-1])))[None]
    magnitudes = []
    for one in _resolutions():
        losses = one.losses
        window = losses.window.to(wav.device)
        magnitudes.append(stft_magnitude(wav, losses.n_fft, losses.hop_length, window, losses.normalized))
    return magnitudes


class StftSums:
    """`MRSTFTLoss`, at its defaults, of one signal of C channels."""

    def __init__(self) -> None:
        # Per resolution: squared difference, squared reference, difference of logarithms, count.
        self._sums = torch.zeros(len(_resolutions()), 4, dtype=torch.float64)

    def add(self, estimate: list[torch.Tensor], reference: list[torch.Tensor]) -> None:
        """Take in what `stft_magnitudes` gives of the next clip of both."""
        for sums, one, x, y in zip(self._sums, _resolutions(), estimate, reference):
            magnitude = one.losses.log_magnitude
            assert isinstance(magnitude, LogSTFTMagnitudeLoss)
            sums += torch.tensor(
                [
                    float((y - x).square().sum(dtype=torch.float64)),
                    float(y.square().sum(dtype=torch.float64)),
                    float(magnitude(x, y)) * x.numel(),
                    x.numel(),
                ],
                dtype=torch.float64,
            )

    def value(self) -> float:
        """The mean over resolutions of 0.1 × spectral convergence + 0.1 × log-magnitude difference."""
        values = []
        for one, (difference, reference, magnitude, count) in zip(_resolutions(), self._sums.tolist()):
            convergence = difference**0.5 / (reference**0.5 + one.losses.spectral_convergence.epsilon)
            values.append(one.factor_sc * convergence + one.factor_mag * magnitude / count)
        return sum(values) / len(values)
