"""SEANet: the convolutional encoder and decoder of EnCodec (Tagliasacchi et al. 2020, Défossez et al. 2022).

Module lists are laid out so that state-dict keys are those of the peer: `model.<i>` counts activations too.
"""

import math
import typing as tp
from functools import partial

import torch
from torch import nn

from ..errors import UserError
from ..utils.left_out import missing
from .conv import StreamableConv1d, StreamableConvTranspose1d
from .lstm import StreamableLSTM

Params = dict[str, tp.Any]
Layers = tp.Callable[..., nn.Module]


def _activation(name: str, params: Params | None) -> nn.Module:
    kind = getattr(nn, name, None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise UserError(f"unknown activation '{name}'; use the name of a torch.nn activation such as ELU")
    try:
        module = kind(**(params or {}))
        module(torch.zeros(1, 1, 1))  # most take any value, and look at it when they are used
    except Exception as error:
        raise UserError(f"the activation {name} does not take {params} ({error}); correct activation_params") from error
    return module


def _outer_blocks(norm: str, disabled: int, ratios: tp.Sequence[int]) -> tuple[int, tp.Callable[[int], str]]:
    """Number of blocks, and the norm of each, counted from the waveform from 1."""
    blocks = len(ratios) + 2
    if not 0 <= disabled <= blocks:
        raise UserError(f"disable_norm_outer_blocks is {disabled}; this codec has {blocks} blocks")
    return blocks, lambda block: "none" if disabled >= block else norm


class SEANetResnetBlock(nn.Module):
    """Residual block: x + convolutions(x), [B, dim, T] → [B, dim, T].

    Args:
        kernel_sizes, dilations: one convolution each, with an activation before it.
        compress: the inner width is dim / compress.
        true_skip: add the input itself; else a 1×1 convolution of it.
    """

    def __init__(
        self,
        dim: int,
        kernel_sizes: tp.Sequence[int] = (3, 1),
        dilations: tp.Sequence[int] = (1, 1),
        activation: str = "ELU",
        activation_params: Params | None = None,
        norm: str = "none",
        norm_params: Params | None = None,
        causal: bool = False,
        pad_mode: str = "reflect",
        compress: int = 2,
        true_skip: bool = True,
    ):
        super().__init__()
        if len(kernel_sizes) != len(dilations):
            raise UserError(
                f"{len(kernel_sizes)} kernel sizes came with {len(dilations)} dilations; give as many of each"
            )
        shared: Params = {"causal": causal, "norm": norm, "norm_kwargs": norm_params, "pad_mode": pad_mode}
        widths = [dim] + [dim // compress] * (len(kernel_sizes) - 1) + [dim]
        layers: list[nn.Module] = []
        for i, (kernel, dilation) in enumerate(zip(kernel_sizes, dilations)):
            layers.append(_activation(activation, activation_params))
            layers.append(StreamableConv1d(widths[i], widths[i + 1], kernel, dilation=dilation, **shared))
        self.block = nn.Sequential(*layers)
        self.shortcut: nn.Module = nn.Identity() if true_skip else StreamableConv1d(dim, dim, 1, **shared)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, dim, T] → [B, dim, T]."""
        return self.shortcut(x) + self.block(x)


class SEANetEncoder(nn.Module):
    """wav [B, channels, T] → latents [B, dimension, F], F = ceil(T / hop), hop = product of the ratios.

    Args:
        n_filters: channels after the first layer; they double with each of the reversed `ratios` (listed as in the
            decoder).
        dilation_base: dilation of residual layer j is dilation_base ** j.
        lstm: number of LSTM layers at the bottleneck, 0 for none.
        disable_norm_outer_blocks: that many blocks, counted from the waveform, go without `norm`.
    """

    def __init__(
        self,
        channels: int = 1,
        dimension: int = 128,
        n_filters: int = 32,
        n_residual_layers: int = 3,
        ratios: tp.Sequence[int] = (8, 5, 4, 2),
        activation: str = "ELU",
        activation_params: Params | None = None,
        norm: str = "none",
        norm_params: Params | None = None,
        kernel_size: int = 7,
        last_kernel_size: int = 7,
        residual_kernel_size: int = 3,
        dilation_base: int = 2,
        causal: bool = False,
        pad_mode: str = "reflect",
        true_skip: bool = True,
        compress: int = 2,
        lstm: int = 0,
        disable_norm_outer_blocks: int = 0,
    ):
        super().__init__()
        self.channels = channels
        self.dimension = dimension
        self.n_filters = n_filters
        self.ratios = list(reversed(ratios))
        self.hop_length = math.prod(ratios)
        self.n_blocks, block_norm = _outer_blocks(norm, disable_norm_outer_blocks, ratios)
        shared: Params = {"causal": causal, "pad_mode": pad_mode}
        conv: Layers = partial(StreamableConv1d, norm_kwargs=norm_params, **shared)
        activate = partial(_activation, activation, activation_params)
        residual: Layers = partial(
            SEANetResnetBlock,
            activation=activation,
            activation_params=activation_params,
            norm_params=norm_params,
            compress=compress,
            true_skip=true_skip,
            **shared,
        )
        width = n_filters
        layers: list[nn.Module] = [conv(channels, width, kernel_size, norm=block_norm(1))]
        for i, ratio in enumerate(self.ratios):
            norm_here = block_norm(i + 2)
            for j in range(n_residual_layers):
                dilations = (dilation_base**j, 1)
                layers.append(residual(width, (residual_kernel_size, 1), dilations, norm=norm_here))
            layers += [activate(), conv(width, width * 2, ratio * 2, stride=ratio, norm=norm_here)]
            width *= 2
        if lstm:
            layers.append(StreamableLSTM(width, num_layers=lstm))
        layers += [activate(), conv(width, dimension, last_kernel_size, norm=block_norm(self.n_blocks))]
        self.model = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """wav [B, channels, T] → latents [B, dimension, ceil(T / hop)]."""
        return self.model(x)


class SEANetDecoder(nn.Module):
    """Latents [B, dimension, F] → wav [B, channels, F * hop]; the mirror image of SEANetEncoder, arguments as there.

    Args:
        final_activation: applied to the wave, e.g. Tanh; None for none.
        trim_right_ratio: see StreamableConvTranspose1d.
    """

    def __init__(
        self,
        channels: int = 1,
        dimension: int = 128,
        n_filters: int = 32,
        n_residual_layers: int = 3,
        ratios: tp.Sequence[int] = (8, 5, 4, 2),
        activation: str = "ELU",
        activation_params: Params | None = None,
        final_activation: str | None = None,
        final_activation_params: Params | None = None,
        norm: str = "none",
        norm_params: Params | None = None,
        kernel_size: int = 7,
        last_kernel_size: int = 7,
        residual_kernel_size: int = 3,
        dilation_base: int = 2,
        causal: bool = False,
        pad_mode: str = "reflect",
        true_skip: bool = True,
        compress: int = 2,
        lstm: int = 0,
        disable_norm_outer_blocks: int = 0,
        trim_right_ratio: float = 1.0,
    ):
        super().__init__()
        self.channels = channels
        self.dimension = dimension
        self.n_filters = n_filters
        self.ratios = list(ratios)
        self.hop_length = math.prod(ratios)
        self.n_blocks, block_norm = _outer_blocks(norm, disable_norm_outer_blocks, ratios)
        shared: Params = {"causal": causal, "pad_mode": pad_mode}
        conv: Layers = partial(StreamableConv1d, norm_kwargs=norm_params, **shared)
        activate = partial(_activation, activation, activation_params)
        residual: Layers = partial(
            SEANetResnetBlock,
            activation=activation,
            activation_params=activation_params,
            norm_params=norm_params,
            compress=compress,
            true_skip=true_skip,
            **shared,
        )
        upsample = partial(
            StreamableConvTranspose1d, causal=causal, norm_kwargs=norm_params, trim_right_ratio=trim_right_ratio
        )
        width = n_filters * 2 ** len(self.ratios)
        layers: list[nn.Module] = [conv(dimension, width, kernel_size, norm=block_norm(self.n_blocks))]
        if lstm:
            layers.append(StreamableLSTM(width, num_layers=lstm))
        for i, ratio in enumerate(self.ratios):
            norm_here = block_norm(self.n_blocks - 1 - i)
            layers += [activate(), upsample(width, width // 2, ratio * 2, stride=ratio, norm=norm_here)]
            width //= 2
            for j in range(n_residual_layers):
                dilations = (dilation_base**j, 1)
                layers.append(residual(width, (residual_kernel_size, 1), dilations, norm=norm_here))
        layers += [activate(), conv(width, channels, last_kernel_size, norm=block_norm(1))]
        if final_activation is not None:
            layers.append(_activation(final_activation, final_activation_params))
        self.model = nn.Sequential(*layers)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Latents [B, dimension, F] → wav [B, channels, F * hop]."""
        return self.model(z)


__getattr__ = missing(__name__)
