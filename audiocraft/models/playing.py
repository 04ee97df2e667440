"""A language model made ready to play: tables fused, weights in the precision they are played in."""

import typing as tp
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from ..modules.attention import StreamingMultiheadAttention
from ..modules.attributes import ConditioningAttributes
from ..modules.conditioners import FusedConditions
from ..modules.kv_cache import KVCache
from ..utils.device import fork_guard
from .fast import Linear, compute_dtype, make_linear, packing, resolve_precision
from .lm import LMModel


class PlayingLM:
    """What a language model needs to draw codes, as its weights were when this was made.

    The K embeddings are one table, the K heads one matrix; all layers are those of the model, with their linear ones in
    the precision asked for. In float32 it shares the transformer's weights with the model.

    Args:
        lm: the model; it is not changed.
        precision: see `resolve_precision`.
    Raises:
        UserError: in a forked process, where it would hang.
    """

    def __init__(self, lm: LMModel, precision: str = "float32") -> None:
        fork_guard.check()
        self.device = lm.device
        self.precision = resolve_precision(precision, self.device)
        self.dtype = compute_dtype(self.precision)
        self.n_q, self.card, self.special_token_id = lm.n_q, lm.card, lm.special_token_id
        self.pattern_provider = lm.pattern_provider
        self.cfg_coef = lm.cfg_coef
        self._versions = versions(lm)
        self._fuser, self._condition = lm.fuser, lm.condition
        self.guidable = len(lm.condition_provider.conditioners) > 0
        with torch.no_grad():
            self.table = torch.cat([tp.cast(Tensor, emb.weight) for emb in lm.emb]).to(self.dtype)
            self.offsets = (torch.arange(self.n_q, device=self.device) * (self.card + 1))[:, None]
            jobs: list[tp.Callable[[], None]] = []
            self.transformer: tp.Any = self._copy(lm.transformer, jobs)
            self.out_norm: tp.Any = None if lm.out_norm is None else self._copy(lm.out_norm, jobs)
            jobs.append(lambda: setattr(self, "head", self._head(lm)))
            # torch packs a matrix in one thread.
            threads = torch.get_num_threads() if self.precision == "int8" else 1
            with packing(self.precision), ThreadPoolExecutor(threads) as pool:
                list(pool.map(lambda job: job(), jobs))
        self.head: Linear

    def is_current(self, lm: LMModel) -> bool:
        """Whether `lm` still has the weights this was made of (writing through `.data` goes unnoticed)."""
        return self._versions == versions(lm)

    def conditions(self, samples: Sequence[ConditioningAttributes]) -> FusedConditions:
        """What enters the transformer for a batch."""
        fused = self._fuser.gather(self._condition(samples))
        return FusedConditions(**{name: x if x is None else x.to(self.dtype) for name, x in vars(fused).items()})

    def make_cache(self, batch: int, steps: int) -> KVCache:
        """An empty cache for `steps` steps, prefix included."""
        return self.transformer.make_cache(batch, steps, self.device, self.dtype)

    def cache_bytes(self, steps: int) -> int:
        """Memory of the cache of one sequence."""
        return self.transformer.make_cache(1, steps, torch.device("meta"), self.dtype).bytes

    def hidden(self, sequence: Tensor, fused: FusedConditions, cache: KVCache, first: bool) -> Tensor:
        """What the head looks at, [B, S, D], for the steps [B, K, S] that follow those in the cache; S may be 0 if
        there is a prefix, which enters at the `first` call."""
        batch, n_q, steps = sequence.shape
        rows = self.table.index_select(0, (sequence + self.offsets).flatten())
        x = fused.enter(rows.view(batch, n_q, steps, self.table.shape[1]).sum(1), first)
        x = self.transformer(x, cross_attention_src=fused.cross, cache=cache)
        x = x[:, x.shape[1] - steps :]
        return x if self.out_norm is None else self.out_norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of the next step, float32 [B, K, card], from what precedes it, [B, D]."""
        return self.head(hidden).unflatten(-1, (self.n_q, self.card)).float()

    def _head(self, lm: LMModel) -> Linear:
        heads = [tp.cast(nn.Linear, head) for head in lm.linears]
        weight = torch.cat([head.weight for head in heads])
        bias = None if heads[0].bias is None else torch.cat([head.bias for head in heads])
        return make_linear(weight, bias, self.precision)

    def _copy(self, module: nn.Module, jobs: list[tp.Callable[[], None]]) -> tp.Any:
        """A copy of a module that shares its weights, but for linear layers and where the dtype differs.

        Linear layers are made by `jobs`, which the caller runs.
        """
        copy = module.__new__(type(module))
        copy.__dict__ = {**module.__dict__, "_modules": {}}
        # Buffers stay: rotary frequencies need float32.
        copy.__dict__["_parameters"] = {
            name: None if p is None else nn.Parameter(p.detach().to(self.dtype), requires_grad=False)
            for name, p in module._parameters.items()
            if not isinstance(module, StreamingMultiheadAttention)
        }
        for name, child in module._modules.items():
            if isinstance(child, nn.Linear):
                jobs.append(lambda name=name, child=child: self._replace(copy, name, child))  # type: ignore[misc]
            else:
                copy._modules[name] = None if child is None else self._copy(child, jobs)
        if isinstance(module, StreamingMultiheadAttention):
            jobs.append(lambda: self._pack_attention(copy, module))
        return copy

    def _replace(self, copy: nn.Module, name: str, linear: nn.Linear) -> None:
        copy.__dict__[name] = make_linear(linear.weight, linear.bias, self.precision)

    def _pack_attention(self, copy: tp.Any, module: StreamingMultiheadAttention) -> None:
        cuts = [slice(0, module.embed_dim), slice(module.embed_dim, None)] if module.cross_attention else [slice(None)]
        weight, bias = module.in_proj_weight, module.in_proj_bias
        copy.packed = tuple(
            make_linear(weight[cut], None if bias is None else bias[cut], self.precision) for cut in cuts
        )


def versions(module: nn.Module) -> list[tuple[int, int]]:
    """What changes when weights are replaced or written to (other than through `.data`).

    Tensors made under `torch.inference_mode` count no versions: of these only replacing is seen.
    """
    tensors = (*module.parameters(), *module.buffers())
    return [(tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors]
