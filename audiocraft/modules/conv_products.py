"""Convolutions as matrix products, for playing on a CPU.

Memory is laid out frame by frame: a signal [B, C, T] is a transposed view of [B, T, C]. Then every tap of a
convolution is one product of shifted rows with a matrix, nothing is copied, and a transposed convolution writes its
samples in order. On two cores of an AVX2 machine this takes about half as long as torch's own 1-D convolutions, most of
all the transposed ones.
"""

import typing as tp

import torch
from torch import Tensor, nn

from .conv import convolve, fused_weight


def rows(x: Tensor) -> Tensor:
    """[B, C, T] → [B, T, C], contiguous; no copy where the memory is laid out so already."""
    return x.transpose(1, 2).contiguous()


def join(parts: tp.Sequence[Tensor]) -> Tensor:
    """Concatenate signals [B, C, t] over time, laid out frame by frame if any of them is."""
    if all(part.is_contiguous() for part in parts):
        return torch.cat(list(parts), dim=-1)
    return torch.cat([part.transpose(1, 2) for part in parts], dim=1).transpose(1, 2)


def prepare(conv: nn.Module, device: torch.device) -> tp.Callable[[Tensor], Tensor]:
    """A function x [B, C, T] → [B, C', T'] that does what `conv` does without padding: by products on a CPU, by torch's
    convolution elsewhere. Weights are those of now."""
    module: tp.Any = conv
    weight = fused_weight(conv).detach()
    if device.type != "cpu" or module.groups != 1:
        return lambda x: convolve(conv, x, weight)
    if module.transposed:
        return TransposedProducts(weight, module.bias, module.stride[0])
    return ConvProducts(weight, module.bias, module.stride[0], module.dilation[0])


class ConvProducts:
    """Conv1d without padding.

    Args:
        weight: [C', C, k].
        bias: [C'] or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, stride: int, dilation: int) -> None:
        self.taps = weight.permute(2, 1, 0).contiguous()  # [k, C, C']
        self.bias = _bias(weight, bias, weight.shape[0])
        self.stride, self.dilation = stride, dilation

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """x [B, C, T] → [B, C', T']."""
        x = rows(x)
        frames = (x.shape[1] - (len(self.taps) - 1) * self.dilation - 1) // self.stride + 1
        out = x.new_empty(len(x), frames, self.taps.shape[2])
        for clip, y in zip(x, out):
            for tap, weight in enumerate(self.taps):
                first = tap * self.dilation
                seen = clip[first : first + (frames - 1) * self.stride + 1 : self.stride]
                torch.addmm(y if tap else self.bias, seen, weight, out=y)
        return out.transpose(1, 2)


class TransposedProducts:
    """ConvTranspose1d without padding: each frame adds to the next ceil(k / stride) groups of `stride` samples.

    Args:
        weight: [C, C', k].
        bias: [C'] or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, stride: int) -> None:
        channels, self.out_channels, self.kernel = weight.shape
        groups = -(-self.kernel // stride)
        padded = torch.nn.functional.pad(weight, (0, groups * stride - self.kernel))
        parts = padded.view(channels, self.out_channels, groups, stride)
        self.taps = parts.permute(2, 0, 3, 1).reshape(groups, channels, -1)  # [groups, C, stride * C']
        self.bias = _bias(weight, bias, self.out_channels).repeat(stride)
        self.stride = stride

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """x [B, C, F] → [B, C', (F - 1) * stride + k]."""
        x = rows(x)
        frames, groups = x.shape[1], len(self.taps)
        out = x.new_empty(len(x), frames + groups - 1, self.taps.shape[2])
        out[:, frames:] = self.bias
        for clip, y in zip(x, out):
            for tap, weight in enumerate(self.taps):
                target = y[tap : tap + frames]
                torch.addmm(target if tap else self.bias, clip, weight, out=target)
        samples = (frames - 1) * self.stride + self.kernel
        return out.view(len(x), -1, self.out_channels)[:, :samples].transpose(1, 2)


def _bias(weight: Tensor, bias: Tensor | None, channels: int) -> Tensor:
    return weight.new_zeros(channels) if bias is None else bias.detach()
