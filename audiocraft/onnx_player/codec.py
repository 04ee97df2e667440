"""A codec's decoder as two ONNX graphs that work on a stream: codes to features, features to sound.

The first looks codes up, convolves them and runs the LSTM, whose memory comes in and goes out. The second upsamples.
Both are the ordinary layers with the ordinary padding, which is right at the true ends of a clip. A player that cuts a
clip gives each piece `margins` of its neighbours along and throws away what these became, see `modules.chunked`.
"""

import typing as tp
from dataclasses import dataclass, field
from functools import singledispatch
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..errors import UserError
from ..models.codec import CompressionModel
from ..models.encodec import EncodecModel
from ..models.spectral import SpectralModel
from ..modules import sines
from ..modules.chunked import margins, split
from ..modules.conv import StreamableConv1d, StreamableConvTranspose1d
from ..modules.lstm import StreamableLSTM
from ..modules.seanet import SEANetDecoder, SEANetResnetBlock
from .graph import Graph, Shape, array

# torch.nn activations: the operator, and its attributes from the module's.
_ACTIVATIONS: dict[str, tuple[str, dict[str, str]]] = {
    "ELU": ("Elu", {"alpha": "alpha"}),
    "ReLU": ("Relu", {}),
    "LeakyReLU": ("LeakyRelu", {"alpha": "negative_slope"}),
    "GELU": ("Gelu", {"approximate": "approximate"}),
    "Tanh": ("Tanh", {}),
    "Sigmoid": ("Sigmoid", {}),
    "Softplus": ("Softplus", {}),
    "Identity": ("Identity", {}),
}


@dataclass(frozen=True)
class CodecParts:
    """What a player gets of a codec: graphs and arrays by their names, modules to copy beside its own, and facts.

    The facts: `codec`, its kind; `features_margins`, `sound_margins`: neighbours in frames that a piece needs on its
    left and right for each graph; `least_frames` that a piece must have with them; `lstm`: layers (0 for none) and N.

    An EnCodec's graphs:
        features: inputs `codes` int64 [B, K, F], `start` and `end` int64 [1] (the frames to give out), and with an
            LSTM `hidden` and `cell` float32 [layers, B, N]. Outputs `features` float32 [B, N, end - start], and
            `next_hidden`, `next_cell` after frame `end`.
        sound: input `features`, output `wav` float32 [B, C, hop * F].
    """

    facts: dict[str, tp.Any]
    graphs: dict[str, Graph] = field(default_factory=dict)
    tables: dict[str, np.ndarray] = field(default_factory=dict)
    modules: tuple[Path, ...] = ()


@singledispatch
def codec_parts(codec: CompressionModel) -> CodecParts:
    """What a player gets of a codec in evaluation mode, on the CPU; each kind of codec registers its own.

    Raises:
        UserError: it is of no known kind, or has a part that is not served.
    """
    raise UserError(f"the player does not know codecs like this {type(codec).__name__}; use another model")


@codec_parts.register
def _spectral_parts(codec: SpectralModel) -> CodecParts:
    ahead = -(-sines.DELAY // codec.hop_length)
    facts: dict[str, tp.Any] = {"codec": "spectral", "features_margins": [0, 0], "sound_margins": [0, ahead]}
    facts |= {"least_frames": 1, "lstm": [0, 0]}
    return CodecParts(facts, tables=codec.tables(), modules=(Path(sines.__file__),))


@codec_parts.register
def _encodec_parts(codec: EncodecModel) -> CodecParts:
    if codec.codebooks is None:
        raise UserError("the codec has no codebooks (no_quant), so no language model speaks its codes; use another")
    head, lstm, body = split(tp.cast(SEANetDecoder, codec.decoder))
    width = tp.cast(StreamableConv1d, head[-1]).conv.conv.out_channels
    graphs = {"features": _features_graph(codec, head, lstm, width), "sound": _sound_graph(codec, body, width)}
    facts: dict[str, tp.Any] = {"codec": "encodec", "lstm": [0 if lstm is None else lstm.lstm.num_layers, width]}
    cuts = {"features": margins(head), "sound": margins(body)}
    least = max(1, *(cut.mirrored for cut in cuts.values()))
    # A last piece may be one frame, and must have `least` with its neighbours.
    facts |= {f"{name}_margins": [max(cut.left, least - 1), cut.right] for name, cut in cuts.items()}
    facts["least_frames"] = least
    return CodecParts(facts, graphs)


def _features_graph(codec: EncodecModel, head: list[nn.Module], lstm: StreamableLSTM | None, width: int) -> Graph:
    graph = Graph("micro-musicgen codec, codes to features")
    books = array(tp.cast(torch.Tensor, codec.codebooks))
    n_q, bins, _ = books.shape
    codes = graph.input("codes", "int64", ["B", n_q, "F"])
    start, end = (graph.input(name, "int64", [1]) for name in ("start", "end"))
    table = graph.weight(books.reshape(n_q * bins, -1), "codebooks")
    first = graph.weight((np.arange(n_q) * bins).reshape(1, n_q, 1), "codebooks.first")
    vectors = graph.op("Gather", table, graph.op("Add", codes, first))  # [B, K, F, D]
    x = graph.op("Transpose", graph.op("ReduceSum", vectors, graph.ints(1), keepdims=0), perm=[0, 2, 1])
    for layer in head:
        x = _layer(graph, layer, x)
    x = graph.slice(x, start, end, 2)
    if lstm is not None:
        x = _lstm(graph, lstm, x)
    graph.output(x, "features", "float32", ["B", width, "N"])
    return graph


def _sound_graph(codec: EncodecModel, body: list[nn.Module], width: int) -> Graph:
    graph = Graph("micro-musicgen codec, features to sound")
    x = graph.input("features", "float32", ["B", width, "F"])
    for layer in body:
        x = _layer(graph, layer, x)
    graph.output(x, "wav", "float32", ["B", codec.channels, "T"])
    return graph


def _layer(graph: Graph, layer: nn.Module, x: str) -> str:
    """x [B, C, T] → [B, C', T'] through one layer of a SEANet decoder."""
    if isinstance(layer, nn.Sequential):
        for part in layer:
            x = _layer(graph, part, x)
        return x
    if isinstance(layer, SEANetResnetBlock):
        return graph.op("Add", _layer(graph, layer.shortcut, x), _layer(graph, layer.block, x))
    if isinstance(layer, StreamableConv1d):
        return _convolution(graph, layer, x)
    if isinstance(layer, StreamableConvTranspose1d):
        transposed: tp.Any = layer.convtr.convtr
        weights = [graph.weight(part) for part in (transposed.weight, transposed.bias)]
        sizes: tp.Any = {"kernel_shape": [layer.kernel_size], "strides": [layer.stride], "pads": list(layer.trim)}
        return graph.op("ConvTranspose", x, *weights, **sizes, group=transposed.groups)
    name = type(layer).__name__
    if name not in _ACTIVATIONS:
        raise UserError(f"the codec's activation {name} is not served in players; known are {', '.join(_ACTIVATIONS)}")
    kind, attributes = _ACTIVATIONS[name]
    if kind == "Identity":
        return x
    return graph.op(kind, x, **{key: getattr(layer, source) for key, source in attributes.items()})


def _convolution(graph: Graph, layer: StreamableConv1d, x: str) -> str:
    conv: tp.Any = layer.conv.conv
    left, right = layer.paddings(layer.stride)
    weights = [graph.weight(part) for part in (conv.weight, conv.bias)]
    if layer.pad_mode == "reflect" and left + right:
        x = graph.op("Pad", x, graph.ints(0, 0, left, 0, 0, right), mode="reflect")
        left = right = 0
    sizes = {"kernel_shape": conv.kernel_size, "strides": conv.stride, "dilations": conv.dilation}
    return graph.op("Conv", x, *weights, **sizes, pads=[left, right], group=conv.groups)


def _lstm(graph: Graph, layer: StreamableLSTM, x: str) -> str:
    """x [B, N, F] → the same; the memory is an input and an output of the graph."""
    lstm = layer.lstm
    width = lstm.hidden_size
    shape: Shape = [lstm.num_layers, "B", width]
    before = [graph.input(name, "float32", shape) for name in ("hidden", "cell")]
    after: list[list[str]] = [[], []]
    frames = y = graph.op("Transpose", x, perm=[2, 0, 1])  # [F, B, N]
    for index in range(lstm.num_layers):
        parts = [getattr(lstm, f"{kind}_l{index}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        w, r, *biases = (_onnx_gates(array(part)) for part in parts)
        memory = [graph.slice(state, graph.ints(index), graph.ints(index + 1), 0) for state in before]
        weights = [graph.weight(part[None]) for part in (w, r, np.concatenate(biases))]
        y, *last = graph.ops("LSTM", 3, y, *weights, "", *memory, hidden_size=width)
        y = graph.op("Squeeze", y, graph.ints(1))
        for states, state in zip(after, last):
            states.append(state)
    for name, states in zip(("next_hidden", "next_cell"), after):
        graph.output(graph.op("Concat", *states, axis=0), name, "float32", shape)
    if layer.skip:
        y = graph.op("Add", y, frames)
    return graph.op("Transpose", y, perm=[1, 2, 0])


def _onnx_gates(rows: np.ndarray) -> np.ndarray:
    """torch's order of gates (input, forget, cell, output) as ONNX has it (input, output, forget, cell)."""
    i, f, g, o = np.split(rows, 4)
    return np.concatenate([i, o, f, g])
