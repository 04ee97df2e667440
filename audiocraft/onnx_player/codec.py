"""A codec's decoder as two ONNX graphs that work on a stream: codes to features, features to sound.

The first looks codes up, convolves them and runs the LSTM, whose memory comes in and goes out. The second upsamples.
Both are the ordinary layers with the ordinary padding, which is right at the true ends of a clip. A player that cuts a
clip gives each piece `Margins` of its neighbours along and throws away what these became: exactly what a wrong padding
can reach.
"""

import math
import typing as tp
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..errors import UserError
from ..models.encodec import EncodecModel
from ..modules.chunked import can_stream
from ..modules.conv import StreamableConv1d, StreamableConvTranspose1d, fused_weight
from ..modules.lstm import StreamableLSTM
from ..modules.seanet import SEANetResnetBlock
from ..quantization import ResidualVectorQuantizer
from .graph import Graph, Shape

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


class Margins(tp.NamedTuple):
    """Neighbours, in frames, that a piece of a clip needs on its left and on its right."""

    left: int
    right: int


@dataclass(frozen=True)
class CodecGraphs:
    """Both graphs and what a player has to know of them.

    Attributes:
        features: inputs `codes` int64 [B, K, F], `start` and `end` int64 [1] (the frames to give out), and with an
            LSTM `hidden` and `cell` float32 [layers, B, N]. Outputs `features` float32 [B, N, end - start], and
            `next_hidden`, `next_cell` after frame `end`.
        sound: input `features`, output `wav` float32 [B, C, hop * F].
        features_margins, sound_margins: see the module's text.
        lstm_layers: 0 for none.
        width: N, channels of the features.
        least_frames: pieces must have that many frames with their neighbours.
    """

    features: Graph
    sound: Graph
    features_margins: Margins
    sound_margins: Margins
    lstm_layers: int
    width: int
    least_frames: int


def codec_graphs(codec: EncodecModel) -> CodecGraphs:
    """The graphs of a codec in evaluation mode, on the CPU.

    Raises:
        UserError: it has a part that is not served.
    """
    if not can_stream(codec.decoder):
        raise UserError("a codec with norm=time_group_norm cannot be cut into pieces; use one with norm=weight_norm")
    if not isinstance(codec.quantizer, ResidualVectorQuantizer):
        raise UserError("the codec has no codebooks (no_quant), so no language model speaks its codes; use another")
    layers = list(tp.cast(nn.Sequential, codec.decoder.model))
    at = next((i for i, layer in enumerate(layers) if isinstance(layer, StreamableLSTM)), None)
    head, lstm, body = layers[:1], None, layers[1:]
    if at is not None:
        head, lstm, body = layers[:at], tp.cast(StreamableLSTM, layers[at]), layers[at + 1 :]
    width = tp.cast(StreamableConv1d, head[-1]).conv.conv.out_channels
    # Reflection needs one frame more than it adds.
    mirrored = max((max(part.paddings(1)) for part in codec.decoder.modules() if _reflects(part)), default=0)
    return CodecGraphs(
        _features_graph(codec, head, lstm, width),
        _sound_graph(codec, body, width),
        _margins(head, 1, mirrored),
        _margins(body, codec.hop_length, mirrored),
        0 if lstm is None else lstm.lstm.num_layers,
        width,
        mirrored + 1,
    )


def _reflects(part: nn.Module) -> tp.TypeGuard[StreamableConv1d]:
    return isinstance(part, StreamableConv1d) and part.pad_mode == "reflect"


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().float().numpy()


def _features_graph(codec: EncodecModel, head: list[nn.Module], lstm: StreamableLSTM | None, width: int) -> Graph:
    graph = Graph("micro-musicgen codec, codes to features")
    quantizer = tp.cast(ResidualVectorQuantizer, codec.quantizer)
    n_q, bins = quantizer.num_codebooks, quantizer.bins
    codes = graph.input("codes", "int64", ["B", n_q, "F"])
    start, end = (graph.input(name, "int64", [1]) for name in ("start", "end"))
    table = graph.weight(_array(quantizer.codebooks).reshape(n_q * bins, -1), "codebooks")
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
        weights = [graph.weight(_array(part)) for part in (fused_weight(transposed), transposed.bias)]
        return graph.op(
            "ConvTranspose",
            x,
            *weights,
            kernel_shape=[layer.kernel_size],
            strides=[layer.stride],
            pads=list(layer.trim),
            group=transposed.groups,
        )
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
    weights = [graph.weight(_array(part)) for part in (fused_weight(conv), conv.bias)]
    if layer.pad_mode == "reflect" and left + right:
        x = graph.op("Pad", x, graph.ints(0, 0, left, 0, 0, right), mode="reflect")
        left = right = 0
    return graph.op(
        "Conv",
        x,
        *weights,
        kernel_shape=list(conv.kernel_size),
        strides=list(conv.stride),
        dilations=list(conv.dilation),
        pads=[left, right],
        group=conv.groups,
    )


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
        w, r, *biases = (_onnx_gates(_array(part)) for part in parts)
        memory = [graph.slice(state, graph.ints(index), graph.ints(index + 1), 0) for state in before]
        weights = [graph.weight(array[None]) for array in (w, r, np.concatenate(biases))]
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


def _margins(layers: tp.Sequence[nn.Module], hop: int, least: int) -> Margins:
    """What a piece needs of its neighbours, in frames of `hop` samples at the layers' output; `least` on the left."""
    left, right = _reach(layers, 0, 0)
    return Margins(max(math.ceil(left / hop), least), math.ceil(right / hop))


def _reach(layers: tp.Iterable[nn.Module], left: int, right: int) -> tuple[int, int]:
    """How many samples at either end wrong padding can reach in the layers' output, from those of their input."""
    for layer in layers:
        if isinstance(layer, nn.Sequential):
            left, right = _reach(layer, left, right)
        elif isinstance(layer, SEANetResnetBlock):
            branches = [_reach([branch], left, right) for branch in (layer.shortcut, layer.block)]
            left, right = (max(ends) for ends in zip(*branches))
        elif isinstance(layer, StreamableConv1d):
            before, after = layer.paddings(layer.stride)
            left, right = left + before, right + after
        elif isinstance(layer, StreamableConvTranspose1d):
            # Frame t sounds in samples t * stride - trimmed ... t * stride - trimmed + kernel - 1.
            trimmed = layer.trim[0]
            left = (left - 1) * layer.stride + layer.kernel_size - trimmed
            right = right * layer.stride + trimmed
    return left, right
