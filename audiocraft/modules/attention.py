"""Attention of many heads through torch's fused kernels, over a whole sequence or with a cache."""

import typing as tp

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from .kv_cache import KVCache, NoHiddenState
from .rope import RotaryEmbedding

_WIDEST_FUSED_HEAD = 256


class StreamingMultiheadAttention(NoHiddenState, nn.Module):
    """Attention of many heads, over its own steps or (cross-attention) over another sequence.

    Args:
        embed_dim: D.
        num_heads: query heads; D must be divisible by it.
        dropout: on attention weights, while training.
        bias: biases on the projections.
        causal: no step looks at a later one.
        past_context: a step looks at itself and this many steps before it; None is all.
        custom, memory_efficient, attention_as_float32, safe_streaming: accepted, and without effect: in the peer they
            choose between implementations of one function.
        rope: rotary positions for queries and keys.
        cross_attention: keys and values come from another sequence.
        qk_layer_norm: layer norm over the full width of queries and keys.
        kv_repeat: this many neighbouring query heads share one head of keys and values.
        device, dtype: of the weights; None is torch's default.

    Raises:
        UserError: options that do not go together.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        causal: bool = False,
        past_context: int | None = None,
        custom: bool = False,
        memory_efficient: bool = False,
        attention_as_float32: bool = False,
        rope: RotaryEmbedding | None = None,
        cross_attention: bool = False,
        safe_streaming: bool = True,
        qk_layer_norm: bool = False,
        kv_repeat: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise UserError(f"dim {embed_dim} is not divisible by num_heads {num_heads}; change one of them")
        if num_heads % kv_repeat:
            raise UserError(f"num_heads {num_heads} is not divisible by kv_repeat {kv_repeat}; change one of them")
        if kv_repeat > 1 and qk_layer_norm:
            raise UserError("qk_layer_norm does not go together with kv_repeat; use one of them")
        if past_context is not None and not causal:
            raise UserError("past_context needs causal attention; set causal=true")
        if past_context is not None and not (isinstance(past_context, int) and past_context >= 0):
            raise UserError(f"past_context={past_context} is no number of steps; use a whole number, or null for all")
        if cross_attention and (causal or rope is not None):
            raise UserError("cross-attention looks at all of another sequence; leave out causal and rope")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.kv_heads = num_heads // kv_repeat
        self.head_dim = embed_dim // num_heads
        self.dropout = dropout
        self.causal = causal
        self.past_context = past_context
        self.cross_attention = cross_attention
        # The projections of queries, keys and values in one matrix, initialised as a linear layer.
        place: dict[str, tp.Any] = {"device": device, "dtype": dtype}
        in_proj = nn.Linear(embed_dim, embed_dim + 2 * self.kv_heads * self.head_dim, bias=bias, **place)
        self.in_proj_weight = in_proj.weight
        self.in_proj_bias = in_proj.bias
        if bias:
            nn.init.zeros_(in_proj.bias)
        self.rope = rope
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=bias, **place)
        if bias:
            nn.init.zeros_(self.out_proj.bias)
        self.q_layer_norm = nn.LayerNorm(embed_dim, **place) if qk_layer_norm else None
        self.k_layer_norm = nn.LayerNorm(embed_dim, **place) if qk_layer_norm else None
        # Copies made for playing (`models.fast`) put other arithmetic on the same weights here: one layer for all
        # rows of the joint projection; with cross-attention two, for queries and for the rest.
        self.packed: tuple[tp.Callable[[Tensor], Tensor], ...] | None = None

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, cache: KVCache | None = None, layer: int = 0
    ) -> tuple[Tensor, None]:
        """Attend.

        Args:
            query: [B, S, D].
            key, value: what cross-attention looks at, [B, L, D]; else the query itself.
            cache: keys and values of earlier steps; those of `layer` are read and written.

        Returns:
            [B, S, D], and None where torch's own attention has weights.

        Raises:
            UserError: self-attention with other keys or values than the query.
        """
        if self.cross_attention:
            q = self._split(self._project(query, 0, self.embed_dim), self.q_layer_norm)
            if cache is not None and layer in cache.cross:
                k, v = cache.cross[layer]
            else:
                k, v = self._keys_and_values(self._project(key, self.embed_dim, None))
                if value is not key:
                    v = self._keys_and_values(self._project(value, self.embed_dim, None))[1]
                if cache is not None:
                    cache.cross[layer] = (k, v)
            return self._merge(self._attend(q, k, v, None)), None
        if key is not query or value is not query:
            raise UserError(
                "self-attention takes one tensor as query, key and value; set cross_attention=true for others"
            )
        projected = self._project(query, 0, None)
        q = self._split(projected[..., : self.embed_dim], self.q_layer_norm)
        k, v = self._keys_and_values(projected[..., self.embed_dim :])
        if self.rope is not None:
            q, k = self.rope.rotate_qk(q, k, start=0 if cache is None else cache.start, time_dim=2)
        mask = None
        if cache is not None:
            k, v, mask = cache.write(layer, k, v, self.past_context)
        return self._merge(self._attend(q, k, v, mask)), None

    def _project(self, x: Tensor, start: int, end: int | None) -> Tensor:
        """Rows start .. end of the joint projection."""
        if self.packed is not None:
            return self.packed[0 if start == 0 else 1](x)
        bias = None if self.in_proj_bias is None else self.in_proj_bias[start:end]
        return F.linear(x, self.in_proj_weight[start:end], bias)

    def _split(self, x: Tensor, norm: nn.Module | None) -> Tensor:
        """[B, S, heads * width] -> [B, heads, S, width]."""
        x = x if norm is None else norm(x)
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def _keys_and_values(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        key, value = projected.chunk(2, dim=-1)
        return self._split(key, self.k_layer_norm), self._split(value, None)

    def _merge(self, x: Tensor) -> Tensor:
        """[B, heads, S, width] -> [B, S, D], through the output projection."""
        return self.out_proj(x.transpose(1, 2).flatten(2))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """`mask` is that of a single step, see `KVCache.write`."""
        steps, seen = q.shape[2], k.shape[2]
        is_causal = False
        if mask is None and self.causal and (steps > 1 or self._hides_some(seen)):
            if steps == seen and not self._hides_some(seen):
                is_causal = True  # lets torch take a kernel that builds no mask
            else:
                mask = self._mask(steps, seen, q.device)
        if self.kv_heads != self.num_heads:
            repeat = self.num_heads // self.kv_heads
            k, v = k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)
        if steps == 1 and self.head_dim > _WIDEST_FUSED_HEAD and not self.training:
            return _attend_once(q, k, v, mask)
        if mask is not None and mask.dim() == 1:
            mask = mask[None, None, None]
        dropout = self.dropout if self.training else 0.0
        # torch picks the kernel. On CPU its flash kernel takes any head width, micro's 1024 too; on CUDA heads wider
        # than 256 run on the memory-efficient kernel.
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=is_causal)

    def _hides_some(self, seen: int) -> bool:
        """Whether past_context hides some of `seen` steps from the last one."""
        return self.past_context is not None and seen > self.past_context + 1

    def _mask(self, steps: int, seen: int, device: torch.device) -> Tensor:
        """True where a query may look; the queries are the last `steps` of the `seen` positions. Bool [S, L]."""
        distance = torch.arange(seen - steps, seen, device=device)[:, None] - torch.arange(seen, device=device)[None]
        mask = distance >= 0
        if self.past_context is not None:
            mask &= distance <= self.past_context
        return mask


def _attend_once(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """One query per head, [B, heads, 1, width], as two matrix products: torch's fused kernels give each head to one
    processor, and a model with two heads of 1024 would leave a GPU idle."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.float().softmax(-1).to(v.dtype) @ v
