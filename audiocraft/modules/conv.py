"""Convolutions with norms, and 1-D ones that pad themselves so that strides divide the length, looking ahead or not.

A strided convolution with kernel k, dilation d and stride s pads `(k - 1) * d + 1 - s` samples in all: all of them on
the left when causal, else split between both sides; and as many more on the right as the last window needs. It gives
ceil(T / s) frames. A transposed one trims what is beyond F * s. `audiocraft.modules.chunked` runs the same layers on a
stream, piece by piece.
"""

import math
import typing as tp

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import BadArgument, UserError

CONV_NORMALIZATIONS = ("none", "weight_norm", "spectral_norm", "time_group_norm")


class _WeightNorm(nn.Module):
    """A convolution whose weight is `weight_g * weight_v / |weight_v|` (Salimans & Kingma 2016), one norm per slice of
    axis 0.

    Holds nothing but parameters: the weight is formed whenever it is asked for, so that no stale copy can exist and the
    module can be copied at any time.
    """

    weight_g: nn.Parameter
    weight_v: nn.Parameter

    def _plain_weight(self) -> torch.Tensor:
        """In the shape of `weight_v`."""
        return self.weight_v * (self.weight_g / _norm_per_slice(self.weight_v))

    weight: tp.Any = property(_plain_weight)


def _norm_per_slice(weight: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.dim())), keepdim=True)


class WeightNormConv1d(_WeightNorm, nn.Conv1d):
    """Conv1d with weight norm."""


class WeightNormConv2d(_WeightNorm, nn.Conv2d):
    """Conv2d with weight norm."""


class WeightNormConvTranspose1d(_WeightNorm, nn.ConvTranspose1d):
    """ConvTranspose1d with weight norm."""


class WeightNormConvTranspose2d(_WeightNorm, nn.ConvTranspose2d):
    """ConvTranspose2d with weight norm."""


_WEIGHT_NORMED: dict[type, type] = {
    nn.Conv1d: WeightNormConv1d,
    nn.Conv2d: WeightNormConv2d,
    nn.ConvTranspose1d: WeightNormConvTranspose1d,
    nn.ConvTranspose2d: WeightNormConvTranspose2d,
}


def apply_parametrization_norm(module: nn.Module, norm: str = "none") -> nn.Module:
    """Wrap a convolution's weight as `norm` asks, in place. Raises UserError for a norm that does not exist."""
    if norm not in CONV_NORMALIZATIONS:
        raise UserError(f"unknown convolution norm '{norm}'; choose one of {', '.join(CONV_NORMALIZATIONS)}")
    if norm == "spectral_norm":
        return nn.utils.parametrizations.spectral_norm(module)
    if norm == "weight_norm":
        weight = tp.cast(nn.Parameter, module.weight).detach()
        del module.weight
        module.__class__ = _WEIGHT_NORMED[type(module)]
        module.weight_g = nn.Parameter(_norm_per_slice(weight))
        module.weight_v = nn.Parameter(weight)
    return module


def get_norm_module(module: nn.Module, causal: bool = False, norm: str = "none", **norm_kwargs: tp.Any) -> nn.Module:
    """What follows the convolution: a group norm over channels and time for time_group_norm, else nothing."""
    if norm == "time_group_norm":
        if causal:
            raise BadArgument("time_group_norm averages over all time and cannot be causal; use norm=weight_norm")
        return nn.GroupNorm(1, tp.cast(int, module.out_channels), **norm_kwargs)
    return nn.Identity()


def get_extra_padding_for_conv1d(x: torch.Tensor, kernel_size: int, stride: int, padding_total: int = 0) -> int:
    """Samples to add on the right of x [..., T] so that the last window of `kernel_size` (dilation included) is
    full."""
    return extra_padding(x.shape[-1], kernel_size, stride, padding_total)


def extra_padding(length: int, kernel_size: int, stride: int, padding_total: int = 0) -> int:
    """`get_extra_padding_for_conv1d` from the length alone."""
    windows = max(0, math.ceil((length - kernel_size + padding_total) / stride)) + 1
    return (windows - 1) * stride + kernel_size - padding_total - length


def pad_for_conv1d(x: torch.Tensor, kernel_size: int, stride: int, padding_total: int = 0) -> torch.Tensor:
    """Pad x [..., T] with zeros on the right so that the last window is full."""
    return F.pad(x, (0, get_extra_padding_for_conv1d(x, kernel_size, stride, padding_total)))


def pad1d(x: torch.Tensor, paddings: tuple[int, int], mode: str = "constant", value: float = 0.0) -> torch.Tensor:
    """Pad x [B, C, T] by (left, right) samples. `reflect` works on inputs of any length: one too short to be mirrored
    is first followed by zeros, and as many samples are cut from the end of the result.

    Raises:
        UserError: a negative number of samples.
    """
    left, right = paddings
    if min(paddings) < 0:
        raise UserError(f"paddings {left} and {right} must be 0 or more; use unpad1d to cut")
    if mode != "reflect":
        return F.pad(x, (left, right), mode, value)
    missing = max(0, max(left, right) - x.shape[-1] + 1)
    padded = F.pad(F.pad(x, (0, missing)), (left, right), mode)
    return padded[..., : padded.shape[-1] - missing]


def unpad1d(x: torch.Tensor, paddings: tuple[int, int]) -> torch.Tensor:
    """Cut (left, right) samples from the ends of x [..., T]. Raises UserError where they are negative, or more than
    there are."""
    left, right = paddings
    if min(paddings) < 0 or left + right > x.shape[-1]:
        raise UserError(
            f"{left} and {right} of {x.shape[-1]} samples cannot be cut; give 0 or more, in all at most that"
        )
    return x[..., left : x.shape[-1] - right]


def _scale_init(conv: nn.Conv1d | nn.ConvTranspose1d, taps: float) -> None:
    """Weights that keep the variance of their input, whatever kernel and stride: `taps` inputs meet in one output
    sample.

    torch's default shrinks the signal by about sqrt(3) per layer, and by more in transposed ones.
    """
    nn.init.normal_(conv.weight, std=taps**-0.5)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


class _NormConv(nn.Module):
    """A convolution and what its norm makes of it; subclasses say which, and under what name the peer keeps it."""

    kind: type[nn.Module]
    attribute = "conv"

    def __init__(
        self,
        *args: tp.Any,
        causal: bool = False,
        norm: str = "none",
        norm_kwargs: dict[str, tp.Any] | None = None,
        **kwargs: tp.Any,
    ):
        super().__init__()
        conv: tp.Any = self.kind(*args, **kwargs)
        self._start(conv)
        setattr(self, self.attribute, apply_parametrization_norm(conv, norm))
        self.norm = get_norm_module(conv, causal, norm, **(norm_kwargs or {}))
        self.norm_type = norm

    def _start(self, conv: tp.Any) -> None:
        """Give the fresh convolution its first weights; here torch's own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [B, C, ...] → [B, C', ...]."""
        return self.norm(getattr(self, self.attribute)(x))


class NormConv1d(_NormConv):
    """Conv1d with the normalisation `norm`; arguments of Conv1d."""

    kind = nn.Conv1d
    conv: nn.Conv1d

    def _start(self, conv: nn.Conv1d) -> None:
        _scale_init(conv, conv.weight[0].numel())

    def forward(self, x: torch.Tensor, padding: int = 0) -> torch.Tensor:
        """x [B, C, T] → [B, C', T'], `padding` zeros added at both sides in place of the convolution's own."""
        conv = self.conv
        if not padding:
            return self.norm(conv(x))
        return self.norm(F.conv1d(x, conv.weight, conv.bias, conv.stride, padding, conv.dilation, conv.groups))


class NormConvTranspose1d(_NormConv):
    """ConvTranspose1d with the normalisation `norm`; arguments of ConvTranspose1d."""

    kind = nn.ConvTranspose1d
    attribute = "convtr"
    convtr: nn.ConvTranspose1d

    def _start(self, conv: nn.ConvTranspose1d) -> None:
        _scale_init(conv, conv.in_channels * max(1.0, conv.kernel_size[0] / conv.stride[0]) / conv.groups)


class NormConv2d(_NormConv):
    """Conv2d with the normalisation `norm`, never causal; arguments of Conv2d."""

    kind = nn.Conv2d
    conv: nn.Conv2d


class NormConvTranspose2d(_NormConv):
    """ConvTranspose2d with the normalisation `norm`, never causal; arguments of ConvTranspose2d."""

    kind = nn.ConvTranspose2d
    attribute = "convtr"
    convtr: nn.ConvTranspose2d


class StreamableConv1d(nn.Module):
    """Self-padding convolution: x [B, C, T] → [B, C', ceil(T / stride)].

    Args:
        causal: all padding on the left, so that no output depends on later input (with pad_mode constant).
        pad_mode: 'constant' (zeros) or 'reflect'.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        causal: bool = False,
        norm: str = "none",
        norm_kwargs: dict[str, tp.Any] | None = None,
        pad_mode: str = "reflect",
    ):
        super().__init__()
        if pad_mode not in ("constant", "reflect"):
            raise UserError(f"unknown pad_mode '{pad_mode}'; choose constant or reflect")
        self.window = (kernel_size - 1) * dilation + 1
        if self.window < stride:
            raise UserError(f"a kernel of {kernel_size} skips samples at stride {stride}; use a longer kernel")
        shape = (in_channels, out_channels, kernel_size, stride, 0, dilation, groups, bias)
        self.conv = NormConv1d(*shape, causal=causal, norm=norm, norm_kwargs=norm_kwargs)
        self.stride = stride
        self.causal = causal
        self.pad_mode = pad_mode

    def paddings(self, length: int) -> tuple[int, int]:
        """(left, right) padding in samples for an input of `length` samples."""
        total = self.window - self.stride
        right = 0 if self.causal else total // 2
        return total - right, right + extra_padding(length, self.window, self.stride, total)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [B, C, T] → [B, C', ceil(T / stride)]."""
        left, right = self.paddings(x.shape[-1])
        if left == right and self.pad_mode == "constant":
            return self.conv(x, padding=left)  # the kernel pads as it goes: no copy of the signal
        return self.conv(pad1d(x, (left, right), self.pad_mode))


class StreamableConvTranspose1d(nn.Module):
    """Self-trimming transposed convolution: x [B, C, F] → [B, C', F * stride].

    Args:
        trim_right_ratio: for causal only; share of the surplus trimmed on the right: 1 keeps it causal, 0.5 is
            symmetric.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        causal: bool = False,
        norm: str = "none",
        trim_right_ratio: float = 1.0,
        norm_kwargs: dict[str, tp.Any] | None = None,
    ):
        super().__init__()
        if not causal and trim_right_ratio != 1.0:
            raise UserError("trim_right_ratio must be 1 unless causal; set seanet.decoder.trim_right_ratio=1.0")
        if not 0.0 <= trim_right_ratio <= 1.0:
            raise UserError(f"trim_right_ratio is {trim_right_ratio}; it must lie in 0..1")
        if kernel_size < stride:
            raise UserError(f"a kernel of {kernel_size} leaves gaps at stride {stride}; use a longer kernel")
        self.convtr = NormConvTranspose1d(
            in_channels, out_channels, kernel_size, stride, causal=causal, norm=norm, norm_kwargs=norm_kwargs
        )
        self.kernel_size = kernel_size
        self.stride = stride
        total = kernel_size - stride
        right = math.ceil(total * trim_right_ratio) if causal else total // 2
        self.trim = (total - right, right)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [B, C, F] → [B, C', F * stride]."""
        return unpad1d(self.convtr(x), self.trim)
