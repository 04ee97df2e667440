"""LSTM over convolutional features."""

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
