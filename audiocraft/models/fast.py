"""A language model made ready to play: in which numbers, the linear layers for them, tables fused."""

import threading
import typing as tp
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from ..modules.attention import StreamingMultiheadAttention
from ..modules.attributes import ConditioningAttributes
from ..modules.conditioners import FusedConditions
from ..modules.kv_cache import KVCache
from ..utils.device import fork_guard
from .lm import LMModel

PRECISIONS = ("auto", "float32", "int8", "bfloat16", "float16")
Linear = tp.Callable[[Tensor], Tensor]
# torch's 8-bit kernels for x86, by preference.
_INT8_ENGINES = ("fbgemm", "x86")
_packing = threading.Lock()


def resolve_precision(name: str, device: torch.device) -> str:
    """The precision of that name on `device`.

    `auto` is the fastest that is nearly as good as float32 there: on CUDA bfloat16, on older GPUs float16; on a CPU
    int8, where torch has the kernels; elsewhere float32.

    Raises:
        UserError: no such precision, or none on that device.
    """
    if name not in PRECISIONS:
        raise UserError(f"unknown precision {name}; use one of {', '.join(PRECISIONS)}")
    if name == "auto":
        if device.type == "cuda":
            return "bfloat16" if torch.cuda.get_device_capability(device)[0] >= 8 else "float16"
        return "int8" if device.type == "cpu" and _int8_engine() else "float32"
    if name == "int8" and (device.type != "cpu" or not _int8_engine()):
        raise UserError("precision int8 needs an x86 processor and device cpu; use precision auto")
    if name == "float16" and device.type == "cpu":
        raise UserError("float16 is slower than float32 on a CPU; use precision int8, float32 or auto")
    return name


def compute_dtype(precision: str) -> torch.dtype:
    """What is computed in between the linear layers."""
    return {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision, torch.float32)


def make_linear(weight: Tensor, bias: Tensor | None, precision: str, device: torch.device | None = None) -> Linear:
    """x [..., in] → [..., out] with `weight` [out, in], in that precision (not `auto`); int8 inside `packing`. `device`
    is where to, None where they are."""
    if precision == "int8":
        return Int8Linear(weight, bias)
    how: dict[str, tp.Any] = {"device": device, "dtype": compute_dtype(precision)}
    weight, bias = weight.detach().to(**how), None if bias is None else bias.detach().to(**how)
    return lambda x: F.linear(x, weight, bias)


@contextmanager
def packing(precision: str) -> Iterator[None]:
    """Around all threads that make linear layers of that precision.

    Kernels pack 8-bit weights for the engine that torch is set to, which is one for the whole process: it is set once
    and set back when the last layer is made, and others who pack wait. What is packed then runs under any engine.
    """
    if precision != "int8":
        yield
        return
    engines, engine = torch.backends.quantized, _int8_engine()
    assert engine is not None
    with _packing, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.quantize_per_tensor")  # told at the first 8-bit tensor
        before = engines.engine
        try:
            engines.engine = engine
            yield
        finally:
            engines.engine = before


def _int8_engine() -> str | None:
    if not hasattr(torch.ops.quantized, "linear_with_input_q_dq_qweight_dq_output_fp32"):
        return None  # torch means to remove its 8-bit tensors some day
    engines = torch.backends.quantized.supported_engines
    return next((engine for engine in _INT8_ENGINES if engine in engines), None)


class Int8Linear:
    """A linear layer with 8-bit weights, and inputs rounded to 7 bits per row while it computes.

    Weights have one scale per output. Each row of the input is spread over 0 .. 127, by its own minimum and maximum,
    so that a clip comes out the same in any batch; torch's dynamic layer would take one scale for all rows. 7 bits,
    because the kernels add pairs of products in 16 bits, which 8 by 8 bits overflow on processors without VNNI. Made
    inside `packing`.
    """

    LEVELS = 127

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        weight = weight.detach().float()
        low, high = weight.aminmax(dim=1)
        scales = torch.maximum(high, -low).clamp_(min=1e-12) / 127
        rounded = (weight / scales[:, None]).round_()
        # What a constant input gives, from the rounded weights.
        self.sums = rounded.sum(dim=1) * scales
        self.bias = None if bias is None else bias.detach().float()
        zeros = torch.zeros(len(scales), dtype=torch.long)
        quantized = torch._make_per_channel_quantized_tensor(rounded.to(torch.int8), scales.double(), zeros, 0)
        # Other engines pack what the product below cannot read.
        assert torch.backends.quantized.engine == _int8_engine(), "made outside of `packing`"
        self.weight: tp.Any = torch.ops.quantized.linear_prepack(quantized, None)

    def __call__(self, x: Tensor) -> Tensor:
        """[..., in] → [..., out]."""
        low, high = x.aminmax(dim=-1, keepdim=True)
        reach = (high - low).clamp_(min=1e-12)
        y = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            (x - low) / reach, 1 / self.LEVELS, 0, self.weight
        )
        y = torch.addcmul(low * self.sums, y, reach)
        return y if self.bias is None else y.add_(self.bias)


class FastLM:
    """What a language model needs to draw codes, as its weights were when this was made.

    The K embeddings are one table, the K heads one matrix; all layers are those of the model, with their linear ones in
    the precision asked for. In float32 it shares the transformer's weights with the model, on the same device.

    Args:
        lm: an `LMModel`; it is not changed.
        precision: see `resolve_precision`.
        device: where it plays; None is where the model is.
    Raises:
        UserError: in a forked process, where it would hang.
    """

    def __init__(self, lm: LMModel, precision: str = "float32", device: torch.device | None = None) -> None:
        fork_guard.check()
        self.device = lm.device if device is None else device
        self.precision = resolve_precision(precision, self.device)
        self.dtype = compute_dtype(self.precision)
        self.n_q, self.card, self.special_token_id = lm.n_q, lm.card, lm.special_token_id
        self.pattern_provider = lm.pattern_provider
        self.cfg_coef = lm.cfg_coef
        self.spare: dict[str, tp.Any] = {}  # "state": one that is done with, see `TokenDecoder.retire`
        self._versions = versions(lm)
        self._fuser, self._condition = lm.fuser, lm.condition
        self.guidable = len(lm.condition_provider.conditioners) > 0
        with torch.no_grad():
            self.table = torch.cat([tp.cast(Tensor, emb.weight) for emb in lm.emb]).to(self.device, self.dtype)
            self.offsets = (torch.arange(self.n_q, device=self.device) * (self.card + 1))[:, None]
            jobs: list[tp.Callable[[], None]] = []
            self.transformer: tp.Any = self._swapped(lm.transformer, jobs)
            self.out_norm: tp.Any = None if lm.out_norm is None else self._swapped(lm.out_norm, jobs)
            jobs.append(lambda: setattr(self, "head", self._head(lm)))
            if self.precision == "int8":  # torch packs a matrix in one thread
                with packing(self.precision), ThreadPoolExecutor(torch.get_num_threads()) as pool:
                    list(pool.map(lambda job: job(), jobs))
            else:  # another thread would work on a stream of its own, for which the caller's does not wait
                for job in jobs:
                    job()
        self.head: Linear

    def is_current(self, lm: LMModel) -> bool:
        """Whether `lm` still has the weights this was made of (writing through `.data` goes unnoticed)."""
        return self._versions == versions(lm)

    def conditions(self, samples: Sequence[ConditioningAttributes]) -> FusedConditions:
        """What enters the transformer for a batch."""
        fused = self._fuser.gather(self._condition(samples))
        return FusedConditions(
            **{name: x if x is None else x.to(self.device, self.dtype) for name, x in vars(fused).items()}
        )

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
        return make_linear(weight, bias, self.precision, self.device)

    def _swapped(self, module: nn.Module, jobs: list[tp.Callable[[], None]]) -> tp.Any:
        """A copy of a module that shares its weights, but for linear layers and where the dtype differs.

        Linear layers are made by `jobs`, which the caller runs.
        """
        copy = deepcopy(module, {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())})
        for part in copy.modules():
            if isinstance(part, nn.Linear):
                continue
            if isinstance(part, StreamingMultiheadAttention):
                jobs.append(partial(self._pack, part, part.in_proj_weight, part.in_proj_bias))
                part.in_proj_weight, part.in_proj_bias = None, None  # type: ignore[assignment]
            for name, linear in part.named_children():
                if isinstance(linear, nn.Linear):
                    jobs.append(partial(self._replace, part, name, linear))
            for name, buffer in part.named_buffers(recurse=False):  # as they are: rotary frequencies need float32
                setattr(part, name, buffer.to(self.device))
            for name, weight in part.named_parameters(recurse=False):
                setattr(part, name, nn.Parameter(weight.detach().to(self.device, self.dtype), requires_grad=False))
        return copy

    def _replace(self, module: nn.Module, name: str, linear: nn.Linear) -> None:
        fast = make_linear(linear.weight, linear.bias, self.precision, self.device)
        delattr(module, name)
        setattr(module, name, fast)

    def _pack(self, attention: StreamingMultiheadAttention, weight: Tensor, bias: Tensor | None) -> None:
        width = attention.embed_dim
        cuts = [slice(0, width), slice(width, None)] if attention.cross_attention else [slice(None)]
        attention.packed = tuple(
            make_linear(weight[cut], None if bias is None else bias[cut], self.precision, self.device) for cut in cuts
        )


def versions(module: nn.Module) -> list[tuple[int, int]]:
    """What changes when weights are replaced or written to (other than through `.data`).

    Tensors made under `torch.inference_mode` count no versions: of these only replacing is seen.
    """
    tensors = (*module.parameters(), *module.buffers())
    return [(tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors]
