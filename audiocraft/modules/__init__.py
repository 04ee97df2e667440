"""Layers that the models are built of: convolutions, LSTM, SEANet, transformer, patterns, conditioners.

Names are imported when they are first used.
"""

import typing as tp

from ..utils.left_out import missing

if tp.TYPE_CHECKING:
    from .conv import (
        NormConv1d,
        NormConv2d,
        NormConvTranspose1d,
        NormConvTranspose2d,
        StreamableConv1d,
        StreamableConvTranspose1d,
        pad1d,
        pad_for_conv1d,
        unpad1d,
    )
    from .lstm import StreamableLSTM
    from .seanet import SEANetDecoder, SEANetEncoder
    from .transformer import StreamingTransformer

__all__ = [
    "NormConv1d",
    "NormConv2d",
    "NormConvTranspose1d",
    "NormConvTranspose2d",
    "SEANetDecoder",
    "SEANetEncoder",
    "StreamableConv1d",
    "StreamableConvTranspose1d",
    "StreamableLSTM",
    "StreamingTransformer",
    "pad1d",
    "pad_for_conv1d",
    "unpad1d",
]
_ELSEWHERE = {
    "SEANetDecoder": "seanet",
    "SEANetEncoder": "seanet",
    "StreamableLSTM": "lstm",
    "StreamingTransformer": "transformer",
}
__getattr__ = missing(__name__, dict.fromkeys(__all__, "conv") | _ELSEWHERE)
