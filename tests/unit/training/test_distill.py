"""Distillation losses are their equations, and an event's list, target and negatives together are the whole catalog."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ossia.backbones import SASRec
from ossia.data import Histories
from ossia.training.batches import cut_windows
from ossia.training.distill import distilled_loss, rce, rrd, temperature_ce
from ossia.training.losses import AS_TRAINED, Proposal, Reading, next_item_loss
from ossia.training.recipes import Distillation, Widths
from ossia.training.teacher import TaughtBatch
from ossia.training.widths import WidthPath, at_one_width

EVENTS, TOP, ITEMS = 5, 4, 30


def material(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(EVENTS, TOP, generator=generator, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(EVENTS, TOP, generator=generator, dtype=torch.float64).sort(1, descending=True)[0]
    return student, teacher, torch.randn(EVENTS, generator=generator, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("tau", [1.0, 3.0])
def test_temperature_ce_is_its_equation(tau: float) -> None:
    student, teacher, tail = material()
    p = (teacher / tau).exp() / (teacher / tau).exp().sum(1, keepdim=True)
    z = (student / tau).exp().sum(1, keepdim=True) + tail.exp()[:, None]
    expected = -(tau**2) * (p * (student / tau - z.log())).sum(1).mean()
    assert float(temperature_ce(student, teacher, tail, tau).detach()) == pytest.approx(float(expected.detach()), rel=1e-9)


def test_a_student_that_scores_as_the_teacher_is_the_best_student() -> None:
    _, teacher, _ = material()
    scores = teacher.clone().requires_grad_()
    loss = temperature_ce(scores, teacher, torch.full((EVENTS,), -1e4, dtype=torch.float64), 2.0)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert float(gradient.abs().max()) < 1e-12


def test_rrd_is_the_likelihood_of_drawing_the_list_in_order() -> None:
    student, _, tail = material()
    expected = []
    for scores, rest in zip(student.detach().tolist(), tail.detach().tolist(), strict=True):
        weights = [math.exp(score) for score in scores]
        chance = [weights[k] / (sum(weights[k:]) + math.exp(rest)) for k in range(TOP)]
        expected.append(-math.log(math.prod(chance)) / TOP)
    assert float(rrd(student, tail).detach()) == pytest.approx(np.mean(expected), rel=1e-9)


def test_rrd_falls_when_a_pair_is_put_in_the_teachers_order() -> None:
    right, tail = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0.5])
    assert float(rrd(right, tail)) < float(rrd(right[:, [1, 0, 2]], tail)) < float(rrd(right.flip(1), tail))


def test_rce_is_its_equation() -> None:
    student, teacher, tail = material()
    bar, beta, expected = torch.zeros(EVENTS, dtype=torch.float64), 3.0, []
    for s, t, rest in zip(student.detach().tolist(), teacher.tolist(), tail.detach().tolist(), strict=True):
        high = [k for k in range(TOP) if s[k] > 0]
        low = [k for k in range(TOP) if s[k] <= 0]
        z, z_high = sum(map(math.exp, s)) + math.exp(rest), sum(math.exp(s[k]) for k in high)
        ours = -sum(math.exp(t[k]) * (s[k] - math.log(z_high)) for k in high) / (sum(math.exp(t[k]) for k in high) or 1)
        missed = -sum(math.exp(t[k]) * (s[k] - math.log(z)) for k in low) / (sum(math.exp(t[k]) for k in low) or 1)
        gamma = math.exp(-beta * len(high) / TOP)
        expected.append((1 - gamma) * ours + gamma * missed)
    assert float(rce(student, teacher, tail, bar, beta).detach()) == pytest.approx(np.mean(expected), rel=1e-9)


@pytest.mark.parametrize("bar", [-9.0, 9.0])
def test_rce_with_nothing_in_one_part_is_finite_and_so_are_its_gradients(bar: float) -> None:
    student, teacher, tail = material()
    loss = rce(student, teacher, tail, torch.full((EVENTS,), bar, dtype=torch.float64), 3.0)
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert student.grad is not None
    assert bool(torch.isfinite(student.grad).all())


@pytest.mark.parametrize("which", ["temperature", "rrd", "rce"])
def test_gradients_are_those_of_the_function(which: str) -> None:
    student, teacher, tail = material()
    bar = torch.zeros(EVENTS, dtype=torch.float64)
    losses = {
        "temperature": lambda s, t: temperature_ce(s, teacher, t, 2.0),
        "rrd": rrd,
        "rce": lambda s, t: rce(s, teacher, t, bar, 3.0),
    }
    assert torch.autograd.gradcheck(losses[which], (student, tail))


def taught() -> tuple[SASRec, TaughtBatch, Proposal]:
    torch.manual_seed(0)
    model = SASRec(ITEMS, dim=4, length=6, blocks=1, heads=1, hidden=8).eval()
    with torch.no_grad():
        model.items.weight.mul_(50)  # scores that differ
    windows = cut_windows(Histories.from_lists([[3, 1, 4], [1, 5, 9, 2, 6], [5, 3]]), length=6)
    batch = windows.packed(np.arange(len(windows)))
    events = int((batch.inputs >= 0).sum())
    lists = torch.rand(events, ITEMS).argsort(1)[:, :TOP]
    lists[0, 1] = batch.targets[batch.inputs >= 0][0]  # a list that holds the target; the others may or may not
    scores = torch.randn(events, TOP).sort(1, descending=True)[0]
    plain = (batch.inputs, batch.targets, batch.positions, batch.pieces)
    return model, TaughtBatch(*plain, lists, scores), Proposal.from_counts(torch.arange(ITEMS, 0, -1), 0.75)


@pytest.mark.parametrize("kind", ["full_softmax", "sampled_softmax"])
def test_list_target_and_rest_are_the_whole_catalog_each_item_once(kind: str) -> None:
    model, batch, proposal = taught()
    barely = Distillation(loss="temperature", weight=1e-9)
    ours = distilled_loss(barely, kind, proposal=proposal, negatives=400_000)
    exact = next_item_loss("full_softmax", proposal=proposal, negatives=1)
    with torch.no_grad():
        got, wanted = (float(loss(model, batch, torch.Generator().manual_seed(0))) for loss in (ours, exact))
    assert got == pytest.approx(wanted, rel=1e-5 if kind == "full_softmax" else 2e-3)


@pytest.mark.parametrize("tau", [1.0, 2.5])
def test_the_teachers_part_is_the_cross_entropy_over_the_catalog(tau: float) -> None:
    model, batch, proposal = taught()
    only = Distillation(loss="temperature", weight=1.0, temperature=tau)
    loss = distilled_loss(only, "full_softmax", proposal=proposal, negatives=1)
    with torch.no_grad():
        real = batch.inputs >= 0
        states = model.encode(model.items(batch.inputs.clamp_min(0)), batch.positions, batch.pieces)[real]
        logs = (states @ model.items.weight.T / tau).log_softmax(1)
        expected = -(tau**2) * ((batch.scores / tau).softmax(1) * logs.gather(1, batch.lists)).sum(1).mean()
        assert float(loss(model, batch, torch.Generator())) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("kind", ["full_softmax", "sampled_softmax"])
def test_a_student_at_a_width_is_the_student_with_rounded_weights(kind: str) -> None:
    model, batch, proposal = taught()
    loss = distilled_loss(Distillation(), kind, proposal=proposal, negatives=8)
    rounded = at_one_width(model, 2).backbone
    rounded.items.load_state_dict(model.items.state_dict())
    at_two_bits = WidthPath(Widths(alphabet=(2,), rows=False)).along(loss)
    with torch.no_grad():
        again = torch.Generator().manual_seed(3)
        got = float(at_two_bits(model, batch, torch.Generator().manual_seed(3)))
        torch.randint(1, (1,), generator=again)  # the draw of the width
        wanted = float(loss(rounded, batch, again))
    assert got == pytest.approx(wanted, abs=1e-6)
    assert got != pytest.approx(float(loss(model, batch, again).detach()), abs=1e-3)


@pytest.mark.parametrize("kind", ["full_softmax", "sampled_softmax"])
def test_rows_that_a_student_scores_are_read_rounded_and_rows_of_its_history_are_not(kind: str) -> None:
    model, batch, proposal = taught()
    loss, read = distilled_loss(Distillation(), kind, proposal=proposal, negatives=400_000), []

    def rows(x: Tensor) -> Tensor:
        read.append(len(x))
        return torch.zeros_like(x)

    value = loss(model, batch, torch.Generator().manual_seed(0), Reading(AS_TRAINED.slot, rows))
    assert value.item() == pytest.approx(math.log(ITEMS), rel=2e-3)  # all scores are zero
    events = int((batch.inputs >= 0).sum())
    assert read == [ITEMS + events * (1 + TOP)]
