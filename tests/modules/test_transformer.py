"""Attention against the textbook formula, caches against whole sequences, positions, options."""

import itertools

import pytest
import torch
from torch import nn

from audiocraft.errors import UserError
from audiocraft.modules.activations import GeGLU, ReGLU, SwiGLU, get_activation_fn
from audiocraft.modules.attention import StreamingMultiheadAttention
from audiocraft.modules.kv_cache import KVCache
from audiocraft.modules.rope import RotaryEmbedding
from audiocraft.modules.transformer import StreamingTransformer, create_norm_fn, create_sin_embedding


def transformer(**kwargs) -> StreamingTransformer:
    torch.manual_seed(0)
    options = {"d_model": 32, "num_heads": 4, "num_layers": 2, "dim_feedforward": 48, "dropout": 0.0, "causal": True}
    model = StreamingTransformer(**{**options, **kwargs}).eval()
    for p in model.parameters():  # so that norms, biases and scales matter too
        nn.init.normal_(p, std=0.3)
    return model


def in_parts(model: StreamingTransformer, x: torch.Tensor, sizes: list[int], cross: torch.Tensor | None = None):
    cache = model.make_cache(x.shape[0], x.shape[1], x.device, x.dtype)
    parts = [model(part, cross_attention_src=cross, cache=cache) for part in x.split(sizes, dim=1)]
    assert cache.length == x.shape[1]
    return torch.cat(parts, dim=1)


OPTIONS = [
    {},
    {"norm_first": True, "bias_attn": False, "bias_ff": False, "activation": "gelu"},
    {"positional_embedding": "rope"},
    {"positional_embedding": "sin_rope", "positional_scale": 0.7},
    {"past_context": 3},
    {"past_context": 3, "positional_embedding": "rope", "kv_repeat": 2},
    {"kv_repeat": 4},
    {"qk_layer_norm": True, "qk_layer_norm_cross": True, "cross_attention": True, "layer_scale": 0.1},
    {"activation": "swiglu"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@torch.no_grad()
def test_cache_gives_what_the_whole_sequence_gives(options: dict):
    model = transformer(**options)
    x = torch.randn(2, 11, 32)
    cross = torch.randn(2, 5, 32) if options.get("cross_attention") else None
    whole = model(x, cross_attention_src=cross)
    for sizes in ([1] * 11, [6, 1, 4], [11]):
        torch.testing.assert_close(in_parts(model, x, sizes, cross), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_causal_by_gradient(options: dict):
    model = transformer(**options)
    x = torch.randn(1, 9, 32, requires_grad=True)
    cross = torch.randn(1, 5, 32) if options.get("cross_attention") else None
    model(x, cross_attention_src=cross)[0, 5].sum().backward()
    reached = x.grad[0].abs().sum(-1) > 0
    reach = options.get("past_context", 9) * 2  # of two layers
    assert reached.tolist() == [max(0, 5 - reach) <= i <= 5 for i in range(9)]


@torch.no_grad()
def test_past_context_is_the_number_of_earlier_steps():
    attention = StreamingMultiheadAttention(8, 2, causal=True, past_context=2)
    x = torch.randn(1, 6, 8)
    narrow, _ = attention(x, x, x)
    attention.past_context = None
    late = x[:, 3:]
    torch.testing.assert_close(narrow[:, 5], attention(late, late, late)[0][:, 2])


@pytest.mark.parametrize("bias, kv_repeat", itertools.product([True, False], [1, 2]))
@torch.no_grad()
def test_attention_is_the_textbook_formula(bias: bool, kv_repeat: int):
    attention = StreamingMultiheadAttention(12, 4, bias=bias, causal=True, kv_repeat=kv_repeat)
    for p in attention.parameters():
        nn.init.normal_(p)
    x = torch.randn(2, 7, 12)
    projected = torch.nn.functional.linear(x, attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = projected.split([12, 12 // kv_repeat, 12 // kv_repeat], dim=-1)
    heads = []
    for h in range(4):
        own, shared = slice(3 * h, 3 * h + 3), slice(3 * (h // kv_repeat), 3 * (h // kv_repeat) + 3)
        scores = q[..., own] @ k[..., shared].transpose(1, 2) / 3**0.5
        scores = scores.masked_fill(torch.ones(7, 7).triu(1).bool(), float("-inf"))
        heads.append(scores.softmax(-1) @ v[..., shared])
    expected = attention.out_proj(torch.cat(heads, -1))
    torch.testing.assert_close(attention(x, x, x)[0], expected)


@torch.no_grad()
def test_cross_attention_is_computed_once_per_cache():
    model = transformer(cross_attention=True)
    x, cross = torch.randn(1, 4, 32), torch.randn(1, 5, 32)
    cache = model.make_cache(1, 4, x.device, x.dtype)
    model(x[:, :1], cross_attention_src=cross, cache=cache)
    kept = cache.cross[0][0]
    assert kept.shape == (1, 4, 5, 8)
    model(x[:, 1:2], cross_attention_src=cross, cache=cache)
    assert cache.cross[0][0] is kept


def test_dropout_acts_in_training_only():
    model = transformer(dropout=0.5)
    x = torch.randn(1, 5, 32)
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))


def test_sinusoids():
    embedding = create_sin_embedding(torch.arange(50)[None, :, None], 16)
    assert embedding.shape == (1, 50, 16)
    assert embedding[0, 0].tolist() == [1.0] * 8 + [0.0] * 8
    position, slowest = torch.tensor(30.0), 30 / 10000
    torch.testing.assert_close(embedding[0, 30, [0, 7]], torch.stack([position.cos(), torch.tensor(slowest).cos()]))
    torch.testing.assert_close(embedding[0, 30, [8, 15]], torch.stack([position.sin(), torch.tensor(slowest).sin()]))


def test_rotation_keeps_length_and_depends_on_distance():
    rope = RotaryEmbedding(8)
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)
    scores = []
    for start in (0, 3, 40):
        a, b = rope.rotate(q, start + 5, time_dim=2), rope.rotate(k, start, time_dim=2)
        assert a.norm().item() == pytest.approx(q.norm().item(), rel=1e-5)
        scores.append((a * b).sum())
    torch.testing.assert_close(torch.stack(scores), scores[0].expand(3), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(scores[0], (q * k).sum())
    assert torch.equal(RotaryEmbedding(8, scale=0.0).rotate(q, 7, time_dim=2), q)


def test_cache_of_another_precision_and_its_limits():
    cache = KVCache.empty(1, 2, 3, 4, 5, dtype=torch.bfloat16)
    keys, values, _ = cache.write(0, torch.ones(2, 3, 4, 5), torch.ones(2, 3, 4, 5))
    assert keys.dtype == values.dtype == torch.bfloat16
    cache.advance(4)
    with pytest.raises(AssertionError, match="full"):
        cache.write(0, torch.ones(2, 3, 1, 5), torch.ones(2, 3, 1, 5))


def test_activations():
    x = torch.randn(3, 8)
    a, b = x.chunk(2, -1)
    torch.testing.assert_close(SwiGLU()(x), a * torch.nn.functional.silu(b))
    torch.testing.assert_close(GeGLU()(x), a * torch.nn.functional.gelu(b))
    torch.testing.assert_close(ReGLU()(x), a * torch.relu(b))
    torch.testing.assert_close(get_activation_fn("gelu")(x), torch.nn.functional.gelu(x))
    assert get_activation_fn(torch.tanh) is torch.tanh


def test_optim_group():
    group = transformer(lr=1e-3, weight_decay=0.2).make_optim_group()
    assert group["lr"] == 1e-3 and group["weight_decay"] == 0.2
    assert set(transformer().make_optim_group()) == {"params"}


@pytest.mark.parametrize(
    "bad, told",
    [
        ({"num_heads": 5}, "divisible"),
        ({"kv_repeat": 3}, "kv_repeat"),
        ({"kv_repeat": 2, "qk_layer_norm": True}, "qk_layer_norm"),
        ({"past_context": 4, "causal": False}, "causal"),
        ({"positional_embedding": "alibi"}, "positional_embedding"),
        ({"checkpointing": "all"}, "checkpointing"),
        ({"activation": "magic"}, "activation"),
        ({"norm": "batch_norm"}, "norm"),
    ],
)
def test_values_that_are_not_served(bad: dict, told: str):
    with pytest.raises(UserError, match=told):
        transformer(**bad)
    assert isinstance(create_norm_fn("layer_norm", 8), nn.LayerNorm)
