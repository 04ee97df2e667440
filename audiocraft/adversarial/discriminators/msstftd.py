"""The multi-scale STFT discriminator of EnCodec (arXiv 2210.13438, section 3.4 and figure 2).

Each scale sees the complex spectrogram of the signal as an image [frames, bins] of two planes per channel, real and
imaginary. Convolutions halve the bins and dilate over the frames; a last one gives a map of logits.
"""

import typing as tp

import torch
from torch import nn
from torch.nn import functional as F

from ...errors import UserError
from ...losses.stftloss import stft
from ...modules.conv import CONV_NORMALIZATIONS, NormConv2d
from .base import FeatureMapType, MultiDiscriminator, MultiDiscriminatorOutputType


def get_2d_padding(kernel_size: tuple[int, int], dilation: tuple[int, int] = (1, 1)) -> tuple[int, int]:
    """Zeros per side of each axis that keep the size of what an odd kernel sees at stride 1."""
    return (kernel_size[0] - 1) * dilation[0] // 2, (kernel_size[1] - 1) * dilation[1] // 2


def _same_size(
    in_channels: int,
    out_channels: int,
    kernel_size: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    norm: str = "none",
) -> NormConv2d:
    """A convolution that keeps its input's size at stride 1."""
    padding = get_2d_padding(kernel_size, dilation)
    return NormConv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, norm=norm)


class ComplexSpectrogram(nn.Module):
    """Short-time Fourier transform with a Hann window, not padded; real parts first, then imaginary ones.

    Args:
        n_fft, hop_length, win_length: samples.
        normalized: divide by the window's norm, which makes loudness independent of the window's size.
    """

    window: torch.Tensor

    def __init__(self, n_fft: int, hop_length: int, win_length: int, normalized: bool = True) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.hop_length = hop_length
        window = torch.hann_window(win_length)
        self.scale = 1 / float(window.norm()) if normalized else 1.0
        self.register_buffer("window", window)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [B, C, T] → [B, 2 C, frames, n_fft / 2 + 1]; a signal shorter than one window is filled up with zeros."""
        B, C, T = x.shape
        # torch has no half precision Fourier transform for all sizes.
        x = F.pad(x.float(), (0, max(0, self.n_fft - T)))
        planes = (
            torch.view_as_real(stft(x, self.n_fft, self.hop_length, self.window)) * self.scale
        )  # [B * C, bins, frames, 2]
        _, bins, frames, _ = planes.shape
        return planes.view(B, C, bins, frames, 2).permute(0, 4, 1, 3, 2).reshape(B, 2 * C, frames, bins)


def _activation(name: str, params: tp.Mapping[str, tp.Any]) -> nn.Module:
    kind = getattr(nn, name, None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise UserError(f"msstftd.activation={name} is none of torch.nn; use LeakyReLU")
    try:
        return kind(**params)
    except TypeError as error:
        raise UserError(f"msstftd.activation_params do not fit {name} ({error}); give what it takes") from error


class DiscriminatorSTFT(nn.Module):
    """One scale: a stack of 2-D convolutions over a complex spectrogram.

    Args:
        filters: channels of the first layer; each later one has `filters_scale` times as many, up to `max_filters`.
        in_channels: channels of the sound.
        out_channels: logits per place.
        n_fft, hop_length, win_length: of the spectrogram, in samples.
        kernel_size, stride: (frames, bins). The last two layers have square kernels of kernel_size[0].
        dilations: over frames, one strided layer each.
        normalized: divide the spectrogram by the window's norm.
        norm: see `NormConv2d`; the first layer has a plain weight in any case, as in the peer's checkpoints.
        activation, activation_params: name of a module of torch.nn, and its arguments.
    """

    def __init__(
        self,
        filters: int,
        in_channels: int = 1,
        out_channels: int = 1,
        n_fft: int = 1024,
        hop_length: int = 256,
        win_length: int = 1024,
        max_filters: int = 1024,
        filters_scale: int = 1,
        kernel_size: tuple[int, int] = (3, 9),
        dilations: tp.Sequence[int] = (1, 2, 4),
        stride: tuple[int, int] = (1, 2),
        normalized: bool = True,
        norm: str = "weight_norm",
        activation: str = "LeakyReLU",
        activation_params: tp.Mapping[str, tp.Any] | None = None,
    ) -> None:
        super().__init__()
        if min(filters, in_channels, out_channels, hop_length) < 1:
            raise UserError("msstftd.filters, in_channels, out_channels and hop_lengths must all be 1 or more")
        if not 1 <= win_length <= n_fft:
            raise UserError(
                f"msstftd.win_lengths has {win_length} for an n_fft of {n_fft}; windows must lie in 1..n_fft"
            )
        if norm not in CONV_NORMALIZATIONS:
            raise UserError(f"msstftd.norm={norm} is not known; use one of {', '.join(CONV_NORMALIZATIONS)}")
        kernel = (int(kernel_size[0]), int(kernel_size[1]))
        square = (kernel[0], kernel[0])
        self.spec_transform = ComplexSpectrogram(n_fft, hop_length, win_length, normalized)
        self.activation = _activation(
            activation, {"negative_slope": 0.2} if activation_params is None else activation_params
        )
        widths = [min(filters * filters_scale**depth, max_filters) for depth in range(len(dilations) + 2)]
        layers = [_same_size(2 * in_channels, widths[0], kernel)]
        for dilation, width, wider in zip(dilations, widths, widths[1:]):
            step = (int(stride[0]), int(stride[1]))
            layers.append(_same_size(width, wider, kernel, step, (int(dilation), 1), norm))
        layers.append(_same_size(widths[-2], widths[-1], square, norm=norm))
        self.convs = nn.ModuleList(layers)
        self.conv_post = _same_size(widths[-1], out_channels, square, norm=norm)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, FeatureMapType]:
        """x [B, C, T] → logits [B, out_channels, frames, bins'] and the activations before them, layer by layer."""
        maps = []
        hidden = self.spec_transform(x)
        for conv in self.convs:
            hidden = self.activation(conv(hidden))
            maps.append(hidden)
        return self.conv_post(hidden), maps


class MultiScaleSTFTDiscriminator(MultiDiscriminator):
    """`DiscriminatorSTFT` at several resolutions in time and frequency.

    Args:
        filters, in_channels, out_channels: as there.
        sep_channels: judge each channel of the sound by itself, as if it were another item of the batch.
        n_ffts, hop_lengths, win_lengths: samples, one entry per scale.
        **kwargs: for every `DiscriminatorSTFT`.

    Raises:
        UserError: lists of different lengths, or settings that build no network.
    """

    def __init__(
        self,
        filters: int,
        in_channels: int = 1,
        out_channels: int = 1,
        sep_channels: bool = False,
        n_ffts: tp.Sequence[int] = (1024, 2048, 512),
        hop_lengths: tp.Sequence[int] = (256, 512, 128),
        win_lengths: tp.Sequence[int] = (1024, 2048, 512),
        **kwargs: tp.Any,
    ) -> None:
        super().__init__()
        if not n_ffts or not len(n_ffts) == len(hop_lengths) == len(win_lengths):
            raise UserError(
                f"msstftd.n_ffts, hop_lengths and win_lengths have {len(n_ffts)}, {len(hop_lengths)} and "
                f"{len(win_lengths)} entries; give each one entry per scale"
            )
        self.sep_channels = sep_channels
        self.discriminators = nn.ModuleList(
            DiscriminatorSTFT(
                filters,
                1 if sep_channels else in_channels,
                out_channels,
                n_fft=n_fft,
                hop_length=hop,
                win_length=window,
                **kwargs,
            )
            for n_fft, hop, window in zip(n_ffts, hop_lengths, win_lengths)
        )

    @property
    def num_discriminators(self) -> int:
        """Scales."""
        return len(self.discriminators)

    def forward(self, x: torch.Tensor) -> MultiDiscriminatorOutputType:
        """x [B, C, T] → per scale its logits and feature maps."""
        if self.sep_channels:
            x = x.reshape(-1, 1, x.shape[-1])
        logits, maps = zip(*(discriminator(x) for discriminator in self.discriminators))
        return list(logits), list(maps)
