"""The codec's layers on a stream: blocks of any size in, exactly the whole signal's result out.

`plan(module)` fixes the weights of a module once (weight norm fused) and gives a `Stage`. `stage.start()` makes the
state of one stream, an object that can be copied and kept; `stage.push(state, x, last)` takes the next samples and
returns all output that cannot change any more. The last push (which may be empty) flushes what the padding on the
right adds. Outputs of all pushes, joined, equal `module(whole)` up to float rounding, whatever the block sizes. Causal
or not, constant or reflecting padding.

How: a convolution keeps the samples that its next window needs, a transposed one the frames whose tails overlap, the
LSTM its memory, a residual block the samples of its shorter branch. Nothing grows with the length of the stream.
"""

import typing as tp
from dataclasses import dataclass, field

import torch
from torch import nn

from ..errors import UserError
from .conv import StreamableConv1d, StreamableConvTranspose1d, pad1d
from .conv_products import join, prepare
from .lstm import LSTMLoop, LSTMMemory, StreamableLSTM
from .seanet import SEANetDecoder, SEANetEncoder, SEANetResnetBlock


class Stage(tp.Protocol):
    """A module on a stream. The state that `start` gives belongs to this stage alone."""

    def start(self) -> tp.Any:
        """State of a stream that has seen nothing yet."""

    def push(self, state: tp.Any, x: torch.Tensor, last: bool = False) -> torch.Tensor:
        """x [B, C, n], n ≥ 0, → the output [B, C', m], m ≥ 0, that is final now. `state` is changed in place."""


def _join(parts: list[torch.Tensor | None]) -> torch.Tensor:
    """Concatenate over time, without a copy where one part is all there is."""
    there = [part for part in parts if part is not None and part.shape[-1] > 0]
    if not there:
        return next(part for part in parts if part is not None)
    return there[0] if len(there) == 1 else join(there)


def _keep(x: torch.Tensor) -> torch.Tensor:
    """A copy, so that a short tail does not hold the memory of the whole block."""
    return x.clone()


@dataclass
class ConvState:
    """tail: samples that the next window needs, left padding included once `started`. recent: last samples of the
    input, to be mirrored at the end (reflect only). seen: samples so far."""

    tail: torch.Tensor | None = None
    recent: torch.Tensor | None = None
    seen: int = 0
    started: bool = False


class ConvStage:
    """StreamableConv1d on a stream."""

    def __init__(self, module: StreamableConv1d):
        self.module = module
        self.conv = module.conv.conv
        self.convolve = prepare(self.conv, next(module.parameters()).device)
        self.left, right = module.paddings(module.stride)  # a full window: no extra padding
        # The right side is padded by less than this; reflection needs one sample more than the padding.
        self.reach = right + module.stride
        self.reflect = module.pad_mode == "reflect"

    def start(self) -> ConvState:
        return ConvState()

    def push(self, state: ConvState, x: torch.Tensor, last: bool = False) -> torch.Tensor:
        state.seen += x.shape[-1]
        if self.reflect:
            state.recent = _keep(_join([state.recent, x])[..., -self.reach :])
        buffer = _join([state.tail, x])
        if not state.started:
            if self.reflect and state.seen <= max(self.left, self.reach):
                # Too short to be mirrored yet; if it stays so, the whole signal is here.
                state.tail = None if last else _keep(buffer)
                return self._whole(buffer) if last else self._nothing(x)
            buffer = _join([self._before(buffer), buffer])
            state.started = True
        if last:
            right = self.module.paddings(state.seen)[1]
            if self.reflect:
                assert state.recent is not None
                mirrored = pad1d(state.recent, (0, right), "reflect")[..., state.recent.shape[-1] :]
                buffer = _join([buffer, mirrored])
            else:
                buffer = _join([buffer, buffer.new_zeros(*buffer.shape[:2], right)])
        stride, window = self.module.stride, self.module.window
        frames = max(0, (buffer.shape[-1] - window) // stride + 1)
        state.tail = None if last else _keep(buffer[..., frames * stride :])
        if frames == 0:
            return self._nothing(x)
        return self.convolve(buffer[..., : (frames - 1) * stride + window])

    def _before(self, x: torch.Tensor) -> torch.Tensor:
        """The padding on the left of a signal that begins with x."""
        if self.reflect:
            return x[..., 1 : self.left + 1].flip(-1)
        return x.new_zeros(*x.shape[:2], self.left)

    def _whole(self, x: torch.Tensor) -> torch.Tensor:
        padded = pad1d(x, self.module.paddings(x.shape[-1]), self.module.pad_mode)
        return self.convolve(padded)

    def _nothing(self, x: torch.Tensor) -> torch.Tensor:
        return x.new_zeros(x.shape[0], self.conv.out_channels, 0)


@dataclass
class TransposedState:
    """context: last input frames, which still sound in the samples to come. seen: frames so far."""

    context: torch.Tensor | None = None
    seen: int = 0


class TransposedStage:
    """StreamableConvTranspose1d on a stream. Frames are computed again with those before them rather than their
    overlaps added up, so that sums run in the same order as in one go."""

    def __init__(self, module: StreamableConvTranspose1d):
        self.module = module
        self.conv = module.convtr.convtr
        self.convolve = prepare(self.conv, next(module.parameters()).device)
        self.n_context = -(-module.kernel_size // module.stride) - 1

    def start(self) -> TransposedState:
        return TransposedState()

    def push(self, state: TransposedState, x: torch.Tensor, last: bool = False) -> torch.Tensor:
        stride, (left, right) = self.module.stride, self.module.trim
        before = state.seen
        frames = _join([state.context, x])
        state.seen += x.shape[-1]
        # Samples are counted from the first one of the untrimmed result; those before `done` went out already.
        offset = (state.seen - frames.shape[-1]) * stride
        done = max(before * stride, left)
        final = state.seen * stride
        if last:
            final = (state.seen - 1) * stride + self.module.kernel_size - right
        state.context = _keep(frames[..., max(0, frames.shape[-1] - self.n_context) :])
        if final <= done:
            return x.new_zeros(x.shape[0], self.conv.out_channels, 0)
        return self.convolve(frames)[..., done - offset : final - offset]


@dataclass
class LSTMState:
    """memory: hidden and cell state [layers, B, D] after the frames so far; None before the first."""

    memory: LSTMMemory | None = None


class LSTMStage:
    """StreamableLSTM on a stream."""

    def __init__(self, module: StreamableLSTM, half: bool):
        on_cpu = next(module.parameters()).device.type == "cpu"
        self.step = LSTMLoop(module, half).step if on_cpu else module.step

    def start(self) -> LSTMState:
        return LSTMState()

    def push(self, state: LSTMState, x: torch.Tensor, last: bool = False) -> torch.Tensor:
        if x.shape[-1] == 0:
            return x
        y, state.memory = self.step(x, state.memory)
        return y


class PointwiseStage:
    """An activation: no state."""

    def __init__(self, module: nn.Module):
        self.module = module

    def start(self) -> None:
        return None

    def push(self, state: None, x: torch.Tensor, last: bool = False) -> torch.Tensor:
        return self.module(x)


@dataclass
class SumState:
    """State of both branches, and what one of them is ahead of the other."""

    branches: tuple[tp.Any, tp.Any]
    ahead: list[torch.Tensor | None] = field(default_factory=lambda: [None, None])


class SumStage:
    """Two branches added, each with a delay of its own."""

    def __init__(self, first: Stage, second: Stage):
        self.branches = (first, second)

    def start(self) -> SumState:
        return SumState((self.branches[0].start(), self.branches[1].start()))

    def push(self, state: SumState, x: torch.Tensor, last: bool = False) -> torch.Tensor:
        first, second = (
            _join([ahead, branch.push(inner, x, last)])
            for ahead, branch, inner in zip(state.ahead, self.branches, state.branches)
        )
        ready = min(first.shape[-1], second.shape[-1])
        state.ahead = [_keep(first[..., ready:]), _keep(second[..., ready:])]
        return first[..., :ready] + second[..., :ready]


class ChainStage:
    """Stages one after another; the state is the list of theirs."""

    def __init__(self, stages: list[Stage]):
        self.stages = stages

    def start(self) -> list[tp.Any]:
        return [stage.start() for stage in self.stages]

    def push(self, state: list[tp.Any], x: torch.Tensor, last: bool = False) -> torch.Tensor:
        for stage, inner in zip(self.stages, state):
            x = stage.push(inner, x, last)
        return x


def can_stream(module: nn.Module) -> bool:
    """Whether `plan` can take the module: a norm over all time (time_group_norm) cannot be known before the end."""
    return not any(isinstance(part, nn.GroupNorm) for part in module.modules())


def plan(module: nn.Module, half: bool = False) -> Stage:
    """Prepare a SEANet encoder or decoder, or a layer of one, for streams. Later changes of its weights do not count.

    `half`: see `LSTMLoop`. Raises UserError for time_group_norm.
    """
    if not can_stream(module):
        raise UserError("a codec with norm=time_group_norm cannot be cut into blocks; use one with norm=weight_norm")
    return _plan(module, half)


def _in_place(layer: nn.Module) -> nn.Module:
    """A layer whose input nobody else looks at: an activation may then write over it."""
    return nn.ELU(layer.alpha, inplace=True) if isinstance(layer, nn.ELU) else layer


def _plan(module: nn.Module, half: bool) -> Stage:
    if isinstance(module, SEANetEncoder | SEANetDecoder):
        return _plan(module.model, half)
    if isinstance(module, nn.Sequential):
        return ChainStage([_plan(_in_place(layer) if i else layer, half) for i, layer in enumerate(module)])
    if isinstance(module, SEANetResnetBlock):
        return SumStage(_plan(module.shortcut, half), _plan(module.block, half))
    if isinstance(module, StreamableConv1d):
        return ConvStage(module)
    if isinstance(module, StreamableConvTranspose1d):
        return TransposedStage(module)
    if isinstance(module, StreamableLSTM):
        return LSTMStage(module, half)
    return PointwiseStage(module)
