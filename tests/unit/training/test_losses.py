"""The losses are what their docstrings say, and sampling estimates the whole."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ossia.backbones import SASRec
from ossia.data import Histories
from ossia.training.batches import cut_windows
from ossia.training.losses import Proposal, bce, full_softmax, gbce, next_item_loss, sampled_softmax

EVENTS, DIM, ITEMS = 6, 4, 50


def material(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Proposal]:
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(EVENTS, DIM, generator=generator, requires_grad=True)
    targets = torch.randint(ITEMS, (EVENTS,), generator=generator)
    vectors = torch.randn(ITEMS, DIM, generator=generator, requires_grad=True)
    counts = torch.arange(ITEMS, 0, -1) ** 2
    return states, targets, vectors, Proposal.from_counts(counts, 0.75)


def sampled(states: Tensor, targets: Tensor, vectors: Tensor, negatives: Tensor, log_q: Tensor) -> Tensor:
    return sampled_softmax(states, targets, negatives, vectors[targets], vectors[negatives], log_q)


def binary(states: Tensor, targets: Tensor, vectors: Tensor, negatives: Tensor) -> Tensor:
    return bce(states, targets, negatives, vectors[targets], vectors[negatives])


def test_full_softmax_is_the_log_likelihood() -> None:
    states, targets, vectors, _ = material()
    scores = states @ vectors.T
    expected = -(scores[torch.arange(EVENTS), targets] - scores.exp().sum(1).log()).mean()
    assert float(full_softmax(states, targets, vectors).detach()) == pytest.approx(float(expected.detach()), rel=1e-6)


def test_sampled_softmax_is_its_equation() -> None:
    states, targets, vectors, proposal = material()
    negatives = torch.tensor([3, 3, int(targets[0]), 17])
    scores, q = states @ vectors.T, proposal.log_q.exp()
    expected = []
    for event, target in enumerate(targets.tolist()):
        others = [scores[event, j].exp() / (4 * q[j]) for j in negatives.tolist() if j != target]
        expected.append(-scores[event, target] + (scores[event, target].exp() + sum(others)).log())
    got = sampled(states, targets, vectors, negatives, proposal.log_q)
    assert float(got.detach()) == pytest.approx(float(torch.stack(expected).mean().detach()), rel=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_the_sampled_sum_is_unbiased_for_any_proposal(alpha: float) -> None:
    states, targets, vectors, _ = material()
    proposal = Proposal.from_counts(torch.arange(ITEMS, 0, -1), alpha)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        sums = []
        for _ in range(2_000):
            loss = sampled(states[:1], targets[:1], vectors, proposal.draw(20, generator), proposal.log_q)
            sums.append(float(loss.exp()))  # one event: e^loss = Z / e^{s_y}
        whole = float(full_softmax(states[:1], targets[:1], vectors).exp())
    error = np.std(sums) / np.sqrt(len(sums))
    assert abs(np.mean(sums) - whole) < 4 * error
    assert error < 0.03 * whole


def test_without_the_correction_it_would_be_biased() -> None:
    states, targets, vectors, proposal = material()
    draws = proposal.draw(1_000_000, torch.Generator().manual_seed(0))
    uniform = torch.full((ITEMS,), -float(np.log(ITEMS)))
    with torch.no_grad():
        exact = float(full_softmax(states, targets, vectors))
        right, wrong = (float(sampled(states, targets, vectors, draws, q)) for q in (proposal.log_q, uniform))
    assert abs(wrong - exact) > 10 * abs(right - exact)


def test_loss_and_gradients_tend_to_those_of_the_full_softmax_as_negatives_grow() -> None:
    states, targets, vectors, proposal = material()
    exact = [full_softmax(states, targets, vectors)]
    exact += torch.autograd.grad(exact[0], (states, vectors))
    gaps = []
    for size in (100, 10_000, 1_000_000):
        draws = proposal.draw(size, torch.Generator().manual_seed(0))
        got = [sampled(states, targets, vectors, draws, proposal.log_q)]
        got += torch.autograd.grad(got[0], (states, vectors))
        gaps.append([float((a - b).detach().norm()) / float(b.detach().norm()) for a, b in zip(got, exact, strict=True)])
    assert all(gap < 0.01 for gap in gaps[-1])
    assert all(late < early / 10 for early, late in zip(gaps[0], gaps[-1], strict=True))


def test_a_negative_that_is_the_target_counts_for_nothing() -> None:
    states, targets, vectors, proposal = material()
    target = targets[:1]
    with_hits = torch.cat([target, torch.tensor([(int(target) + 1) % ITEMS])])
    loss = sampled(states[:1], target, vectors, with_hits, proposal.log_q)
    scores = (states[:1] @ vectors.T)[0].detach()
    other = scores[with_hits[1]] - float(np.log(2)) - proposal.log_q[with_hits[1]]
    assert float(loss.detach()) == pytest.approx(float(torch.logaddexp(scores[target[0]], other) - scores[target[0]]), rel=1e-5)


def test_only_hits_give_no_loss_and_no_nan() -> None:
    states, targets, vectors, proposal = material()
    loss = sampled(states[:1], targets[:1], vectors, targets[:1].repeat(3), proposal.log_q)
    loss.backward()
    assert float(loss.detach()) == 0
    assert states.grad is not None
    assert torch.isfinite(states.grad).all()


def test_bce_is_its_equation() -> None:
    states, targets, vectors, _ = material()
    negatives = torch.tensor([3, int(targets[0]), 17])
    scores = (states @ vectors.T).sigmoid()
    expected = []
    for event, target in enumerate(targets.tolist()):
        others = torch.stack([(1 - scores[event, j]).log() for j in negatives.tolist() if j != target])
        expected.append(-scores[event, target].log() - others.mean())
    assert float(binary(states, targets, vectors, negatives).detach()) == pytest.approx(
        float(torch.stack(expected).mean().detach()), rel=1e-5
    )


def generalized(states: Tensor, targets: Tensor, vectors: Tensor, negatives: Tensor, log_q: Tensor, t: float) -> Tensor:
    return gbce(states, targets, negatives, vectors[targets], vectors[negatives], log_q, t)


def test_gbce_uncalibrated_with_every_other_item_once_is_bce_with_its_negatives_summed() -> None:
    states, targets, vectors, _ = material()
    others = torch.tensor([item for item in range(ITEMS) if item != int(targets[0])])
    uniform = torch.full((ITEMS,), -float(np.log(ITEMS - 1)))
    got = generalized(states[:1], targets[:1], vectors, others, uniform, 0.0)
    positive = -(states[:1] @ vectors[targets[0]]).sigmoid().log()
    summed = positive + len(others) * (binary(states[:1], targets[:1], vectors, others) - positive)
    assert float(got.detach()) == pytest.approx(float(summed.detach()) / ITEMS, rel=1e-5)


def test_gbce_weighs_the_positive_by_beta() -> None:
    states, targets, vectors, proposal = material()
    negatives = torch.tensor([3, 8, 17, 30])
    losses = [float(generalized(states, targets, vectors, negatives, proposal.log_q, t).detach()) for t in (0.0, 0.25, 1.0)]
    positive = float(-((states * vectors[targets]).sum(1)).sigmoid().log().mean().detach())
    rate = len(negatives) / (ITEMS - 1)
    assert (losses[0] - losses[2]) * 5 == pytest.approx((1 - rate) * positive, rel=1e-4)
    assert (losses[0] - losses[1]) * 5 == pytest.approx(0.25 * (1 - rate) * positive, rel=1e-4)


@pytest.mark.parametrize("alpha", [0.0, 0.75])
@pytest.mark.parametrize("t", [0.0, 0.5, 1.0])
def test_gbce_scores_are_calibrated_as_promised_for_any_proposal(t: float, alpha: float) -> None:
    # One state, six items, targets from a known p: minimize the expected loss over the scores themselves.
    p = torch.tensor([0.4, 0.25, 0.15, 0.1, 0.07, 0.03])
    proposal, negatives = Proposal.from_counts(torch.tensor([60, 20, 10, 5, 3, 2]), alpha), 2
    targets = torch.repeat_interleave(torch.arange(6), (p * 100).round().long())
    draws = torch.cartesian_prod(torch.arange(6), torch.arange(6))
    chances = proposal.log_q.exp()[draws].prod(1)
    scores = torch.zeros(6, 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([scores], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def expected() -> Tensor:
        optimizer.zero_grad()
        ones = torch.ones(len(targets), 1)
        parts = [generalized(ones, targets, scores, pair, proposal.log_q, t) for pair in draws]
        loss = (torch.stack(parts) * chances).sum()
        loss.backward()
        return loss

    optimizer.step(expected)
    rate = negatives / 5
    beta = rate * (t * (1 - 1 / rate) + 1 / rate)
    assert torch.allclose(scores.detach()[:, 0].sigmoid(), beta * p / (beta * p + rate * (1 - p)), atol=2e-3)


@pytest.mark.parametrize("kind", ["full_softmax", "sampled_softmax", "bce", "gbce"])
def test_gradients_are_those_of_the_function(kind: str) -> None:
    states, targets, vectors, proposal = material()
    negatives = torch.tensor([3, int(targets[0]), 17, 17])
    losses = {
        "full_softmax": lambda s, v: full_softmax(s, targets, v),
        "sampled_softmax": lambda s, v: sampled(s, targets, v, negatives, proposal.log_q.double()),
        "bce": lambda s, v: binary(s, targets, v, negatives),
        "gbce": lambda s, v: generalized(s, targets, v, negatives, proposal.log_q.double(), 0.75),
    }
    doubles = [tensor.detach().double().requires_grad_() for tensor in (states, vectors)]
    assert torch.autograd.gradcheck(losses[kind], doubles)


@pytest.mark.parametrize("kind", ["full_softmax", "sampled_softmax", "bce", "gbce"])
def test_packing_and_padding_have_no_part_in_the_loss(kind: str) -> None:
    torch.manual_seed(0)
    model = SASRec(ITEMS, dim=4, length=6, blocks=1, heads=1, hidden=8).eval()
    loss = next_item_loss(kind, proposal=Proposal.from_counts(torch.ones(ITEMS, dtype=torch.int64), 1.0), negatives=7)
    windows = cut_windows(Histories.from_lists([[3, 1, 4], [1, 5, 9, 2, 6], [5, 3]]), length=6)
    every = np.arange(len(windows))
    layouts = windows.packed(every), windows.padded(every, 4), windows.padded(every, 6)
    with torch.no_grad():
        values = [float(loss(model, batch, torch.Generator().manual_seed(0))) for batch in layouts]
    assert values == pytest.approx([values[0]] * 3, rel=1e-5)


def test_draws_follow_the_proposal_and_nothing_is_impossible() -> None:
    counts = torch.tensor([8, 1, 0, 0])
    proposal = Proposal.from_counts(counts, 1.0)
    draws = proposal.draw(100_000, torch.Generator().manual_seed(0))
    shares = torch.bincount(draws, minlength=4) / len(draws)
    assert torch.allclose(shares, torch.tensor([8, 1, 1, 1]) / 11, atol=0.005)
    assert torch.allclose(proposal.log_q.exp(), torch.tensor([8, 1, 1, 1]) / 11)
