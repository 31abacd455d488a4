"""Distillation losses: what a student learns from the top of its teacher's ranking, as plain functions of scores.

For every training event there is a cached list of K items, the teacher's best first, with its scores t (`teacher.py`). The
student scores the same items, s, and knows of the rest of the catalog through one number per event, the *tail*

    T = log Σ_{j∈N, j∉list} e^{s_j / τ − log(K q_j)}          the shared negatives, as in `sampled_softmax`

so that e^T estimates everything outside the list, and each loss is a few lines over K columns:

    temperature   −τ² Σ_k p_k (s_k / τ − log Z),   p = softmax(t / τ),   Z = Σ_k e^{s_k/τ} + e^T
    rrd           −mean_k (s_k − log(Σ_{i≥k} e^{s_i} + e^T))            the list is drawn in the teacher's order
    rce           −(1 − γ) Σ_{k∈A} p^A_k log softmax_A(s)_k − γ Σ_{k∈B} p^B_k (s_k − log Z),   γ = e^{−β |A| / K}

A are the list's items that the student ranks high too, B the others. What is trained is (1 − w) · next item + w · one of these.

Differences from the papers. *Temperature* (Hinton, Vinyals and Dean, 2015, https://arxiv.org/abs/1503.02531): the teacher's
probability is zero outside its list. *RRD* (Kang et al., CIKM 2020, https://arxiv.org/abs/2012.04357): the list is the top K
and not drawn by rank; the uninteresting items are the batch's negatives, corrected by q, so that the loss is the Plackett–Luce
likelihood of the list in the whole catalog; the mean over k stands for the sum. *RCE-KD* (Zhu and Zhang, 2025,
https://arxiv.org/abs/2509.20989): "ranked high" is above every negative of the batch, which takes no pass over the catalog; the
paper takes the student's own top items, and samples for the second loss with the help of both models, where we take the
negatives. It is written after the paper's abstract, its weight after a summary. A list is of the whole catalog, what the user
has had included, as Z is.
"""

from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ossia.backbones import Backbone
from ossia.training.losses import AS_TRAINED, Hits, Proposal, Reading, log_total
from ossia.training.recipes import Distillation
from ossia.training.teacher import TaughtBatch
from ossia.types import ABSENT


@runtime_checkable
class DistilledLoss(Protocol):
    """`(student, batch, generator) -> mean loss of the batch's events`, as `fit` calls it."""

    def __call__(
        self, student: Backbone, batch: TaughtBatch, generator: torch.Generator, reading: Reading = AS_TRAINED
    ) -> Tensor:
        """Compute the loss."""
        ...


LOWEST = -1e4
"""Stands for log 0 where −inf would make NaN of a difference; e^−10000 is 0 in every float."""


def temperature_ce(
    student: Float[Tensor, "events top"], teacher: Float[Tensor, "events top"], tail: Float[Tensor, " events"], tau: float
) -> Float[Tensor, ""]:
    """Cross-entropy from the teacher's softened probabilities to the student's.

        −τ² Σ_k p_k (s_k / τ − log Z),   p = softmax(t / τ),   Z = Σ_k e^{s_k/τ} + e^T

    Hinton, Vinyals and Dean, 2015. τ² keeps the gradient's size when τ changes.

    Args:
        student: the student's scores of the list.
        teacher: the teacher's.
        tail: T at the same temperature: log of what the rest of the catalog adds to Z.
        tau: the temperature.

    Returns:
        the mean over events, in nats.
    """
    p = (teacher / tau).softmax(1)
    total = torch.logaddexp((student / tau).logsumexp(1), tail)
    return tau**2 * (total - (p * student).sum(1) / tau).mean()


def rrd(student: Float[Tensor, "events top"], tail: Float[Tensor, " events"]) -> Float[Tensor, ""]:
    """Negative log-likelihood that the student would draw the list in the teacher's order, and only then anything else.

        −mean_k (s_k − log(Σ_{i≥k} e^{s_i} + e^T))

    Kang, Hwang, Kweon and Yu, CIKM 2020 (relaxed ranking distillation).

    Args:
        student: the student's scores of the list, in the teacher's order.
        tail: T at temperature 1.

    Returns:
        the mean over events and ranks, in nats.
    """
    remaining = student.flip(1).logcumsumexp(1).flip(1)
    return (torch.logaddexp(remaining, tail[:, None]) - student).mean()


def rce(
    student: Float[Tensor, "events top"],
    teacher: Float[Tensor, "events top"],
    tail: Float[Tensor, " events"],
    bar: Float[Tensor, " events"],
    beta: float,
) -> Float[Tensor, ""]:
    """Two cross-entropies: order what both rank high (A), and lift what only the teacher does (B).

        −(1 − γ) Σ_{k∈A} p^A_k log softmax_A(s)_k − γ Σ_{k∈B} p^B_k (s_k − log Z),   γ = e^{−β |A| / K}

    p^A and p^B are the teacher's probabilities in A and in B. Zhu and Zhang, 2025 (RCE-KD).

    Args:
        student: the student's scores of the list.
        teacher: the teacher's.
        tail: T at temperature 1.
        bar: the student's score above which it ranks an item high.
        beta: how fast the weight moves from B to A as they agree.

    Returns:
        the mean over events, in nats.
    """
    high = student.detach() > bar[:, None]
    total = torch.logaddexp(student.logsumexp(1), tail)
    among_high = student.masked_fill(~high, LOWEST).logsumexp(1)
    agreed = (_shares(teacher, high) * (among_high[:, None] - student)).sum(1)
    missed = (_shares(teacher, ~high) * (total[:, None] - student)).sum(1)
    gamma = torch.exp(-beta * high.to(student.dtype).mean(1))
    return ((1 - gamma) * agreed + gamma * missed).mean()


def distilled_loss(
    distillation: Distillation,
    kind: Literal["full_softmax", "sampled_softmax"],
    *,
    proposal: Proposal,
    negatives: int,
) -> DistilledLoss:
    """Join a distillation loss and the next item's to a student.

        (1 − w) · mean(−s_y + log(e^{s_y} + Σ_{k∈list, k≠y} e^{s_k} + e^{T without y})) + w · distillation

    Args:
        distillation: which loss, and its settings.
        kind: whether the rest of the catalog is drawn, or looked at as a whole.
        proposal: where negatives come from; on the student's device.
        negatives: draws per batch.

    Returns:
        what `fit` minimizes.
    """
    every, none = torch.arange(len(proposal.log_q), device=proposal.log_q.device), torch.zeros_like(proposal.log_q)

    def loss(student: Backbone, batch: TaughtBatch, generator: torch.Generator, reading: Reading = AS_TRAINED) -> Tensor:
        real = batch.inputs != ABSENT
        others, shift = (every, none) if kind == "full_softmax" else _draw(proposal, negatives, generator)
        known = torch.cat([batch.targets[real][:, None], batch.lists], 1)
        # One lookup for all: backward, each would fill a gradient as large as the item table.
        rows = student.items(torch.cat([batch.inputs.clamp_min(0).flatten(), others, known.flatten()]))
        inputs, scored = rows.split([batch.inputs.numel(), len(others) + known.numel()])
        vectors = inputs.view(*batch.inputs.shape, -1)
        states = student.encode(vectors, batch.positions, batch.pieces, slot=reading.slot, gate=reading.gate)[real]
        other, own = torch.split(reading.rows(scored), [len(others), known.numel()])
        scores = torch.bmm(own.view(*known.shape, -1), states[:, :, None])[:, :, 0]
        twice = (known[:, 1:] == known[:, :1]).any(1)  # the target, where the list has it as well
        target, rest = scores[:, 0].masked_fill(twice, LOWEST), _Rest(states, other, shift, _members(others, known))
        tail = rest.total(target)
        next_item = (torch.logaddexp(scores[:, 1:].logsumexp(1), tail) - scores[:, 0]).mean()
        soft = _soft(distillation, scores[:, 1:], batch.scores, target, tail, rest)
        return (1 - distillation.weight) * next_item + distillation.weight * soft

    return loss


class _Rest(NamedTuple):
    """The catalog outside an event's target and list, as the negatives stand for it."""

    states: Tensor
    vectors: Tensor
    shift: Tensor
    hits: Hits

    def total(self, target: Tensor, tau: float = 1.0) -> Tensor:
        """T, with the target in it where the list does not have it."""
        return log_total(self.states / tau, self.vectors, self.shift, self.hits, target / tau)

    def best(self) -> Tensor:
        """The highest score among the negatives; it gets no gradient."""
        scores = self.states.detach() @ self.vectors.detach().T
        scores[self.hits] = LOWEST
        return scores.amax(1)


def _soft(
    distillation: Distillation, student: Tensor, teacher: Tensor, target: Tensor, tail: Tensor, rest: _Rest
) -> Float[Tensor, ""]:
    """Compute the distillation loss that was chosen."""
    if distillation.loss == "rrd":
        return rrd(student, tail)
    if distillation.loss == "rce":
        return rce(student, teacher, tail, rest.best(), distillation.beta)
    tau = distillation.temperature
    return temperature_ce(student, teacher, tail if tau == 1 else rest.total(target, tau), tau)


def _draw(
    proposal: Proposal, negatives: int, generator: torch.Generator
) -> tuple[Int[Tensor, " drawn"], Float[Tensor, " drawn"]]:
    """Draw negatives, each named once in rising order; and the log of how many items it stands for."""
    drawn, times = torch.unique(proposal.draw(negatives, generator), return_counts=True)
    return drawn, times.log() - torch.tensor(float(negatives)).log() - proposal.log_q[drawn]


def _members(others: Int[Tensor, " others"], known: Int[Tensor, "events known"]) -> Hits:
    """Find, for each event, which of the others (in rising order) are among its known items."""
    place = torch.searchsorted(others, known).clamp_max(len(others) - 1)
    found = others[place] == known
    return found.nonzero()[:, 0], place[found]


def _shares(teacher: Float[Tensor, "events top"], chosen: Tensor) -> Float[Tensor, "events top"]:
    """Share out the teacher's probability among the chosen columns; zeros where none is chosen."""
    return teacher.masked_fill(~chosen, -torch.inf).softmax(1).nan_to_num(0.0)
