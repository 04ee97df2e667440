"""ONNX graphs written node by node: a small builder whose weights go to a file of their own, which players map."""

import typing as tp
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from ..utils.files import atomic_path

OPSET = 20
CONTRIB = "com.microsoft"  # ONNX Runtime's own operators
_ALIGN = 4096  # weights start at pages, so that they can be mapped
_INLINE_BYTES = 1024  # smaller constants stay in the graph itself
_TYPES: dict[str, int] = {
    "float32": TensorProto.FLOAT,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "float16": TensorProto.FLOAT16,
}
Shape = tp.Sequence[int | str]


def array(tensor: torch.Tensor) -> np.ndarray:
    """A tensor's values as float32."""
    return tensor.detach().float().numpy()


class Graph:
    """Nodes, inputs, outputs and weights under construction; values are known by their names.

    Args:
        name: of the model, for people.
        quantize: `int8` computes `linear` in 8-bit integers; `none` in float32.
    """

    def __init__(self, name: str, quantize: str = "none") -> None:
        assert quantize in ("none", "int8"), quantize
        self.name = name
        self.quantize = quantize
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._weights: dict[str, np.ndarray] = {}
        self._quantized: dict[str, tuple[str, str]] = {}

    def input(self, name: str, dtype: str, shape: Shape) -> str:
        """An input; letters in the shape are sizes that vary."""
        self._inputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], shape))
        return name

    def output(self, value: str, name: str, dtype: str, shape: Shape) -> None:
        """Give a value out, which is called `name` from now on."""
        for node in self._nodes:
            for names in (node.input, node.output):
                names[:] = [name if other == value else other for other in names]
        self._outputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], shape))

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: tp.Any) -> str:
        """The result of an operator with one output."""
        return self.ops(kind, 1, *inputs, domain=domain, **attributes)[0]

    def ops(self, kind: str, outputs: int, *inputs: str, domain: str = "", **attributes: tp.Any) -> list[str]:
        """The results of an operator with several outputs; an input that is left out is ''."""
        names = [f"{kind}_{len(self._nodes)}_{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, domain=domain, **attributes))
        return names

    def weight(self, value: np.ndarray | torch.Tensor, name: str | None = None) -> str:
        """A constant array; a tensor becomes one of float32."""
        name = name or f"weight_{len(self._weights)}"
        assert name not in self._weights, name
        self._weights[name] = np.ascontiguousarray(array(value) if isinstance(value, torch.Tensor) else value)
        return name

    def ints(self, *values: int) -> str:
        """A constant int64 vector."""
        name = "ints_" + "_".join(map(str, values))
        self._weights.setdefault(name, np.array(values, dtype=np.int64))
        return name

    def number(self, value: float) -> str:
        """A constant float32 scalar."""
        name = f"number_{value!r}"
        self._weights.setdefault(name, np.array(value, dtype=np.float32))
        return name

    def slice(self, x: str, start: str, end: str, axis: int) -> str:
        """x[start:end] along an axis; `start` and `end` are int64 vectors of one number."""
        return self.op("Slice", x, start, end, self.ints(axis))

    def linear(self, x: str, weight: np.ndarray, bias: np.ndarray | None, name: str) -> str:
        """x [B, S, in] times weight [out, in], plus bias [out]."""
        if self.quantize == "int8":
            y = self._int8_linear(x, weight, name)
        else:
            y = self.op("MatMul", x, self.weight(weight.T.astype(np.float32), name))
        return y if bias is None else self.op("Add", y, self.weight(bias.astype(np.float32), f"{name}.bias"))

    def _int8_linear(self, x: str, weight: np.ndarray, name: str) -> str:
        """The same in integers: each row of x and each row of the weight has a scale of its own.

        So a clip's result does not depend on the others of its batch. Both sides are unsigned around 128: ONNX
        Runtime's kernel for signed weights saturates its 16-bit sums on CPUs without VNNI.
        """
        if x not in self._quantized:
            peak = self.op("ReduceMax", self.op("Abs", x), self.ints(-1), keepdims=1)
            scale = self.op("Mul", self.op("Max", peak, self.number(1e-30)), self.number(1 / 127))
            levels = self.op("QuantizeLinear", self.op("Div", x, scale), self.number(1.0), self._zero())
            self._quantized[x] = (levels, scale)
        levels, scale = self._quantized[x]
        columns, column_scale = int8_columns(weight.T)
        product = self.op(
            "MatMulIntegerToFloat",
            levels,
            self.weight(columns, name),
            self.number(1.0),
            self.weight(column_scale, f"{name}.scale"),
            self._zero(),
            self._zero(),
            domain=CONTRIB,
        )
        return self.op("Mul", product, scale)

    def _zero(self) -> str:
        self._weights.setdefault("zero", np.array(128, np.uint8))
        return "zero"

    def save(self, path: str | Path) -> None:
        """Write the graph to `path` and its weights beside it, as `path` with the ending `.weights`.

        Raises:
            UserError: the disk is full, or the place cannot be written.
        """
        path = Path(path)
        data = path.with_suffix(".weights")
        tensors = []
        with atomic_path(data) as temporary:
            with open(temporary, "wb") as file:
                for name, value in self._weights.items():
                    if value.nbytes <= _INLINE_BYTES:
                        tensors.append(numpy_helper.from_array(value, name))
                        continue
                    file.write(b"\0" * (-file.tell() % _ALIGN))
                    tensors.append(_external(name, value, data.name, file.tell()))
                    value.tofile(file)
            graph = helper.make_graph(self._nodes, self.name, self._inputs, self._outputs, tensors)
            opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
            model = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="micro-musicgen")
            with atomic_path(path) as written:
                written.write_bytes(model.SerializeToString())


def _external(name: str, value: np.ndarray, file: str, offset: int) -> onnx.TensorProto:
    """A tensor whose bytes lie in `file`."""
    tensor = onnx.TensorProto(name=name, dims=value.shape, data_location=TensorProto.EXTERNAL)
    tensor.data_type = helper.np_dtype_to_tensor_dtype(value.dtype)
    for key, text in (("location", file), ("offset", str(offset)), ("length", str(value.nbytes))):
        tensor.external_data.add(key=key, value=text)
    return tensor


def int8_columns(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A matrix [in, out] as levels, uint8 around 128, and the scale of each column, float32 [out]."""
    scale = np.maximum(np.abs(matrix).max(axis=0), 1e-30).astype(np.float32) / np.float32(127)
    return (np.rint(matrix / scale) + 128).astype(np.uint8), scale
