"""Dropout from random bytes: the right share, the right mean, and torch's own randomness."""

import pytest
import torch

from ossia.backbones.dropout import Dropout
from ossia.errors import UsageError


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5, 0.9])
def test_the_share_and_the_mean_are_right(p: float) -> None:
    torch.manual_seed(0)
    y = Dropout(p)(torch.ones(400_000))
    assert float((y == 0).float().mean()) == pytest.approx(p, abs=0.005)
    assert float(y.mean()) == pytest.approx(1, abs=0.02)
    assert len(y.unique()) == 2


def test_values_are_dropped_independently_of_their_neighbors() -> None:
    torch.manual_seed(0)
    dropped = (Dropout(0.5)(torch.ones(100_000, 8)) == 0).double()
    correlation = torch.corrcoef(dropped.T) - torch.eye(8, dtype=torch.float64)
    assert correlation.abs().max() < 0.02


@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (3, 5), (2, 3, 8)])
def test_any_shape_is_kept(shape: tuple[int, ...]) -> None:
    assert Dropout(0.3)(torch.ones(shape)).shape == shape


def test_the_same_seed_drops_the_same_values() -> None:
    layer, x = Dropout(0.4), torch.randn(50)
    torch.manual_seed(3)
    first = layer(x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first)
    assert not torch.equal(layer(x), first)


def test_the_gradient_is_the_mask() -> None:
    x = torch.ones(100, requires_grad=True)
    y = Dropout(0.4)(x)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())


def test_evaluation_and_a_probability_of_0_change_nothing() -> None:
    x = torch.randn(10)
    assert Dropout(0.9).eval()(x) is x
    assert Dropout(0.0)(x) is x


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_what_is_no_probability_is_refused(p: float) -> None:
    with pytest.raises(UsageError, match="dropout"):
        Dropout(p)
