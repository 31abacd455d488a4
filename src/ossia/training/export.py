"""From torch to ONNX: the personalizer as the service runs it, without torch.

The graph has one input `profiles` (users × dim) and one output `importance` (users × channels), float32, and a free number
of users. A graph that was traced at a fixed batch answers wrongly or not at all, so the export is checked before anybody
sees it: against torch, at several batch sizes, by ONNX's own reference implementation (onnxruntime is the service's).

onnxruntime computes Softplus number by number, 12 ns each, which was most of what a request cost. Written with operators that
it runs on vectors, to the same last digit or two, it takes a third:

    softplus(x) = max(x, 0) + log1p(t),  t = exp(−|x|)        log1p(t) = log u + (t − (u − 1)),  u = 1 + t as rounded
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    import onnx

BATCHES = (1, 3, 64)
TOLERANCE = 1e-5


def export_onnx(network: nn.Module, profile_dim: int) -> bytes:
    """Export a network that turns profiles into importance.

    Args:
        network: `forward(profiles) -> importance`, on the CPU.
        profile_dim: length of a profile.

    Returns:
        a whole ONNX file, weights inside.

    Raises:
        AssertionError: the graph does not compute what the network does.
    """
    network = network.eval()
    example = torch.zeros(2, profile_dim)  # two, for one may be taken for a constant
    with _quiet():
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=["profiles"],
            output_names=["importance"],
            dynamic_shapes=({0: torch.export.Dim("users", min=1)},),
            custom_translation_table={torch.ops.aten.softplus.default: _softplus},
        )
    assert program is not None, "torch.onnx.export gives a program where dynamo is on and no file is named"
    graph = program.model_proto
    check_twin(network, graph, profile_dim)
    return bytes(graph.SerializeToString())


def check_twin(network: nn.Module, graph: "onnx.ModelProto", profile_dim: int) -> None:
    """Assert that the graph, as its standard defines it, answers as the network does: one answer per profile.

    Args:
        network: in evaluation mode, on the CPU.
        graph: what was exported.
        profile_dim: length of a profile.

    Raises:
        AssertionError: it does not.
    """
    from onnx.reference import ReferenceEvaluator

    reference = ReferenceEvaluator(graph)
    rng = np.random.default_rng(0)
    for users in BATCHES:
        profiles = rng.standard_normal((users, profile_dim), np.float32)
        with torch.no_grad():
            expected = network(torch.from_numpy(profiles)).numpy()
        answered = reference.run(None, {"profiles": profiles})[0]
        assert answered.shape == expected.shape, f"{users} profiles: expected {expected.shape}, got {answered.shape}"
        assert np.allclose(answered, expected, rtol=TOLERANCE, atol=TOLERANCE * float(expected.max())), (
            "ONNX differs from torch"
        )


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
