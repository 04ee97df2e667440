"""What an ear notices first and a distance of log-mels does not: whether notes keep their pitch, whether the codec hums
at its own rates, whether attacks are where they were.

Each is measured on the mix of the channels. The sums take a signal clip by clip and tell of the whole, see `sums`;
of one clip they are its measure. None means that the reference has nothing to say: no tones, no sound.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from .sums import Moments

PITCH_BAND = (60.0, 4000.0)  # Hz
CENTS = 50.0  # a peak nearer than this is the same note
LOUD = 0.03  # of the loudest frame's peak: quieter frames are left out
TONAL = 30.0  # times the band's median: frames whose peak stands out less are left out
FEWEST_FRAMES = 5  # with a tone in them; of fewer nothing is said
HUM_TOP = 2000  # Hz up to which multiples of a rate are looked at
SLOWEST_HUM, FASTEST_HUM = 30, HUM_TOP // 2  # Hz: rates with room between their multiples, and two of them in the band


@dataclass(frozen=True)
class Peaks:
    """The strongest peak between 60 and 4000 Hz of every frame of 128 ms, 40 a second.

    Attributes:
        hz: frequencies [frames], interpolated between bins.
        loudness: magnitudes [frames].
        tonality: [frames], how far the peak stands above the band's median, as a ratio.
    """

    hz: torch.Tensor
    loudness: torch.Tensor
    tonality: torch.Tensor


def strongest_peaks(wav: torch.Tensor, sample_rate: int) -> Peaks:
    """Peaks of wav [C, T]."""
    size = sample_rate * 128 // 1000
    spectrum = magnitudes(wav, size, sample_rate // 40)
    hz = torch.arange(len(spectrum)) * (sample_rate / size)
    inside = (hz > PITCH_BAND[0]) & (hz < PITCH_BAND[1])
    hz, spectrum = hz[inside], spectrum[inside]
    at = spectrum.argmax(0).clamp(1, len(hz) - 2)[None]
    # A parabola through the logarithms of the peak and its neighbours.
    low, mid, high = (torch.log(spectrum.gather(0, at + d)[0] + 1e-9) for d in (-1, 0, 1))
    offset = 0.5 * (low - high) / (low - 2 * mid + high - 1e-12)
    tonality = spectrum.gather(0, at)[0] / (spectrum.quantile(0.5, dim=0) + 1e-9)
    return Peaks(hz[at[0]] + (hz[1] - hz[0]) * offset, spectrum.amax(0), tonality)


class PitchSums:
    """Of the loud frames of the reference that hold a tone, the share whose strongest peak stays within 50 cents."""

    def __init__(self) -> None:
        self._kept = self._frames = 0

    def add(self, estimate: Peaks, reference: Peaks) -> None:
        """Take in the next clip; what is loud is judged within it."""
        used = (reference.loudness > LOUD * reference.loudness.max()) & (reference.tonality > TONAL)
        cents = 1200 * torch.log2(estimate.hz[used].clamp(min=1.0) / reference.hz[used])
        self._kept += int((cents.abs() < CENTS).sum())
        self._frames += int(used.sum())

    def value(self) -> float | None:
        """0 to 1, or None where fewer than five frames hold a tone."""
        return self._kept / self._frames if self._frames >= FEWEST_FRAMES else None


def power_spectrum(wav: torch.Tensor, sample_rate: int) -> tuple[torch.Tensor, int]:
    """Sum over windows of a second, half overlapping, of the powers of wav [C, T] in bins of 1 Hz; number of windows.

    What is shorter than a second is filled up with zeros.
    """
    mix = wav.double().mean(0)
    windows = F.pad(mix, (0, max(0, sample_rate - len(mix)))).unfold(0, sample_rate, sample_rate // 2)
    shape = torch.hann_window(sample_rate, periodic=False, dtype=torch.float64)
    powers = [torch.fft.rfft(window * shape).abs()[: HUM_TOP + FASTEST_HUM].square() for window in windows]
    return torch.stack(powers).sum(0), len(powers)


class HumSums:
    """By how many dB energy at the multiples of a rate up to 2 kHz rises against the bins between, over the reference's
    own."""

    def __init__(self) -> None:
        self._powers: list[torch.Tensor | float] = [0.0, 0.0]
        self._windows = 0

    def add(self, estimate: tuple[torch.Tensor, int], reference: tuple[torch.Tensor, int]) -> None:
        """Take in what `power_spectrum` gives of the next clip of both."""
        self._powers = [total + power for total, (power, _) in zip(self._powers, (estimate, reference))]
        self._windows += reference[1]

    def value(self, rate: float) -> float | None:
        """dB for the multiples of `rate` Hz, which is rounded; None for one without multiples or gaps in the band."""
        whole = round(rate)
        if not SLOWEST_HUM <= whole <= FASTEST_HUM:
            return None
        estimate, reference = (torch.as_tensor(power) / self._windows for power in self._powers)
        at, half = torch.arange(2 * whole, HUM_TOP + 1, whole), whole // 2
        at = at[at + half < len(reference)]
        return _comb(estimate, at, half) - _comb(reference, at, half) if len(at) else None


def _comb(power: torch.Tensor, at: torch.Tensor, half: int) -> float:
    on = torch.stack([power[at + d] for d in (-1, 0, 1)]).quantile(0.5)
    off = torch.stack([power[at + d] for d in (-half, -half + 5, half - 5, half - 10, -half + 10)]).quantile(0.5)
    return float(10 * torch.log10((on + 1e-12) / (off + 1e-12)))


class OnsetSums(Moments):
    """Correlation of onset curves [1, frames]."""

    def value(self) -> float | None:
        """-1 to 1; 0 for an estimate in which nothing sets in, None for such a reference."""
        product, estimate, reference = self.centred()
        if not reference > 1e-9:
            return None
        return product / (reference * estimate) ** 0.5 if estimate > 0 else 0.0


def magnitudes(wav: torch.Tensor, size: int, hop: int) -> torch.Tensor:
    """STFT magnitudes [bins, frames] of the mix of wav [C, T]; one too short to be mirrored is filled up with zeros."""
    mix = F.pad(wav.float().mean(0), (0, max(0, size - wav.shape[1])))
    window = torch.hann_window(size, device=wav.device)
    return torch.stft(mix, size, hop, window=window, return_complex=True).abs()
