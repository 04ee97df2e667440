"""The transformer: layers of attention and feed-forward blocks, sinusoidal or rotary positions, pre- or post-norm.

Generation passes a `KVCache`; without one the whole sequence is computed at once. Both give the same numbers.
"""

import typing as tp

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import BadArgument, UserError
from ..utils.left_out import missing
from .activations import CustomGLU, get_activation_fn
from .attention import StreamingMultiheadAttention
from .kv_cache import KVCache, NoHiddenState
from .rope import RotaryEmbedding

POSITIONS = ("sin", "rope", "sin_rope")
# What is recomputed; the peer's ways with xformers differ only in what they keep.
CHECKPOINTING = {"none": False, "torch": True, "xformers_default": True, "xformers_mm": True}
ATTENTION_BACKENDS = ("torch", "xformers")


def set_efficient_attention_backend(backend: str = "torch") -> None:
    """Does nothing: torch's attention is the one implementation. Raises UserError for a backend that the peer does not
    know either."""
    if backend not in ATTENTION_BACKENDS:
        raise UserError(f"unknown attention backend {backend}; use one of {', '.join(ATTENTION_BACKENDS)}")


def create_norm_fn(norm_type: str, dim: int, **kwargs: tp.Any) -> nn.Module:
    """The normalisation called `norm_type` for width `dim`.

    Raises:
        UserError: it is not served.
    """
    if norm_type != "layer_norm":
        raise BadArgument(f"unknown norm {norm_type}; use layer_norm")
    return nn.LayerNorm(dim, eps=1e-5, **kwargs)


def create_sin_embedding(
    positions: Tensor, dim: int, max_period: float = 10000, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Sinusoidal positions (arXiv 1706.03762), all cosines first, then all sines.

    Args:
        positions: [B, S, 1].
        dim: D, even.
        max_period: the slowest wave has this period (times 2 pi) in steps.

    Returns:
        [B, S, D] of `dtype`; computed in float32 at least.
    """
    assert dim % 2 == 0, f"sinusoidal positions need an even width, got {dim}"
    half = dim // 2
    compute = torch.promote_types(dtype, torch.float32)
    exponents = torch.arange(half, device=positions.device, dtype=compute) / (half - 1)
    phase = positions.to(compute) / max_period**exponents
    return torch.cat([phase.cos(), phase.sin()], dim=-1).to(dtype)


class LayerScale(nn.Module):
    """Learnt factor per channel on a residual branch (arXiv 2103.17239), small at the start.

    Args:
        channels: how many there are, in the last axis of what comes, or (not `channel_last`) in the second last.
        init: first value of the factors.
        device, dtype: of the factors; None is torch's default.
    """

    def __init__(
        self,
        channels: int,
        init: float = 1e-4,
        channel_last: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channel_last = channel_last
        self.scale = nn.Parameter(torch.full((channels,), init, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """[..., channels], or [..., channels, T], → the same."""
        return self.scale * x if self.channel_last else self.scale[:, None] * x


class StreamingTransformerLayer(nn.Module):
    """Self-attention, cross-attention if asked for, and a feed-forward block, each on a residual branch.

    Args:
        d_model: D.
        num_heads: see `StreamingMultiheadAttention`, as for the other attention options.
        dim_feedforward: width of the feed-forward block; gated activations halve it.
        dropout: on every branch and inside the feed-forward block.
        attention_dropout: on attention weights; None is `dropout`.
        layer_scale: initial factor of the branches; None is no factor.
        norm_first: normalise the input of each branch (pre-norm) instead of the sum after it.
        device, dtype: of all weights; None is torch's default.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        bias_ff: bool = True,
        bias_attn: bool = True,
        causal: bool = False,
        past_context: int | None = None,
        custom: bool = False,
        memory_efficient: bool = False,
        attention_as_float32: bool = False,
        qk_layer_norm: bool = False,
        qk_layer_norm_cross: bool = False,
        cross_attention: bool = False,
        layer_scale: float | None = None,
        rope: RotaryEmbedding | None = None,
        attention_dropout: float | None = None,
        kv_repeat: int = 1,
        norm: str = "layer_norm",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        norm_first: bool = False,
        activation: str | tp.Callable[[Tensor], Tensor] = "relu",
    ) -> None:
        super().__init__()
        place: dict[str, tp.Any] = {"device": device, "dtype": dtype}
        attention_dropout = dropout if attention_dropout is None else attention_dropout

        def scale() -> nn.Module:
            return nn.Identity() if layer_scale is None else LayerScale(d_model, layer_scale, **place)

        self.norm_first = norm_first
        self.self_attn = StreamingMultiheadAttention(
            d_model,
            num_heads,
            dropout=attention_dropout,
            bias=bias_attn,
            causal=causal,
            past_context=past_context,
            rope=rope,
            qk_layer_norm=qk_layer_norm,
            kv_repeat=kv_repeat,
            **place,
        )
        self.activation = get_activation_fn(activation)
        gated = isinstance(self.activation, CustomGLU)
        self.linear1 = nn.Linear(d_model, dim_feedforward, bias=bias_ff, **place)
        self.linear2 = nn.Linear(dim_feedforward // 2 if gated else dim_feedforward, d_model, bias=bias_ff, **place)
        self.norm1 = create_norm_fn(norm, d_model, **place)
        self.norm2 = create_norm_fn(norm, d_model, **place)
        self.dropout = nn.Dropout(dropout)
        self.layer_scale_1 = scale()
        self.layer_scale_2 = scale()
        self.cross_attention: StreamingMultiheadAttention | None = None
        if cross_attention:
            self.cross_attention = StreamingMultiheadAttention(
                d_model,
                num_heads,
                dropout=attention_dropout,
                bias=bias_attn,
                cross_attention=True,
                qk_layer_norm=qk_layer_norm_cross,
                **place,
            )
            self.norm_cross = create_norm_fn(norm, d_model, **place)
            self.layer_scale_cross = scale()

    def forward(
        self, x: Tensor, cross_attention_src: Tensor | None = None, cache: KVCache | None = None, layer: int = 0
    ) -> Tensor:
        """x [B, S, D] -> [B, S, D]; `cross_attention_src` [B, L, D]; `layer` is this layer's place in the cache.

        Raises:
            UserError: something to look at came to a layer without cross-attention, or nothing to one with it.
        """
        if (self.cross_attention is None) != (cross_attention_src is None):
            raise UserError("cross_attention_src goes together with cross_attention=true; give both or none")

        def self_attention(h: Tensor) -> Tensor:
            return self.layer_scale_1(self.dropout(self.self_attn(h, h, h, cache, layer)[0]))

        def cross(h: Tensor) -> Tensor:
            assert self.cross_attention is not None and cross_attention_src is not None
            mixed, _ = self.cross_attention(h, cross_attention_src, cross_attention_src, cache, layer)
            return self.layer_scale_cross(self.dropout(mixed))

        def feed_forward(h: Tensor) -> Tensor:
            h = self.linear2(self.dropout(self.activation(self.linear1(h))))
            return self.layer_scale_2(self.dropout(h))

        x = self._residual(x, self_attention, self.norm1)
        if self.cross_attention is not None:
            x = self._residual(x, cross, self.norm_cross)
        return self._residual(x, feed_forward, self.norm2)

    def _residual(self, x: Tensor, branch: tp.Callable[[Tensor], Tensor], norm: nn.Module) -> Tensor:
        return x + branch(norm(x)) if self.norm_first else norm(x + branch(x))


class StreamingTransformer(NoHiddenState, nn.Module):
    """A stack of layers with positions.

    Args:
        d_model, num_heads, ...: as for the layer; further layer options go through `kwargs`.
        positional_embedding: `sin` (added to the input), `rope` (rotates queries and keys) or `sin_rope` (both).
        max_period: slowest period of either.
        positional_scale: factor of the sinusoids, or how far rotary positions rotate.
        xpos: not served, only False.
        lr, weight_decay: values of this module's own for the optimizer, see `make_optim_group`.
        layer_class: what the layers are, with the arguments of `StreamingTransformerLayer`.
        checkpointing: `torch` recomputes each layer in the backward pass, for memory; `none` keeps all.

    Raises:
        UserError: an option with a value that is not served.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        num_layers: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        bias_ff: bool = True,
        bias_attn: bool = True,
        causal: bool = False,
        past_context: int | None = None,
        custom: bool = False,
        memory_efficient: bool = False,
        attention_as_float32: bool = False,
        cross_attention: bool = False,
        layer_scale: float | None = None,
        positional_embedding: str = "sin",
        max_period: float = 10000,
        positional_scale: float = 1.0,
        xpos: bool = False,
        lr: float | None = None,
        weight_decay: float | None = None,
        layer_class: type[StreamingTransformerLayer] = StreamingTransformerLayer,
        checkpointing: str = "none",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **kwargs: tp.Any,
    ) -> None:
        super().__init__()
        if positional_embedding not in POSITIONS:
            raise UserError(f"unknown positional_embedding {positional_embedding}; use one of {', '.join(POSITIONS)}")
        if checkpointing not in CHECKPOINTING:
            raise UserError(f"unknown checkpointing {checkpointing}; use one of {', '.join(CHECKPOINTING)}")
        if xpos:
            raise UserError("xpos is not served; set it to false and use positional_embedding=rope")
        if d_model % num_heads:
            raise UserError(f"dim {d_model} is not divisible by num_heads {num_heads}; change one of them")
        self.d_model = d_model
        self.positional_embedding = positional_embedding
        self.max_period = max_period
        self.positional_scale = positional_scale
        self.lr = lr
        self.weight_decay = weight_decay
        self.checkpointing = CHECKPOINTING[checkpointing]
        self.rope: RotaryEmbedding | None = None
        if positional_embedding in ("rope", "sin_rope"):
            self.rope = RotaryEmbedding(d_model // num_heads, max_period, scale=positional_scale, device=device)
        self.layers = nn.ModuleList(
            layer_class(
                d_model,
                num_heads,
                dim_feedforward,
                dropout,
                bias_ff=bias_ff,
                bias_attn=bias_attn,
                causal=causal,
                past_context=past_context,
                cross_attention=cross_attention,
                layer_scale=layer_scale,
                rope=self.rope,
                device=device,
                dtype=dtype,
                **kwargs,
            )
            for _ in range(num_layers)
        )

    def forward(self, x: Tensor, cross_attention_src: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        """Run all layers.

        Args:
            x: [B, S, D]; with a cache, the S steps that follow those in it.
            cross_attention_src: [B, L, D], for a transformer with cross-attention.
            cache: written, and advanced by S.

        Returns:
            [B, S, D].
        """
        steps = x.shape[1]
        if self.positional_embedding in ("sin", "sin_rope"):
            x = x + self._embedding(steps, cache, x)
        for index, layer in enumerate(self.layers):
            if self.checkpointing and self.training and cache is None:
                x = tp.cast(Tensor, checkpoint(layer, x, cross_attention_src, use_reentrant=False))
            else:
                x = layer(x, cross_attention_src, cache, index)
        if cache is not None:
            cache.advance(steps)
        return x

    def _embedding(self, steps: int, cache: KVCache | None, x: Tensor) -> Tensor:
        """What is added to the next steps of x, [1, S, D]."""
        if cache is None or cache.span is None:
            return self._sinusoids(0 if cache is None else cache.length, steps, x)
        assert cache.embeddings is not None, "single steps need `place` first"
        return cache.embeddings.index_select(0, cache.at)[None]

    def _sinusoids(self, start: int, count: int, like: Tensor) -> Tensor:
        """Of positions start, start + 1, ...: [1, count, D], of the type and on the device of `like`."""
        positions = torch.arange(start, start + count, device=like.device)
        embedding = create_sin_embedding(positions[None, :, None], self.d_model, self.max_period, like.dtype)
        return self.positional_scale * embedding

    def place(self, cache: KVCache) -> None:
        """Make what steps with a span look their positions up in. Not in the step itself: a graph's other plays would
        read what only one of them made."""
        if cache.embeddings is None and self.positional_embedding in ("sin", "sin_rope"):
            cache.embeddings = self._sinusoids(0, cache.capacity, cache.keys)[0]

    def make_cache(self, batch: int, steps: int, device: torch.device, dtype: torch.dtype) -> KVCache:
        """An empty cache for `steps` steps of `batch` sequences."""
        attention = tp.cast(StreamingTransformerLayer, self.layers[0]).self_attn
        heads, head_dim = attention.kv_heads, attention.head_dim
        return KVCache.empty(len(self.layers), batch, heads, steps, head_dim, device, dtype)

    def make_optim_group(self) -> dict[str, tp.Any]:
        """Parameters with this module's own learning rate and weight decay, for the optimizer."""
        group: dict[str, tp.Any] = {"params": list(self.parameters())}
        if self.lr is not None:
            group["lr"] = self.lr
        if self.weight_decay is not None:
            group["weight_decay"] = self.weight_decay
        return group


__getattr__ = missing(__name__)
