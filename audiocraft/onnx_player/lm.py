"""The language model's step as an ONNX graph: new codes and the cache in, logits of the next codes out.

The cache is made once by the player for a window and given as input and output of the same memory, in which ONNX
Runtime's GroupQueryAttention writes the new keys and values where they belong: nothing is copied from step to step.
"""

import typing as tp

import numpy as np
import torch
from torch import nn

from ..errors import UserError
from ..models.lm import LMModel
from ..modules.activations import CustomGLU, GeGLU, ReGLU, SwiGLU
from ..modules.attention import StreamingMultiheadAttention
from ..modules.transformer import LayerScale, StreamingTransformerLayer
from .graph import CONTRIB, Graph, Shape, array

_ACTIVATIONS: dict[tp.Any, str] = {
    nn.functional.relu: "Relu",
    nn.functional.gelu: "Gelu",
    nn.functional.silu: "Silu",
}


def lm_graph(lm: LMModel, quantize: str, max_steps: int) -> Graph:
    """The step of a language model without conditions.

    Inputs: `codes` int64 [B, K, S], the steps to read; `length` int32 [1], how many the cache holds with them; `ends`
    int32 [B], one less than that, for each clip; `past_keys_i` and `past_values_i` float32 [B, H, room, W] of layer i.
    Outputs: `logits` float32 [B, K, card] of the step that follows; `keys_i`, `values_i`: what goes on as the past.

    Args:
        lm: in evaluation mode, on the CPU.
        quantize: `int8` or `none`.
        max_steps: the longest window, in steps.
    Raises:
        UserError: the model takes conditions, or has a part that is not served.
    """
    if lm.condition_provider.conditioners:
        raise UserError(
            "the player makes sound without text, and this model takes text; use python -m audiocraft generate"
        )
    graph = Graph("micro-musicgen language model step", quantize)
    transformer = lm.transformer
    codes = graph.input("codes", "int64", ["B", lm.n_q, "S"])
    length = graph.input("length", "int32", [1])
    ends = graph.input("ends", "int32", ["B"])
    x = _embed(graph, lm, codes)
    if transformer.positional_embedding in ("sin", "sin_rope"):
        x = graph.op("Add", x, _sin_positions(graph, lm, codes, length))
    places = _Places(ends, length, _rope_tables(graph, lm, max_steps))
    for index, layer in enumerate(transformer.layers):
        assert isinstance(layer, StreamingTransformerLayer)
        x = _layer(graph, layer, x, index, places)
    last = graph.slice(x, graph.ints(-1), graph.ints(1 << 40), 1)
    if lm.out_norm is not None:
        last = _norm(graph, lm.out_norm, last)
    heads = [tp.cast(nn.Linear, head) for head in lm.linears]
    weight = np.concatenate([array(head.weight) for head in heads])
    bias = None if heads[0].bias is None else np.concatenate([array(head.bias) for head in heads])
    logits = graph.linear(last, weight, bias, "heads")
    logits = graph.op("Reshape", logits, graph.ints(0, lm.n_q, lm.card))
    graph.output(logits, "logits", "float32", ["B", lm.n_q, lm.card])
    return graph


def _embed(graph: Graph, lm: LMModel, codes: str) -> str:
    """[B, K, S] → [B, S, D]: one table of all codebooks' embeddings, one row per codebook looked up and added."""
    table = np.concatenate([array(emb.weight) for emb in tp.cast(list[nn.Embedding], list(lm.emb))])
    first = graph.weight((np.arange(lm.n_q) * (lm.card + 1)).reshape(1, lm.n_q, 1), "embeddings.first")
    rows = graph.op("Add", codes, first)
    if graph.quantize == "none":
        vectors = graph.op("Gather", graph.weight(table, "embeddings"), rows)
    else:  # half precision halves the file and is far more exact than the rest
        half = graph.op("Gather", graph.weight(table.astype(np.float16), "embeddings"), rows)
        vectors = graph.op("Cast", half, to=1)
    return graph.op("ReduceSum", vectors, graph.ints(1), keepdims=0)


def _sin_positions(graph: Graph, lm: LMModel, codes: str, length: str) -> str:
    """[1, S, D], as `create_sin_embedding`."""
    transformer = lm.transformer
    half = lm.dim // 2
    exponents = torch.arange(half, dtype=torch.float32) / (half - 1)
    periods = graph.weight((transformer.max_period**exponents).numpy(), "positions.periods")
    steps = graph.op("Shape", codes, start=2)
    end = graph.op("Cast", length, to=7)
    scalar = graph.ints(0)
    positions = graph.op(
        "Range",
        graph.op("Squeeze", graph.op("Sub", end, steps), scalar),
        graph.op("Squeeze", end, scalar),
        graph.weight(np.array(1, np.int64), "one"),
    )
    column = graph.op("Unsqueeze", graph.op("Cast", positions, to=1), graph.ints(0, 2))
    phase = graph.op("Div", column, periods)
    waves = graph.op("Concat", graph.op("Cos", phase), graph.op("Sin", phase), axis=-1)
    scale = transformer.positional_scale
    return waves if scale == 1 else graph.op("Mul", waves, graph.number(scale))


def _rope_tables(graph: Graph, lm: LMModel, max_steps: int) -> tuple[str, str] | None:
    """Cosines and sines [max_steps, W / 2] of rotary positions; None for models without."""
    if lm.transformer.rope is None:
        return None
    cos, sin = lm.transformer.rope.get_rotation(0, max_steps).numpy()
    attention = tp.cast(StreamingTransformerLayer, lm.transformer.layers[0]).self_attn
    added = (_padded_width(attention) - attention.head_dim) // 2
    cos, sin = (np.pad(table, ((0, 0), (0, added))) for table in (cos, sin))
    return graph.weight(cos, "rope.cos"), graph.weight(sin, "rope.sin")


class _Places(tp.NamedTuple):
    """Where a step lies: the inputs `ends` and `length`, and the tables of rotary positions."""

    ends: str
    length: str
    rope: tuple[str, str] | None


def _layer(graph: Graph, layer: StreamingTransformerLayer, x: str, index: int, places: _Places) -> str:
    """x [B, S, D] → the same, through one layer."""

    def residual(x: str, branch: tp.Callable[[str], str], norm: nn.Module) -> str:
        if layer.norm_first:
            return graph.op("Add", x, branch(_norm(graph, norm, x)))
        return _norm(graph, norm, graph.op("Add", x, branch(x)))

    def attend(h: str) -> str:
        return _attention(graph, layer, h, index, places)

    def feed_forward(h: str) -> str:
        first, second = (array(linear.weight) for linear in (layer.linear1, layer.linear2))
        h = _linear(graph, first, layer.linear1.bias, None, h, f"layer{index}.linear1")
        h = _activation(graph, layer, h)
        return _linear(graph, second, layer.linear2.bias, layer.layer_scale_2, h, f"layer{index}.linear2")

    return residual(residual(x, attend, layer.norm1), feed_forward, layer.norm2)


def _attention(graph: Graph, layer: StreamingTransformerLayer, x: str, index: int, places: _Places) -> str:
    """Self-attention of one layer, which reads and writes its part of the cache."""
    attention = layer.self_attn
    width = _padded_width(attention)
    weight = _pad_heads(array(attention.in_proj_weight), attention.head_dim, width)
    bias = None
    if attention.in_proj_bias is not None:
        bias = _pad_heads(array(attention.in_proj_bias)[:, None], attention.head_dim, width)[:, 0]
    joint = graph.linear(x, weight, bias, f"layer{index}.in_proj")
    shape: Shape = ["B", attention.kv_heads, "room", width]
    past = [graph.input(f"past_{kind}_{index}", "float32", shape) for kind in ("keys", "values")]
    context = attention.past_context
    mixed, keys, values = graph.ops(
        "GroupQueryAttention",
        3,
        *_queries_keys_values(graph, attention, joint),
        *past,
        places.ends,
        places.length,
        *(places.rope or ()),
        domain=CONTRIB,
        num_heads=attention.num_heads,
        kv_num_heads=attention.kv_heads,
        scale=attention.head_dim**-0.5,
        do_rotary=int(places.rope is not None),
        rotary_interleaved=1,
        local_window_size=-1 if context is None else context + 1,
    )
    graph.output(keys, f"keys_{index}", "float32", shape)
    graph.output(values, f"values_{index}", "float32", shape)
    weight = _pad_heads(array(attention.out_proj.weight).T, attention.head_dim, width).T
    return _linear(graph, weight, attention.out_proj.bias, layer.layer_scale_1, mixed, f"layer{index}.out_proj")


def _padded_width(attention: StreamingMultiheadAttention) -> int:
    """The width of a head that the operator takes: a multiple of 8, with rotary positions of 16."""
    step = 8 if attention.rope is None else 16
    return -(-attention.head_dim // step) * step


def _pad_heads(rows: np.ndarray, width: int, wanted: int) -> np.ndarray:
    """Rows [heads * width, N] with zeros behind each head: [heads * wanted, N]. They change no product."""
    heads = rows.reshape(-1, width, rows.shape[-1])
    return np.pad(heads, ((0, 0), (0, wanted - width), (0, 0))).reshape(-1, rows.shape[-1])


def _queries_keys_values(graph: Graph, attention: StreamingMultiheadAttention, joint: str) -> list[str]:
    """The three inputs of GroupQueryAttention: all packed in the first, unless they are normalised first."""
    if attention.q_layer_norm is None or attention.k_layer_norm is None:
        return [joint, "", ""]
    if _padded_width(attention) != attention.head_dim:
        raise UserError(
            f"the player takes no qk_layer_norm with heads of width {attention.head_dim}, only multiples of 16; "
            "use python -m audiocraft generate"
        )
    query, key, value = graph.ops("Split", 3, joint, axis=-1, num_outputs=3)
    return [_norm(graph, attention.q_layer_norm, query), _norm(graph, attention.k_layer_norm, key), value]


def _linear(
    graph: Graph, weight: np.ndarray, bias: torch.Tensor | None, scale: nn.Module | None, x: str, name: str
) -> str:
    """A linear layer, with the factor per channel that may follow it."""
    factor = array(scale.scale) if isinstance(scale, LayerScale) else np.ones(len(weight), np.float32)
    return graph.linear(x, weight * factor[:, None], None if bias is None else array(bias) * factor, name)


def _norm(graph: Graph, norm: nn.Module, x: str) -> str:
    assert isinstance(norm, nn.LayerNorm), norm
    weight, bias = graph.weight(norm.weight), graph.weight(norm.bias)
    return graph.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=norm.eps)


def _activation(graph: Graph, layer: StreamingTransformerLayer, x: str) -> str:
    """The feed-forward block's activation; gated ones halve the width."""
    kind = layer.activation
    if isinstance(kind, CustomGLU):
        a, b = graph.ops("Split", 2, x, axis=-1, num_outputs=2)
        name = {SwiGLU: "Silu", GeGLU: "Gelu", ReGLU: "Relu"}[type(kind)]
        return graph.op("Mul", a, _pointwise(graph, name, b))
    return _pointwise(graph, _ACTIVATIONS[kind], x)


def _pointwise(graph: Graph, name: str, x: str) -> str:
    return graph.op("Mul", x, graph.op("Sigmoid", x)) if name == "Silu" else graph.op(name, x)
