"""Convolutions as matrix products, for playing on a CPU.

Memory is laid out frame by frame: a signal [B, C, T] is a transposed view of [B, T, C]. Then every tap of a
convolution is one product of shifted rows with a matrix, nothing is copied, and a transposed convolution writes its
samples in order. On two cores of an AVX2 machine this takes about half as long as torch's own 1-D convolutions, most of
all the transposed ones.
"""

import typing as tp

import torch
from torch import Tensor, nn

from .conv import StreamableConv1d, StreamableConvTranspose1d, fused_weight
from .seanet import SEANetResnetBlock

Layer = tp.Callable[[Tensor], Tensor]


def products(layer: nn.Module) -> Layer:
    """A function x [B, C, T] → [B, C', T'] that does what a layer of a SEANet does, or several in a Sequential, with
    the weights of now and without gradients."""
    if isinstance(layer, nn.Sequential):
        return _Chain([products(_in_place(part) if i else part) for i, part in enumerate(layer)])
    if isinstance(layer, SEANetResnetBlock):
        shortcut, block = products(layer.shortcut), products(layer.block)
        return lambda x: block(x).add_(shortcut(x))
    if isinstance(layer, StreamableConv1d):
        return _Products(layer)
    if isinstance(layer, StreamableConvTranspose1d):
        return _TransposedProducts(layer)
    return layer


def join(first: Tensor, second: Tensor) -> Tensor:
    """Concatenate signals [B, C, t] over time, laid out frame by frame."""
    return torch.cat([first.transpose(1, 2), second.transpose(1, 2)], dim=1).transpose(1, 2)


def _in_place(layer: nn.Module) -> nn.Module:
    """A layer whose input nobody else looks at: an activation may then write over it."""
    return nn.ELU(layer.alpha, inplace=True) if isinstance(layer, nn.ELU) else layer


class _Chain:
    """Layers one after another."""

    def __init__(self, layers: list[Layer]) -> None:
        self.layers = layers

    def __call__(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class _Products:
    """A self-padding convolution."""

    def __init__(self, layer: StreamableConv1d) -> None:
        conv = layer.conv.conv
        weight = fused_weight(conv).detach()  # [C', C, k]
        self.layer = layer
        self.taps = weight.permute(2, 1, 0).contiguous()  # [k, C, C']
        self.bias = _bias(weight, conv.bias, conv.out_channels)
        self.stride, self.dilation = layer.stride, conv.dilation[0]

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        frames = -(-x.shape[-1] // self.stride)
        x = _pad(_rows(x), *self.layer.paddings(x.shape[-1]), self.layer.pad_mode)
        out = x.new_empty(len(x), frames, self.taps.shape[2])
        for clip, y in zip(x, out):
            for tap, weight in enumerate(self.taps):
                first = tap * self.dilation
                seen = clip[first : first + (frames - 1) * self.stride + 1 : self.stride]
                torch.addmm(y if tap else self.bias, seen, weight, out=y)
        return out.transpose(1, 2)


class _TransposedProducts:
    """A self-trimming transposed convolution: each frame adds to the next ceil(k / stride) groups of samples."""

    def __init__(self, layer: StreamableConvTranspose1d) -> None:
        conv = layer.convtr.convtr
        weight = fused_weight(conv).detach()  # [C, C', k]
        groups = -(-layer.kernel_size // layer.stride)
        padded = nn.functional.pad(weight, (0, groups * layer.stride - layer.kernel_size))
        parts = padded.unflatten(2, (groups, layer.stride))
        self.taps = parts.permute(2, 0, 3, 1).flatten(2).contiguous()  # [groups, C, stride * C']
        self.bias = _bias(weight, conv.bias, conv.out_channels).repeat(layer.stride)
        self.stride, self.trimmed, self.channels = layer.stride, layer.trim[0], conv.out_channels

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        x = _rows(x)
        frames, groups = x.shape[1], len(self.taps)
        out = x.new_empty(len(x), frames + groups - 1, self.taps.shape[2])
        out[:, frames:] = self.bias
        for clip, y in zip(x, out):
            for tap, weight in enumerate(self.taps):
                target = y[tap : tap + frames]
                torch.addmm(target if tap else self.bias, clip, weight, out=target)
        samples = out.view(len(x), -1, self.channels)
        return samples[:, self.trimmed : self.trimmed + frames * self.stride].transpose(1, 2)


def _rows(x: Tensor) -> Tensor:
    """[B, C, T] → [B, T, C], contiguous; no copy where the memory is laid out so already."""
    return x.transpose(1, 2).contiguous()


def _pad(x: Tensor, left: int, right: int, mode: str) -> Tensor:
    """As `pad1d`, of rows [B, T, C]."""
    if not left + right:
        return x
    if mode != "reflect":
        return nn.functional.pad(x, (0, 0, left, right))
    missing = max(0, max(left, right) - x.shape[1] + 1)
    filled = nn.functional.pad(x, (0, 0, 0, missing)) if missing else x
    end = filled.shape[1] - 1
    ends = filled[:, 1 : left + 1].flip(1), filled[:, end - right : end].flip(1)
    padded = torch.cat([ends[0], filled, ends[1]], dim=1)
    return padded[:, : padded.shape[1] - missing].contiguous()


def _bias(weight: Tensor, bias: Tensor | None, channels: int) -> Tensor:
    return weight.new_zeros(channels) if bias is None else bias.detach()
