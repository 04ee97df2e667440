"""Layers that the models are built of: convolutions, LSTM, SEANet, transformer, patterns, conditioners.

Names are imported when they are first used.
"""

from ..utils.left_out import missing

_FACES = {
    "conv": "NormConv1d NormConv2d NormConvTranspose1d NormConvTranspose2d StreamableConv1d StreamableConvTranspose1d "
    "pad1d pad_for_conv1d unpad1d",
    "lstm": "StreamableLSTM",
    "seanet": "SEANetDecoder SEANetEncoder",
    "transformer": "StreamingTransformer",
}
__getattr__ = missing(__name__, _FACES)
