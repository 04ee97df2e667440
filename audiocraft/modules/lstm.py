"""LSTM over convolutional features, for training and for playing."""

from collections.abc import Callable

import torch
from torch import nn

LSTMMemory = tuple[torch.Tensor, torch.Tensor]


class StreamableLSTM(nn.Module):
    """LSTM on [B, C, F] → [B, C, F], with the input added to the output if `skip`."""

    def __init__(self, dimension: int, num_layers: int = 2, skip: bool = True):
        super().__init__()
        self.skip = skip
        self.lstm = nn.LSTM(dimension, dimension, num_layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, F] → [B, C, F], beginning with an empty memory."""
        return self.step(x, None)[0]

    def step(self, x: torch.Tensor, memory: LSTMMemory | None) -> tuple[torch.Tensor, LSTMMemory]:
        """Go on from `memory` (None: an empty one): x [B, C, F] → the output [B, C, F] and the memory after it."""
        frames = x.permute(2, 0, 1)
        y, memory = self.lstm(frames, memory)
        if self.skip:
            y = y + frames
        return y.permute(1, 2, 0), memory


class LSTMLoop:
    """The frames of a `StreamableLSTM` one after another on a CPU, with its weights as they are now.

    All inputs of a layer are multiplied at once; what is left for each frame is one product with the recurrent matrix,
    which stays in the cache. That takes about half as long as torch's own LSTM.

    Args:
        half: round the recurrent matrix to float16 (x86 only), which is all that has to be read for each frame.
    """

    def __init__(self, module: StreamableLSTM, half: bool = False) -> None:
        self.skip = module.skip
        self.layers = []
        lstm = module.lstm
        for weights in lstm.all_weights:
            # Gates i, f, g, o become i, f, o, g: the three that are sigmoids lie together.
            w_in, w_state, b_in, b_state = (_by_gate(weight)[[0, 1, 3, 2]] for weight in weights)
            bias = (b_in + b_state).flatten()
            self.layers.append((w_in.flatten(0, 1).t().contiguous(), _product(w_state.flatten(0, 1), half), bias))

    @torch.no_grad()
    def step(self, x: torch.Tensor, memory: LSTMMemory | None) -> tuple[torch.Tensor, LSTMMemory]:
        """As `StreamableLSTM.step`."""
        frames = x.permute(2, 0, 1).contiguous()
        batch, width = frames.shape[1:]
        if memory is None:
            memory = (frames.new_zeros(len(self.layers), batch, width),) * 2
        hidden, cells = [], []
        y = frames
        for (w_in, recur, bias), h, c in zip(self.layers, *memory):
            gates = torch.addmm(bias, y.flatten(0, 1), w_in).unflatten(0, y.shape[:2])
            y = torch.empty_like(y)
            c = c.clone()
            for gate, out in zip(gates, y):
                gate += recur(h)
                gate[:, : 3 * width].sigmoid_()
                gate[:, 3 * width :].tanh_()
                i, f, o, g = gate.chunk(4, dim=1)
                c.mul_(f).addcmul_(i, g)
                h = torch.mul(o, c.tanh(), out=out)
            hidden.append(h.clone())
            cells.append(c)
        if self.skip:
            y = y + frames
        return y.permute(1, 2, 0), (torch.stack(hidden), torch.stack(cells))


def _product(weight: torch.Tensor, half: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    if half:
        packed = torch.ops.quantized.linear_prepack_fp16(weight, None)
        return lambda x: torch.ops.quantized.linear_dynamic_fp16(x, packed)
    return lambda x: nn.functional.linear(x, weight)


def _by_gate(weight: torch.Tensor) -> torch.Tensor:
    return weight.detach().unflatten(0, (4, -1))
