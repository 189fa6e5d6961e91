"""Write an ONNX graph node by node: readable names, shared constants, weights read on saving."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from numprune_export.core.errors import NumericalError

MICROSOFT = "com.microsoft"
"""The operator domain of ONNX Runtime's fused operators."""

DTYPES = {
    "float32": ir.DataType.FLOAT,
    "float16": ir.DataType.FLOAT16,
    "bfloat16": ir.DataType.BFLOAT16,
}

Array = NDArray[np.float32]
Attribute = int | float | str | tuple[int, ...]


class GraphWriter:
    """Collects nodes, constants and weights in writing order.

    Node and value names come from the current scope and a counter, so the same calls give the same
    graph, byte for byte. `dtype` is the dtype of weights, activations and KV cache. Operations in
    fp32 are written between `wide` and `narrow`.
    """

    def __init__(self, dtype: str = "float32") -> None:
        self.dtype = DTYPES[dtype]
        self._tape = ir.tape.Tape()
        self._constants: dict[str, ir.Value] = {}
        self._scope = ""
        self._count = 0

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Prefix the names of everything written inside with `name`."""
        outer, self._scope = self._scope, f"{self._scope}{name}/"
        yield
        self._scope = outer

    def op(
        self, kind: str, *inputs: ir.Value | None, domain: str = "", **attributes: Attribute
    ) -> ir.Value:
        """One node with one output."""
        return self.ops(kind, *inputs, outputs=1, domain=domain, **attributes)[0]

    def ops(
        self,
        kind: str,
        *inputs: ir.Value | None,
        outputs: int,
        domain: str = "",
        **attributes: Attribute,
    ) -> Sequence[ir.Value]:
        """One node with several outputs."""
        name = f"{self._scope}{kind}_{self._count}"
        self._count += 1
        values = self._tape.op_multi_out(
            kind, inputs, attributes, num_outputs=outputs, domain=domain, name=name
        )
        for index, value in enumerate(values):
            value.name = f"{name}:{index}"
        return values

    def declare(self, output: ir.Value, port: ir.Value) -> ir.Value:
        """Give a node's output the name, type and shape of the graph output `port`."""
        output.name, output.type, output.shape = port.name, port.type, port.shape
        return output

    def wide(self, x: ir.Value) -> ir.Value:
        """x cast from the graph's dtype to fp32."""
        return x if self.dtype == ir.DataType.FLOAT else self.cast(x, ir.DataType.FLOAT)

    def narrow(self, x: ir.Value) -> ir.Value:
        """x cast from fp32 to the graph's dtype."""
        return x if self.dtype == ir.DataType.FLOAT else self.cast(x, self.dtype)

    def cast(self, x: ir.Value, to: ir.DataType) -> ir.Value:
        return self.op("Cast", x, to=int(to))

    def weight(
        self,
        name: str,
        shape: Sequence[int],
        read: Callable[[], Array],
        dtype: ir.DataType | None = None,
    ) -> ir.Value:
        """An initializer that `read` returns while the model is saved; it is freed afterwards.

        Args:
            dtype: Storage dtype; None: the graph's dtype.
        """
        name = f"{self._scope}{name}"
        dtype = dtype or self.dtype

        def tensor() -> ir.TensorProtocol:
            return ir.Tensor(_stored(read(), dtype, name), name=name)

        lazy = ir.LazyTensor(tensor, dtype=dtype, shape=ir.Shape(shape), name=name)
        return self._tape.initializer(lazy)

    def number(self, value: float) -> ir.Value:
        """A scalar in the graph's dtype."""
        name = f"{self.dtype.name.lower()}.{value!r}"
        return self._constant(name, np.array(value, self.dtype.numpy()))

    def float32(self, value: float) -> ir.Value:
        """An fp32 scalar."""
        return self._constant(f"float32.{value!r}", np.array(value, np.float32))

    def int64s(self, *values: int) -> ir.Value:
        """An int64 vector: axes, shapes, split sizes."""
        return self._constant("int64s." + ".".join(map(str, values)), np.array(values, np.int64))

    def int64(self, value: int) -> ir.Value:
        """An int64 scalar."""
        return self._constant(f"int64.{value}", np.array(value, np.int64))

    def _constant(self, name: str, value: NDArray[np.generic]) -> ir.Value:
        if name not in self._constants:
            self._constants[name] = self._tape.initializer(ir.Tensor(value, name=name))
        return self._constants[name]

    def model(
        self,
        inputs: Sequence[ir.Value],
        outputs: Sequence[ir.Value],
        *,
        name: str,
        opsets: dict[str, int],
        metadata: dict[str, str],
    ) -> ir.Model:
        graph = ir.Graph(
            inputs,
            outputs,
            nodes=self._tape.nodes,
            initializers=self._tape.initializers,
            opset_imports=opsets,
            name=name,
        )
        model = ir.Model(graph, ir_version=10, producer_name="numprune-export")
        model.metadata_props.update(metadata)
        return model


def _stored(values: Array, dtype: ir.DataType, name: str) -> NDArray[np.generic]:
    """fp32 values in `dtype`; only fp16 can overflow."""
    with np.errstate(over="ignore"):
        narrowed: NDArray[np.generic] = values.astype(dtype.numpy(), copy=False)
    if dtype == ir.DataType.FLOAT16 and not np.isfinite(narrowed).all():
        raise NumericalError(
            f"weight `{name}` exceeds the range of float16: up to `{np.abs(values).max():.1e}`",
            hint="export with dtype: bfloat16 or float32",
        )
    return narrowed


def value(name: str, dtype: ir.DataType, shape: Sequence[int | str]) -> ir.Value:
    """A graph input or output; named dimensions are dynamic."""
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))
