"""What is exported is checked before anybody sees it."""

import numpy as np
import onnx
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
