"""From torch to ONNX: the personalizer as the service runs it, without torch.

Inputs and output are float32, one row per user, and the number of users is free: `profiles` in, `importance` of channels out
for codes, `numbers` of a delta out for generated weights. A graph that was traced at a fixed batch answers wrongly or not at
all, so the export is checked before anybody sees it: against torch, at several batch sizes, by ONNX's own reference
implementation (onnxruntime is the service's).

onnxruntime computes Softplus number by number, 12 ns each, which was most of what a request cost. Written with operators that
it runs on vectors, to the same last digit or two, it takes a third:

    softplus(x) = max(x, 0) + log1p(t),  t = exp(−|x|)        log1p(t) = log u + (t − (u − 1)),  u = 1 + t as rounded
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    import onnx

BATCHES = (1, 3, 64)
TOLERANCE = 1e-5


def export_onnx(network: nn.Module, inputs: Mapping[str, int], output: str) -> bytes:
    """Export a network.

    Args:
        network: called with one tensor (users × width) per input, on the CPU.
        inputs: the width of each, by name, in order.
        output: the name of what it answers with (users × something).

    Returns:
        a whole ONNX file, weights inside.

    Raises:
        AssertionError: the graph does not compute what the network does.
    """
    network = network.eval()
    examples = tuple(torch.zeros(2, width) for width in inputs.values())  # two users, for one may be taken for a constant
    with _quiet():
        program = torch.onnx.export(
            network,
            examples,
            dynamo=True,
            verbose=False,
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes=tuple({0: torch.export.Dim("users", min=1)} for _ in inputs),
            custom_translation_table={torch.ops.aten.softplus.default: _softplus},
        )
    assert program is not None, "torch.onnx.export gives a program where dynamo is on and no file is named"
    graph = program.model_proto
    forget_origin(graph)
    check_twin(network, graph, inputs)
    return bytes(graph.SerializeToString())


def forget_origin(graph: "onnx.ModelProto") -> None:
    """Take out where each node comes from: the exporter writes stack traces, with the paths of whoever publishes.

    Without them, the same network is the same bytes on every machine.

    Args:
        graph: changed in place.
    """
    parts = [graph, graph.graph, *graph.graph.node, *graph.graph.value_info, *graph.graph.input, *graph.graph.output]
    for part in (*parts, *graph.graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def check_twin(network: nn.Module, graph: "onnx.ModelProto", inputs: Mapping[str, int]) -> None:
    """Assert that the graph, as its standard defines it, answers as the network does: one answer per user.

    Args:
        network: in evaluation mode, on the CPU.
        graph: what was exported.
        inputs: the width of each input, by name, in order.

    Raises:
        AssertionError: it does not.
    """
    from onnx.reference import ReferenceEvaluator

    reference = ReferenceEvaluator(graph)
    rng = np.random.default_rng(0)
    for users in BATCHES:
        asked = {name: rng.standard_normal((users, width), np.float32) for name, width in inputs.items()}
        with torch.no_grad():
            expected = network(*map(torch.from_numpy, asked.values())).numpy()
        answered = reference.run(None, asked)[0]
        assert answered.shape == expected.shape, f"{users} users: expected {expected.shape}, got {answered.shape}"
        atol = TOLERANCE * float(np.abs(expected).max())
        assert np.allclose(answered, expected, rtol=TOLERANCE, atol=atol), "ONNX differs from torch"


def _softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """Write softplus with operators that are fast; called with onnxscript's tensors while a graph is written."""
    from onnxscript import opset18 as op

    assert (beta, threshold) == (1.0, 20.0), "softplus: only torch's defaults are translated"
    small = op.Exp(op.Neg(op.Abs(x)))
    one = op.Constant(value_float=1.0)
    rounded = op.Add(one, small)
    lost = op.Sub(small, op.Sub(rounded, one))
    return op.Add(op.Relu(x), op.Add(op.Log(rounded), lost))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's chatter (deprecations inside torch, missing torchvision) away from people's terminals."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
