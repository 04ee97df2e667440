"""Distances between a reconstruction and its original."""

from functools import lru_cache

import torch

from ..errors import UserError
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


def log_mels(wav: torch.Tensor, sample_rate: int) -> list[torch.Tensor]:
    """log10 mel powers of wav [B, C, T] with channels joined in time, one [B, bands, frames] per scale.

    Bands narrower than a bin of a short window see nothing and are left out.
    """
    joined = wav.float().flatten(1)[:, None]
    scales = [scale.to(wav.device) for scale in _mel_scales(sample_rate)]
    return [scale(joined)[:, scale.filters.sum(dim=1) > 0] for scale in scales]


def bands_below(sample_rate: int, f_max: float) -> list[torch.Tensor]:
    """Which of the bands of `log_mels` take nothing from above f_max Hz: one bool [bands] per scale.

    Raises:
        UserError: there are none.
    """
    chosen = []
    for scale in _mel_scales(sample_rate):
        filters = scale.filters[scale.filters.sum(dim=1) > 0]
        above = torch.linspace(0, sample_rate / 2, filters.shape[1], device=filters.device) > f_max
        chosen.append(filters[:, above].sum(dim=1) == 0)
    if not all(mask.any() for mask in chosen):
        raise UserError(f"no mel band lies below {f_max:g} Hz in every window; take 1000 Hz or more")
    return chosen


def mel_distance(
    estimate: list[torch.Tensor], reference: list[torch.Tensor], sample_rate: int, f_max: float | None = None
) -> torch.Tensor:
    """`log_mel_distance` of signals of which `log_mels` are at hand."""
    if f_max is not None:
        masks = [mask.to(reference[0].device) for mask in bands_below(sample_rate, f_max)]
        estimate, reference = ([mel[:, mask] for mel, mask in zip(mels, masks)] for mels in (estimate, reference))
    return torch.stack([10 * (x - y).abs().mean(dim=(1, 2)) for x, y in zip(estimate, reference)]).mean(0)


def log_mel_distance(
    estimate: torch.Tensor, reference: torch.Tensor, sample_rate: int, f_max: float | None = None
) -> torch.Tensor:
    """Multi-scale log-mel distance in dB: mean |10 log10 mel power| difference over bands, frames and four windows.

    Args:
        estimate, reference: [B, C, T].
        sample_rate: Hz.
        f_max: Hz; only the bands that lie wholly below it count. The bands themselves stay the same.

    Returns:
        [B], lower is better, 0 for equal signals.
    """
    return mel_distance(log_mels(estimate, sample_rate), log_mels(reference, sample_rate), sample_rate, f_max)


def medians_over_time(mels: list[torch.Tensor]) -> list[torch.Tensor]:
    """Of `log_mels`, the best answer that never changes: each band's median over time, in every frame."""
    return [mel.median(dim=-1, keepdim=True).values.expand_as(mel) for mel in mels]
