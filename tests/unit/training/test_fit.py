"""A step is a function of the weights, the batch and the seed; it leaves everybody else's randomness alone."""

import torch
from torch import Tensor, nn

from ossia.training.fit import Step, fit, seeded

CPU = torch.device("cpu")


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([2.0]))
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(x) * self.weight


def square(model: nn.Module, batch: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.rand((), generator=generator)
    loss: Tensor = ((model(batch) - noise) ** 2).mean()
    return loss


def run(seed: tuple[int, ...], batches: int = 4) -> tuple[list[Step], Tensor]:
    model = Line()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    data = ((torch.arange(10.0) + index) for index in range(batches))
    return list(fit(model, square, data, optimizer, seed=seed)), model.weight.detach()


def test_equal_seeds_give_equal_steps_whatever_ran_before() -> None:
    steps, weight = run((1, 0))
    torch.rand(17)
    again, same_weight = run((1, 0))
    assert steps == again
    assert torch.equal(weight, same_weight)
    assert run((1, 1))[0] != steps


def test_every_step_draws_anew() -> None:
    model, same = Line(), (torch.ones(64))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    losses = {step.loss for step in fit(model, square, [same] * 4, optimizer, seed=(0,))}
    assert len(losses) == 4


def test_the_loop_is_lazy_and_counts_its_steps() -> None:
    model = Line()
    steps = fit(model, square, ((torch.ones(3)) for _ in range(10)), torch.optim.SGD(model.parameters(), 0.1), seed=(0,))
    assert torch.equal(model.weight.detach(), torch.tensor([2.0]))
    assert [next(steps).index, next(steps).index] == [0, 1]
    assert not torch.equal(model.weight.detach(), torch.tensor([2.0]))


def test_the_loop_trains() -> None:
    model = Line()
    list(fit(model.eval(), square, [(torch.ones(3))] * 3, torch.optim.SGD(model.parameters(), 0.1), seed=(0,)))
    assert model.training


def test_the_callers_randomness_goes_on_as_if_nothing_had_been() -> None:
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    model = Line()
    steps = fit(model, square, [(torch.ones(8))] * 3, torch.optim.SGD(model.parameters(), 0.1), seed=(0,))
    drawn = [torch.rand(1) for _ in steps]
    assert torch.equal(torch.cat([*drawn, torch.rand(1)]), expected)


def test_a_seed_gives_two_streams_that_are_not_the_same() -> None:
    with seeded((3, 1), CPU) as generator:
        assert not torch.equal(torch.rand(5), torch.rand(5, generator=generator))
    with seeded((3, 1), CPU) as generator:
        first = torch.rand(5, generator=generator)
    with seeded((3, 2), CPU) as generator:
        assert not torch.equal(first, torch.rand(5, generator=generator))
