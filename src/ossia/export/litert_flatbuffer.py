"""A graph as the bytes of a .tflite file, and where in such bytes a tensor's data lie.

    flatbuffer · data of buffer 1 · data of buffer 2 · …              each at a multiple of 16 bytes

Data stand behind the flatbuffer, where `Buffer.offset` and `Buffer.size` say: so a file of any size is written without a copy
in Python lists, and a tensor's bytes are replaced without touching the flatbuffer. Only the scales of int8 weights are inside
of it, as the schema wants.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from jaxtyping import Shaped

from ossia.export.litert_graph import Graph, Tensor

IDENTIFIER: Final = b"TFL3"
ALIGNMENT: Final = 16
"""Of data, in bytes: what the schema asks for."""

SIGNATURE: Final = "serving_default"
"""What runtimes call a graph's inputs and outputs by name with, if they are not told another one."""


def pack(graph: Graph, inputs: Sequence[Tensor], outputs: Mapping[str, Tensor], description: str) -> bytes:
    """Write a graph down.

    Args:
        graph: the graph.
        inputs: what its caller gives.
        outputs: what its caller gets, by name.
        description: what the file says of itself.

    Returns:
        the file's bytes.
    """
    for name, tensor in outputs.items():
        graph.tensors[tensor.number].name = name
    model = _model(graph, inputs, outputs, description)
    ends = np.cumsum([_aligned(len(_packed(model))), *(_aligned(each.nbytes) for each in graph.data[1:])]).tolist()
    for buffer, offset in zip(model.buffers[1:], ends, strict=False):
        buffer.offset = offset  # a number of fixed width: the flatbuffer is as long as it was with ones
    parts = [_packed(model), *(each.tobytes() for each in graph.data[1:])]
    return b"".join(part.ljust(_aligned(len(part)), b"\0") for part in parts)


def describe(data: bytes | bytearray) -> str | None:
    """Read what a file says of itself.

    Args:
        data: the file's bytes.

    Returns:
        the description; None if this is no .tflite file, or one that says nothing.
    """
    if data[4:8] != IDENTIFIER:
        return None
    try:
        text = schema.Model.GetRootAs(data).Description()
    except struct.error:
        return None
    return None if text is None else text.decode(errors="replace")


def places(data: bytearray) -> Iterator[tuple[str, Shaped[np.ndarray, " numbers"]]]:
    """Find the data in a file that `pack` wrote.

    Args:
        data: the file's bytes.

    Yields:
        a tensor's name and its bytes; the name with `.scales` behind it and its scales, if it has some. Both are views: what
        is written there is written into `data`.

    Raises:
        ValueError: the file ends before its data do.
    """
    model = schema.Model.GetRootAs(data)
    tensors = model.Subgraphs(0)
    for number in range(tensors.TensorsLength()):
        tensor = tensors.Tensors(number)
        buffer = model.Buffers(tensor.Buffer())
        if buffer.Size():
            yield tensor.Name().decode(), np.frombuffer(data, np.uint8, buffer.Size(), buffer.Offset())
        quantization = tensor.Quantization()
        if quantization is not None and quantization.ScaleLength():
            yield f"{tensor.Name().decode()}.scales", quantization.ScaleAsNumpy()


def _model(graph: Graph, inputs: Sequence[Tensor], outputs: Mapping[str, Tensor], description: str) -> schema.ModelT:
    """Collect a graph in the schema's own objects; where data lie is not known yet."""
    ends = [[each.number for each in inputs], [each.number for each in outputs.values()]]
    first, last = (np.array(numbers, np.int32) for numbers in ends)
    maps = [[schema.TensorMapT(graph.tensors[number].name, number) for number in numbers] for numbers in ends]
    return schema.ModelT(
        version=3,
        # the first field is a byte, from a time of fewer operators
        operatorCodes=[
            schema.OperatorCodeT(min(kind, 127), version=version, builtinCode=kind) for kind, version in graph.codes
        ],
        subgraphs=[schema.SubGraphT(graph.tensors, first, last, graph.operators, "main")],
        description=description,
        buffers=[schema.BufferT(), *(schema.BufferT(offset=1, size=each.nbytes) for each in graph.data[1:])],
        signatureDefs=[schema.SignatureDefT(*maps, SIGNATURE)],
    )


def _packed(model: schema.ModelT) -> bytes:
    """Serialize a model without its data."""
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def _aligned(size: int) -> int:
    """Round a number of bytes up."""
    return -(-size // ALIGNMENT) * ALIGNMENT
