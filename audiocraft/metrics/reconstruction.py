"""Distances between a reconstruction and its original."""

from functools import lru_cache

import torch

from ..losses import MelSpectrogramWrapper

# Windows of 8 to 64 ms at 32 kHz: the short ones see transients, the long ones pitch.
WINDOWS = (256, 512, 1024, 2048)
N_MELS = 64
# 50 dB below the power of full-scale white noise in a bin; what is quieter than that counts as silence.
FLOOR = 1e-5


@lru_cache(maxsize=8)
def _mel_scales(sample_rate: int) -> tuple[MelSpectrogramWrapper, ...]:
    return tuple(
        MelSpectrogramWrapper(
            size, size // 4, size, N_MELS, sample_rate, f_min=64.0, log=True, normalized=True, floor_level=FLOOR
        )
        for size in WINDOWS
    )


def _log_mels(wav: torch.Tensor, sample_rate: int) -> list[torch.Tensor]:
    """log10 mel powers of wav [B, C, T] with channels joined in time, one [B, bands, frames] per scale.

    Bands narrower than a bin of a short window see nothing and are left out.
    """
    joined = wav.float().flatten(1)[:, None]
    scales = [scale.to(wav.device) for scale in _mel_scales(sample_rate)]
    return [scale(joined)[:, scale.filters.sum(dim=1) > 0] for scale in scales]


def log_mel_distance(estimate: torch.Tensor, reference: torch.Tensor, sample_rate: int) -> torch.Tensor:
    """Multi-scale log-mel distance in dB: mean |10 log10 mel power| difference over bands, frames and four windows.

    Args:
        estimate, reference: [B, C, T].
        sample_rate: Hz.

    Returns:
        [B], lower is better, 0 for equal signals.
    """
    pairs = zip(_log_mels(estimate, sample_rate), _log_mels(reference, sample_rate))
    return torch.stack([10 * (x - y).abs().mean(dim=(1, 2)) for x, y in pairs]).mean(0)


def mean_spectrum_distance(reference: torch.Tensor, sample_rate: int) -> torch.Tensor:
    """`log_mel_distance` of the best answer that never changes: each band's median over time.

    A baseline for codecs: it knows the colour of a piece but nothing of what happens in it.
    reference: [B, C, T]; returns [B], dB.
    """
    distances = []
    for mel in _log_mels(reference, sample_rate):
        median = mel.median(dim=-1, keepdim=True).values
        distances.append(10 * (mel - median).abs().mean(dim=(1, 2)))
    return torch.stack(distances).mean(0)


def si_sdr(estimate: torch.Tensor, reference: torch.Tensor, epsilon: float = 1e-8) -> torch.Tensor:
    """Scale-invariant signal-to-distortion ratio in dB over the whole signal, mean removed.

    Source: Le Roux et al. 2019, "SDR - half-baked or well done?". A silent estimate gives a large negative value.

    Args:
        estimate, reference: [B, C, T]; channels are taken as one long signal.
        epsilon: floor of the mean powers.

    Returns:
        [B], higher is better.
    """
    estimate = (estimate - estimate.mean(-1, keepdim=True)).flatten(1).double()
    reference = (reference - reference.mean(-1, keepdim=True)).flatten(1).double()
    scale = (estimate * reference).mean(-1, keepdim=True) / (reference.square().mean(-1, keepdim=True) + epsilon)
    target = scale * reference
    signal = target.square().mean(-1) + epsilon
    noise = (estimate - target).square().mean(-1) + epsilon
    return (10 * torch.log10(signal / noise)).float()
