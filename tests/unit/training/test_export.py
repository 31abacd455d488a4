"""What is exported is checked before anybody sees it."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from ossia.training.export import check_twin, export_onnx


class Scaled(torch.nn.Module):
    """A network small enough to export in no time."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(scale))

    def forward(self, profiles: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.softplus(profiles) * self.scale


@pytest.fixture(scope="module")
def graph() -> onnx.ModelProto:
    return onnx.load_from_string(export_onnx(Scaled(2.0), {"profiles": 3}, "importance"))


@pytest.mark.parametrize("users", [1, 5])
def test_the_graph_answers_each_profile(graph: onnx.ModelProto, users: int) -> None:
    profiles = np.ones((users, 3), np.float32)
    (answer,) = ReferenceEvaluator(graph).run(None, {"profiles": profiles})
    np.testing.assert_allclose(answer, 2 * np.log1p(np.exp(profiles)), rtol=1e-5)
    assert [output.name for output in graph.graph.output] == ["importance"]


def test_a_graph_of_other_weights_is_no_twin(graph: onnx.ModelProto) -> None:
    check_twin(Scaled(2.0), graph, {"profiles": 3})
    with pytest.raises(AssertionError, match="ONNX differs"):
        check_twin(Scaled(2.001), graph, {"profiles": 3})


def test_softplus_is_exported_as_fast_operators_that_hold_from_the_least_number_to_the_largest() -> None:
    fast = export_onnx(Scaled(1.0), {"profiles": 4}, "importance")
    assert "Softplus" not in {node.op_type for node in onnx.load_from_string(fast).graph.node}
    session = onnxruntime.InferenceSession(fast, providers=["CPUExecutionProvider"])
    x = np.concatenate([np.linspace(-80, 80, 3999), [-1e30]]).astype(np.float32).reshape(-1, 4)
    expected = np.logaddexp(0, x.astype(np.float64))
    assert np.allclose(session.run(None, {"profiles": x})[0], expected, rtol=5e-7, atol=0)


def test_a_graph_does_not_say_where_it_was_made() -> None:
    written = export_onnx(Scaled(2.0), {"profiles": 3}, "importance")
    for place in (__file__, torch.__file__, "test_export", "/ossia/", "File "):
        assert place.encode() not in written
