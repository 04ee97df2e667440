"""SEANet on a stream, in bounded memory: blocks of any size in, exactly the whole signal's result out.

A network is cut at its LSTM, whose memory goes on from block to block. The convolutions on either side run on pieces of
the signal that bring neighbours along, and what the padding at the cuts has spoiled is thrown away. How far that is,
`margins` finds out: a frame or three. Outputs of all pushes, joined, equal `module(whole)` up to float rounding,
whatever the block sizes. Causal or not, constant or reflecting padding.
"""

import math
import typing as tp

import torch
from torch import nn

from ..errors import UserError
from .conv import StreamableConv1d, StreamableConvTranspose1d
from .conv_products import join, products
from .lstm import LSTMLoop, StreamableLSTM
from .seanet import SEANetDecoder, SEANetEncoder

StreamState = dict[str, torch.Tensor | int]
"""What a stream keeps of what it has seen: numbers, and tensors with the clips first, which are replaced and never
written to. It can be copied and kept."""

SEANet = SEANetEncoder | SEANetDecoder
_Convolution = StreamableConv1d | StreamableConvTranspose1d


class Margins(tp.NamedTuple):
    """What a piece needs of its neighbours, in units: the least time that is whole numbers of samples in and out.

    left, right: units that a cut at that side spoils. mirrored: units that must be right for padding to reflect them.
    samples_in, samples_out: per unit.
    """

    left: int
    right: int
    mirrored: int
    samples_in: int
    samples_out: int


def margins(layers: tp.Iterable[nn.Module]) -> Margins:
    """Of layers of a SEANet, one after another."""
    parts = [part for layer in layers for part in layer.modules() if isinstance(part, _Convolution)]
    samples_in = rate = math.prod(part.stride for part in parts if isinstance(part, StreamableConv1d))
    left = right = mirrored = 0  # the first two in samples, of which a unit has `rate`
    for part in parts:
        if isinstance(part, StreamableConv1d):
            before, after = part.paddings(part.stride)
            if part.pad_mode == "reflect" and before + after:
                mirrored = max(mirrored, math.ceil((max(before, after + part.stride - 1) + 1) / rate))
            left, right = math.ceil((left + before) / part.stride), math.ceil((right + after) / part.stride)
            rate //= part.stride
        else:
            # Frame t sounds in samples t * stride - trimmed ... t * stride - trimmed + kernel - 1.
            trimmed = part.trim[0]
            left = (left - 1) * part.stride + part.kernel_size - trimmed
            right = right * part.stride + trimmed
            rate *= part.stride
    return Margins(math.ceil(left / rate), math.ceil(right / rate), mirrored, samples_in, rate)


def can_stream(module: nn.Module) -> bool:
    """Whether a SEANet can be cut: a norm over all time (time_group_norm) cannot be known before the end."""
    return not any(isinstance(part, nn.GroupNorm) for part in module.modules())


def split(module: SEANet) -> tuple[list[nn.Module], StreamableLSTM | None, list[nn.Module]]:
    """The layers before the LSTM, the LSTM, and those after it; without one, the first layer and the others.

    Raises:
        UserError: it cannot be cut.
    """
    if not can_stream(module):
        raise UserError("a codec with norm=time_group_norm cannot be cut into blocks; use one with norm=weight_norm")
    layers = list(module.model)
    for i, layer in enumerate(layers):
        if isinstance(layer, StreamableLSTM):
            return layers[:i], layer, layers[i + 1 :]
    return layers[:1], None, layers[1:]


class Pieces:
    """A SEANet on streams; holds no state of its own. On a CPU its weights are those of now.

    `half`: round the LSTM's recurrent weights to float16 (x86 only). Raises UserError for time_group_norm.
    """

    def __init__(self, module: SEANet, half: bool = False):
        before, lstm, after = split(module)
        self._before, self._after = _Cut("before", before), _Cut("after", after)
        self._remember = None
        if lstm is not None:
            on_cpu = next(lstm.parameters()).device.type == "cpu"
            self._remember = LSTMLoop(lstm, half).step if on_cpu else lstm.step

    @torch.no_grad()
    def push(self, state: StreamState, x: torch.Tensor, last: bool = False) -> torch.Tensor:
        """x [B, C, n], n ≥ 0, → the output [B, C', m], m ≥ 0, that is final now.

        Args:
            state: changed in place; {} for a new stream.
        """
        x = self._before.push(state, x, last)
        if self._remember is not None and x.shape[-1]:
            memory = None
            if "memory" in state:
                hidden, cell = tp.cast(torch.Tensor, state["memory"]).permute(1, 2, 0, 3).contiguous()
                memory = (hidden, cell)
            x, memory = self._remember(x, memory)
            state["memory"] = torch.stack(memory).permute(2, 0, 1, 3)  # [B, 2, layers, D]
        return self._after.push(state, x, last)


class _Cut:
    """Convolutions on a stream; its state is a tensor `name` and of the units therein how many are done."""

    def __init__(self, name: str, layers: list[nn.Module]):
        self.name = name
        self.margins = margins(layers)
        whole = nn.Sequential(*layers)
        convolutions = [part for part in whole.modules() if isinstance(part, nn.Conv1d | nn.ConvTranspose1d)]
        self.channels = convolutions[-1].out_channels
        self.layers = products(whole) if convolutions[0].weight.device.type == "cpu" else whole

    def push(self, state: StreamState, x: torch.Tensor, last: bool) -> torch.Tensor:
        left, right, mirrored, samples_in, samples_out = self.margins
        held = join(tp.cast(torch.Tensor, state[self.name]), x) if self.name in state else x
        start = tp.cast(int, state.get(f"{self.name}_done", 0))
        units = held.shape[-1] / samples_in
        end = math.ceil(units) if last else math.floor(units) - right
        if end <= start or (not last and end < mirrored):
            out = x.new_zeros(len(x), self.channels, 0)
        else:
            piece = held if last else held[..., : (end + right) * samples_in]
            out = self.layers(piece)[..., start * samples_out : end * samples_out]
            forgotten = max(0, end - left - mirrored)
            held, start = held[..., forgotten * samples_in :], end - forgotten
        # A copy, so that a short tail does not hold the memory of the whole block.
        state |= {self.name: held.clone(), f"{self.name}_done": start}
        return out
