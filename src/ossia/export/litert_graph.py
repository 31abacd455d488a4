"""A small builder of LiteRT graphs: one method call, one node; what comes back is its output, with its shape.

    graph = Graph(int8=False)
    y = graph.each("ADD", x, graph.constant(np.float32(1)))
    file = pack(graph, ...)                                     litert_flatbuffer.py

LiteRT takes shapes from the file when it hands nodes to its accelerators, so every method works out the shape of what it
gives. One length may change later: the candidates'. Here it is some number, and the runtime works out all shapes anew when
the input is resized.

Tensors with data are constants, each once, or weights, which have a name; under it a payload replaces them. Operators are those
that LiteRT has had since 1.4, and each says the version that its types need, so that an older runtime refuses the file rather
than misreads it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from jaxtyping import Float32, Shaped

RELU: Final = schema.ActivationFunctionType.RELU

TYPES: Final = {
    "float32": schema.TensorType.FLOAT32,
    "int32": schema.TensorType.INT32,
    "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8,
    "bool": schema.TensorType.BOOL,
}
"""What a tensor's numbers can be, by numpy's name."""

OPTIONS: Final = {
    "ADD": "AddOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "CAST": "CastOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions",
    "DEQUANTIZE": "DequantizeOptions",
    "EQUAL": "EqualOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "GATHER": "GatherOptions",
    "GREATER": "GreaterOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MEAN": "ReducerOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "MUL": "MulOptions",
    "REDUCE_ANY": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "RESHAPE": "ReshapeOptions",
    "SELECT_V2": "SelectV2Options",
    "SLICE": "SliceOptions",
    "SOFTMAX": "SoftmaxOptions",
    "SUB": "SubOptions",
    "SUM": "ReducerOptions",
    "TOPK_V2": "TopKV2Options",
    "TRANSPOSE": "TransposeOptions",
}
"""The table of the schema that holds an operator's options; an operator that is not here has none."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of a graph.

    Attributes:
        number: its place in the graph.
        shape: its axes.
        dtype: its numbers, in `TYPES`.
    """

    number: int
    shape: tuple[int, ...]
    dtype: str


class Graph:
    """Nodes, tensors and data in the making.

    Attributes:
        int8: how layers multiply. False: in float32, their weights dequantized once, when the file is opened. True: in
            integers, each row of activations put on 8 bits as it comes.
        tensors: every tensor, by number.
        operators: in an order in which they can be computed.
        codes: each operator with its version, in the order of their numbers.
        data: what the file's buffers hold; the first is empty, by rule.
    """

    def __init__(self, *, int8: bool) -> None:
        self.int8 = int8
        self.tensors: list[schema.TensorT] = []
        self.operators: list[schema.OperatorT] = []
        self.codes: list[tuple[int, int]] = []
        self.data: list[np.ndarray] = [np.empty(0, np.int8)]
        self._constants: dict[tuple[object, ...], Tensor] = {}

    def tensor(self, name: str, shape: Sequence[int], dtype: str, *, resized: bool = False) -> Tensor:
        """Add a tensor without data: an input, or what a node gives.

        Args:
            name: its name.
            shape: its axes.
            dtype: in `TYPES`.
            resized: whether its first axis may be resized; only inputs have to say so.

        Returns:
            the tensor.
        """
        made = schema.TensorT(shape=np.array(shape, np.int32), type=TYPES[dtype], name=name)
        if resized:
            made.shapeSignature = np.array([-1, *shape[1:]], np.int32)
        self.tensors.append(made)
        return Tensor(len(self.tensors) - 1, tuple(shape), dtype)

    def constant(self, value: Shaped[np.ndarray, "*shape"] | np.generic) -> Tensor:
        """Add a tensor that is the same for everybody.

        Args:
            value: an array, or a number of numpy's.

        Returns:
            the tensor, the same for the same value.
        """
        array = np.asarray(value)
        key = (array.dtype, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.weight(f"constant_{len(self._constants)}", array)
        return self._constants[key]

    def weight(
        self, name: str, value: Shaped[np.ndarray, "*shape"], scales: Float32[np.ndarray, " channels"] | None = None
    ) -> Tensor:
        """Add a tensor with data.

        Args:
            name: its name.
            value: the data; an array that was given before is written once.
            scales: what a unit is worth, for each of the first axis, if LiteRT is to know.

        Returns:
            the tensor.
        """
        made = self.tensor(name, value.shape, value.dtype.name)
        if not any(each is value for each in self.data):
            self.data.append(value)
        self.tensors[made.number].buffer = next(place for place, each in enumerate(self.data) if each is value)
        if scales is not None:
            zeros = np.zeros(len(scales), np.int64)
            self.tensors[made.number].quantization = schema.QuantizationParametersT(scale=scales, zeroPoint=zeros)
        return made

    def op(
        self,
        kind: str,
        *inputs: Tensor | None,
        shape: Sequence[int],
        dtype: str = "float32",
        version: int = 1,
        **options: object,
    ) -> Tensor:
        """Append a node with one output.

        Args:
            kind: the operator, as LiteRT's schema calls it.
            inputs: its inputs; None for one that is left out.
            shape: its output's.
            dtype: its output's.
            version: of the operator, as its types need it.
            options: as the schema calls them.

        Returns:
            its output.
        """
        made = self.tensor(f"{kind}_{len(self.operators)}", shape, dtype)
        code = (getattr(schema.BuiltinOperator, kind), version)
        if code not in self.codes:
            self.codes.append(code)
        numbers = [-1 if each is None else each.number for each in inputs]
        node = schema.OperatorT(self.codes.index(code), np.array(numbers, np.int32), np.array([made.number], np.int32))
        if kind in OPTIONS:
            node.builtinOptionsType = getattr(schema.BuiltinOptions, OPTIONS[kind])
            node.builtinOptions = getattr(schema, f"{OPTIONS[kind]}T")(**options)
        self.operators.append(node)
        return made

    def each(self, kind: str, *inputs: Tensor, dtype: str | None = None) -> Tensor:
        """Append a node that works number by number, with axes broadcast as numpy does.

        Args:
            kind: the operator.
            inputs: its inputs.
            dtype: its output's; None: the last input's.

        Returns:
            its output.
        """
        shape = np.broadcast_shapes(*(each.shape for each in inputs))
        return self.op(kind, *inputs, shape=shape, dtype=dtype or inputs[-1].dtype)

    def cast(self, x: Tensor, dtype: str) -> Tensor:
        """Change a tensor's type.

        Args:
            x: the tensor.
            dtype: the type.

        Returns:
            the output.
        """
        types = {"inDataType": TYPES[x.dtype], "outDataType": TYPES[dtype]}
        version = 3 if x.dtype == "int8" else 1
        return self.op("CAST", x, shape=x.shape, dtype=dtype, version=version, **types)

    def gather(self, table: Tensor, items: Tensor) -> Tensor:
        """Look rows up.

        Args:
            table: the rows.
            items: their numbers.

        Returns:
            a row for each item.
        """
        version = 2 if table.dtype == "int8" else 1
        return self.op("GATHER", table, items, shape=(*items.shape, *table.shape[1:]), dtype=table.dtype, version=version)

    def reduce(self, kind: str, x: Tensor, axis: int, *, keep: bool = False) -> Tensor:
        """Reduce an axis.

        Args:
            kind: the operator.
            x: the tensor.
            axis: which one.
            keep: whether it stays, with length 1.

        Returns:
            the output.
        """
        shape = (*x.shape[:axis], *([1] if keep else []), *x.shape[axis + 1 :])
        return self.op(kind, x, self.ints(axis), shape=shape, dtype=x.dtype, keepDims=keep)

    def reshape(self, x: Tensor, *shape: int) -> Tensor:
        """Give a tensor another shape.

        Args:
            x: the tensor.
            shape: the new shape; one −1 is worked out, also when the candidates are resized.

        Returns:
            the output.
        """
        rest = -int(np.prod(shape))
        known = [int(np.prod(x.shape)) // rest if axis < 0 else axis for axis in shape]
        return self.op("RESHAPE", x, self.ints(*shape), shape=known, dtype=x.dtype, newShape=np.array(shape, np.int32))

    def transpose(self, x: Tensor, *order: int) -> Tensor:
        """Reorder axes.

        Args:
            x: the tensor.
            order: the axes.

        Returns:
            the output.
        """
        return self.op("TRANSPOSE", x, self.ints(*order), shape=[x.shape[axis] for axis in order], dtype=x.dtype)

    def part(self, x: Tensor, start: int, stop: int, axis: int = 0) -> Tensor:
        """Cut a part out of a tensor.

        Args:
            x: the tensor.
            start: where the part begins on that axis.
            stop: where it ends.
            axis: which one.

        Returns:
            the part; the tensor itself if that is all of it.
        """
        shape = [*x.shape[:axis], stop - start, *x.shape[axis + 1 :]]
        if shape == list(x.shape):
            return x
        first = [start if each == axis else 0 for each in range(len(shape))]
        return self.op("SLICE", x, self.ints(*first), self.ints(*shape), shape=shape, dtype=x.dtype)

    def matmul(self, x: Tensor, y: Tensor, *, turned: bool = False) -> Tensor:
        """Multiply matrices, one pair for each of the first axis.

        Args:
            x: rows.
            y: columns; rows if turned.
            turned: whether to transpose y.

        Returns:
            the products.
        """
        return self.op("BATCH_MATMUL", x, y, shape=(*x.shape[:-1], y.shape[-2 if turned else -1]), adjY=turned)

    def largest(self, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Find the largest numbers of a row.

        Args:
            x: 1 × numbers.
            count: how many.

        Returns:
            the numbers, the largest first, and their places.
        """
        values = self.op("TOPK_V2", x, self.constant(np.int32(count)), shape=(1, count))
        places = self.tensor("places", (1, count), "int32")
        self.operators[-1].outputs = np.array([values.number, places.number], np.int32)
        return values, places

    def ints(self, *values: int) -> Tensor:
        """Add a list of whole numbers: indices, a shape.

        Args:
            values: the numbers.

        Returns:
            an int32 tensor of one axis.
        """
        return self.constant(np.array(values, np.int32))
