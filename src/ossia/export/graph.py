"""A small builder of ONNX graphs: one method call, one node; what comes back is the name of its output.

    graph = Graph()
    y = graph.op("Gemm", x, weight, bias, transB=1)
    z = graph.choose(gate, lambda g: g.op("Add", y, h), lambda g: g.op("Identity", h))

Weights are not here: whoever builds a graph calls them by name, and `template.py` says where their bytes lie. Small constants
(indices, shapes) are inside, for shape inference must see them.

Operators are those of ONNX opset 17, which onnxruntime has run since 1.12.
"""

from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
from jaxtyping import Shaped
from onnx import NodeProto, TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8
END = np.iinfo(np.int64).max
"""Where a slice ends that goes to the end."""


class Graph:
    """Nodes and constants in the making; a branch shares its parent's constants and numbering.

    Attributes:
        nodes: in an order in which they can be computed.
        constants: small tensors, each once, by type, shape and bytes.
    """

    def __init__(self, parent: "Graph | None" = None) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[tuple[object, ...], TensorProto] = parent.constants if parent else {}
        self._numbers: Iterator[int] = parent._numbers if parent else count()

    def op(self, kind: str, *inputs: str, **attributes: object) -> str:
        """Append a node with one output.

        Args:
            kind: the operator.
            inputs: names of its inputs.
            attributes: as the operator calls them.

        Returns:
            the name of its output.
        """
        name = f"{kind}_{next(self._numbers)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def give(self, name: str, x: str) -> None:
        """Call a tensor by a name of its own, for whoever uses the graph.

        Args:
            name: the name.
            x: what it was called.
        """
        self.nodes.append(helper.make_node("Identity", [x], [name], name))

    def constant(self, value: Shaped[np.ndarray, "*shape"]) -> str:
        """Add a small tensor.

        Args:
            value: of the type that the operator wants.

        Returns:
            its name.
        """
        key = (value.dtype, value.shape, value.tobytes())
        if key not in self.constants:
            self.constants[key] = numpy_helper.from_array(value, f"constant_{len(self.constants)}")
        name: str = self.constants[key].name
        return name

    def cast(self, x: str, to: int) -> str:
        """Change a tensor's type.

        Args:
            x: its name.
            to: the type, of `onnx.TensorProto`.

        Returns:
            the name of the output.
        """
        return self.op("Cast", x, to=to)

    def ints(self, *values: int) -> str:
        """Add a list of whole numbers: indices, a shape.

        Args:
            values: the numbers.

        Returns:
            the name of an int64 tensor of one axis.
        """
        return self.constant(np.array(values, np.int64))

    def number(self, value: float) -> str:
        """Add one float32 number.

        Args:
            value: the number.

        Returns:
            the name of a tensor without axes.
        """
        return self.constant(np.array(value, np.float32))

    def reshape(self, x: str, *shape: int) -> str:
        """Give a tensor another shape.

        Args:
            x: its name.
            shape: the new shape; one −1 is worked out.

        Returns:
            the name of the output.
        """
        return self.op("Reshape", x, self.ints(*shape))

    def rows_from(self, x: str, start: str) -> str:
        """Keep the last rows of a tensor.

        Args:
            x: its name.
            start: name of an int64 tensor with one number, the first row to keep; below zero from the end.

        Returns:
            the name of the output.
        """
        return self.op("Slice", x, start, self.ints(END), self.ints(0))

    def choose(self, condition: str, then: Callable[["Graph"], str], otherwise: Callable[["Graph"], str]) -> str:
        """Compute one of two things, and not the other.

        Args:
            condition: name of a bool tensor with one element.
            then: builds what is computed if it is true; may name anything from outside.
            otherwise: the same if it is false.

        Returns:
            the name of the output, float32.
        """
        return self.op("If", condition, then_branch=self._branch(then), else_branch=self._branch(otherwise))

    def _branch(self, build: Callable[["Graph"], str]) -> object:
        """Build a graph inside of this one."""
        inner = Graph(self)
        output = helper.make_tensor_value_info(build(inner), TensorProto.FLOAT, None)
        return helper.make_graph(inner.nodes, output.name, [], [output])
