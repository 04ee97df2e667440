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
from audiocraft.modules.transformer import (
    LayerScale,
    StreamingTransformer,
    StreamingTransformerLayer,
    create_norm_fn,
    create_sin_embedding,
    set_efficient_attention_backend,
)


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


@pytest.mark.parametrize("options", [{"custom": True}, {"memory_efficient": True}, {"attention_as_float32": True}])
@pytest.mark.parametrize("backend", ["torch", "xformers"])
@torch.no_grad()
def test_switches_between_implementations_do_nothing(options: dict, backend: str):
    set_efficient_attention_backend(backend)
    x, cross = torch.randn(2, 7, 32), torch.randn(2, 3, 32)
    more = {"cross_attention": True, "positional_embedding": "sin_rope", "qk_layer_norm": True, "layer_scale": 0.1}
    assert torch.equal(transformer(**more, **options)(x, cross), transformer(**more)(x, cross))
    with pytest.raises(AssertionError, match="unknown attention backend flash"):
        set_efficient_attention_backend("flash")


def test_device_and_dtype_are_those_asked_for():
    options = {"cross_attention": True, "qk_layer_norm": True, "qk_layer_norm_cross": True, "layer_scale": 0.1}
    meta = StreamingTransformer(32, 4, 2, positional_embedding="rope", device="meta", **options)
    assert {value.device.type for value in meta.state_dict().values()} == {"meta"}
    for dtype in (torch.bfloat16, torch.float64):
        model = StreamingTransformer(32, 4, 2, positional_embedding="sin_rope", dtype=dtype, **options)
        assert {p.dtype for p in model.parameters()} == {dtype}
        assert model.rope is not None and model.rope.frequencies.dtype == torch.float32
        x = torch.randn(1, 5, 32, dtype=dtype)
        assert model(x, cross_attention_src=x).dtype == dtype
    layer = StreamingTransformerLayer(32, 4, dtype=torch.float64)
    assert {p.dtype for p in layer.parameters()} == {torch.float64}


def test_layers_of_a_class_of_ones_own():
    class Louder(StreamingTransformerLayer):
        def forward(self, *args, **kwargs):
            return 2 * super().forward(*args, **kwargs)

    model = transformer(num_layers=1, layer_class=Louder)
    plain = transformer(num_layers=1)
    x = torch.randn(1, 4, 32)
    torch.testing.assert_close(model(x), 2 * plain(x))


def test_layer_scale():
    x = torch.randn(2, 5, 4)
    last, first = LayerScale(4, 0.5), LayerScale(5, channel_last=False, dtype=torch.float64)
    torch.testing.assert_close(last(x), x / 2)
    with torch.no_grad():
        first.scale.copy_(torch.arange(5))
    torch.testing.assert_close(first(x), x.double() * torch.arange(5)[:, None])
    assert LayerScale(4, device="meta").scale.is_meta


@torch.no_grad()
def test_cross_attention_is_that_of_torch():
    ours, torchs = (
        StreamingMultiheadAttention(12, 4, cross_attention=True),
        nn.MultiheadAttention(12, 4, batch_first=True),
    )
    ours.load_state_dict(torchs.state_dict())
    query, key, value = torch.randn(2, 5, 12), torch.randn(2, 7, 12), torch.randn(2, 7, 12)
    torch.testing.assert_close(ours(query, key, value)[0], torchs(query, key, value)[0])
    torch.testing.assert_close(ours(query, key, key)[0], torchs(query, key, key)[0])
    assert ours(query, key, key)[1] is None


def test_cross_attention_and_what_it_looks_at_come_together():
    x = torch.randn(1, 4, 32)
    for model, source in ((transformer(cross_attention=True), None), (transformer(), x)):
        with pytest.raises(UserError, match="give both or none"):
            model(x, cross_attention_src=source)
    for options in ({"causal": True}, {"rope": RotaryEmbedding(8)}):
        with pytest.raises(AssertionError, match="leave out causal and rope"):
            StreamingMultiheadAttention(32, 4, cross_attention=True, **options)
    with pytest.raises(UserError, match="self-attention takes one tensor"):
        StreamingMultiheadAttention(32, 4)(x, x + 1, x)


@torch.no_grad()
def test_silence_to_look_at_changes_nothing():
    """The values are zero, and so is the sum of them."""
    torch.manual_seed(0)
    options = {"d_model": 16, "num_heads": 4, "num_layers": 2, "dropout": 0.0, "norm_first": True}
    plain, cross = StreamingTransformer(**options), StreamingTransformer(**options, cross_attention=True)
    cross.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(2, 5, 16)
    assert torch.equal(cross(x, torch.zeros(2, 3, 16)), plain(x))
    assert not torch.allclose(cross(x, torch.randn(2, 3, 16)), plain(x), atol=1e-2)


@pytest.mark.parametrize("way", ["torch", "xformers_default", "xformers_mm"])
def test_ways_to_recompute_give_the_same_gradients(way: str):
    gradients = []
    for checkpointing in ("none", way):
        model = transformer(checkpointing=checkpointing).train()
        x = torch.linspace(-1, 1, 4 * 32).view(1, 4, 32).requires_grad_()
        model(x).square().sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients)


def test_state_is_not_hidden():
    attention = StreamingMultiheadAttention(32, 4)
    for model in (transformer(), attention):
        for name in ("streaming", "reset_streaming", "get_streaming_state", "set_streaming_state", "flush"):
            with pytest.raises(
                UserError, match=r"modules\.streaming .*left out.*modules\.kv_cache.*docs/COMPATIBILITY"
            ):
                getattr(model, name)()


def test_rotary_positions_in_more_or_less_precision():
    torch.manual_seed(0)
    q, k = torch.rand(2, 2, 75, 4, 16, dtype=torch.float64)
    exact = RotaryEmbedding(16, dtype=torch.float64).rotate_qk(q, k, start=7)
    for dtype, tolerance in ((torch.float64, 1e-14), (torch.float32, 1e-6), (torch.bfloat16, 2e-2)):
        for rope in (RotaryEmbedding(16), RotaryEmbedding(16, dtype=torch.float64)):
            for ours, wanted in zip(rope.rotate_qk(q.to(dtype), k.to(dtype), start=7), exact):
                assert ours.dtype == dtype
                atol = max(tolerance, 2e-5 if rope.frequencies.dtype == torch.float32 else 0)
                torch.testing.assert_close(ours.double(), wanted, rtol=0, atol=atol)
    assert RotaryEmbedding(16, device="meta").frequencies.is_meta
    assert torch.equal(RotaryEmbedding(16, scale=0.0).rotate(q.float(), start=7), q.float())
    for refused in (lambda: RotaryEmbedding(16, xpos=True), lambda: StreamingTransformer(32, 4, 2, xpos=True)):
        with pytest.raises(AssertionError, match="xpos is not served"):
            refused()


@pytest.mark.parametrize("reach", [-1, 2.5, "3"])
def test_past_context_that_is_no_number_of_steps_is_refused(reach):
    with pytest.raises(UserError, match=r"past_context=.* is no number of steps"):
        StreamingMultiheadAttention(8, 2, causal=True, past_context=reach)
