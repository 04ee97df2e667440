"""In which numbers a language model is played, and the linear layers for them."""

import threading
import typing as tp
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError

PRECISIONS = ("auto", "float32", "int8", "bfloat16", "float16")
Linear = Callable[[Tensor], Tensor]
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


def make_linear(weight: Tensor, bias: Tensor | None, precision: str) -> Linear:
    """x [..., in] → [..., out] with `weight` [out, in], in that precision (not `auto`); int8 inside `packing`."""
    if precision == "int8":
        return Int8Linear(weight, bias)
    dtype = compute_dtype(precision)
    weight, bias = weight.detach().to(dtype), None if bias is None else bias.detach().to(dtype)
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
