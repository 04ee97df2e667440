"""Scale-invariant signal-to-noise ratio over overlapping frames."""

import math

import torch
from torch import nn
from torch.nn import functional as F


def frames(x: torch.Tensor, length: int, stride: int) -> torch.Tensor:
    """Cut [..., T] into ceil(T / stride) frames [..., N, length]; the end is padded with zeros."""
    count = math.ceil(x.shape[-1] / stride)
    missing = (count - 1) * stride + length - x.shape[-1]
    return F.pad(x, (0, missing)).unfold(-1, length, stride)


def split_powers(estimate: torch.Tensor, reference: torch.Tensor, epsilon: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean powers [...] of the share of an estimate [..., T] that follows its reference, and of what is left.

    Means, so that `epsilon`, added to the reference's, is a floor per sample whatever the length.
    """
    scale = (estimate * reference).mean(-1, keepdim=True) / (reference.square().mean(-1, keepdim=True) + epsilon)
    target = scale * reference
    return target.square().mean(-1), (estimate - target).square().mean(-1)


class SISNR(nn.Module):
    """Negative SI-SNR in dB, so lower is better (Le Roux et al. 2019, "SDR - half-baked or well done?").

    Each frame is made zero-mean, the estimate is projected on the reference, and the energy of the projection is held
    against what is left; the loss is the mean over frames, channels and batch.

    Args:
        sample_rate: Hz.
        segment: frame length in seconds; None takes the whole signal as one frame.
        overlap: share of a frame that the next one repeats, in [0, 1).
        epsilon: added to mean powers, which bounds the value for silence.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        segment: float | None = 20,
        overlap: float = 0.5,
        epsilon: float = torch.finfo(torch.float32).eps,
    ) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.segment = segment
        self.overlap = overlap
        self.epsilon = epsilon

    def forward(self, out_sig: torch.Tensor, ref_sig: torch.Tensor) -> torch.Tensor:
        """out_sig, ref_sig: [B, C, T]; returns a scalar."""
        length = out_sig.shape[-1] if self.segment is None else int(self.segment * self.sample_rate)
        stride = length if self.segment is None else int(length * (1 - self.overlap))
        estimate = frames(out_sig, length, stride)
        reference = frames(ref_sig, length, stride)
        estimate = estimate - estimate.mean(dim=-1, keepdim=True)
        reference = reference - reference.mean(dim=-1, keepdim=True)
        signal, noise = split_powers(estimate, reference, self.epsilon)
        return -10 * (torch.log10(signal + self.epsilon) - torch.log10(noise + self.epsilon)).mean()
