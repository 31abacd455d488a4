"""Three losses for the next item, as plain functions of states and targets.

All take user states, the items that came next, and the item table, and return the mean over the events:

    full_softmax      −s_y + log Σ_j e^{s_j}                                      over the whole catalog
    sampled_softmax   −s_y + log (e^{s_y} + Σ_{j∈N, j≠y} e^{s_j − log(K q_j)})    over K shared draws N from q
    bce               −log σ(s_y) − mean_{j∈N, j≠y} log(1 − σ(s_j))               over the same draws

with s = state · E. Full softmax is the exact log-likelihood, and its cost grows with the catalog. Sampled softmax estimates
the sum: a draw j stands for 1 / (K q_j) items, which is the *logQ correction* (Bengio and Senécal, 2008). The target is
always there, so it is not corrected, and a draw that happens to hit it is left out; then the sum is unbiased for every
q > 0, and the loss tends to the full one as K grows. Negatives are shared by the whole batch: one matrix product.

What this does not do: weigh events, or know of users. `next_item_loss` is what joins a loss to a backbone and a batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import Literal, TypeAlias, cast

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor
from torch.nn import functional

from ossia.backbones import Backbone
from ossia.training.batches import Batch
from ossia.types import ABSENT

NextItemLoss: TypeAlias = Callable[[Backbone, Batch, torch.Generator], Tensor]
"""`(backbone, batch, generator) -> mean loss of the batch's events`, as `fit` calls it."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """Where negatives come from: item j with probability `q_j ∝ max(count_j, 1)^alpha`.

    Attributes:
        cumulative: running sum of q, for drawing by bisection; ends in 1.
        log_q: log of each item's probability.
    """

    cumulative: Float32[Tensor, " items"]
    log_q: Float32[Tensor, " items"]

    @classmethod
    def from_counts(cls, counts: Int[Tensor, " items"], alpha: float) -> "Proposal":
        """Make the proposal of a catalog.

        Args:
            counts: training events of each item; an item without any counts as one, since q must be above 0.
            alpha: 0 draws uniformly, 1 by popularity.

        Returns:
            the proposal, on the counts' device.
        """
        weights = counts.clamp_min(1).double() ** alpha
        q = weights / weights.sum()
        return cls(q.cumsum(0).float(), q.log().float())

    def draw(self, size: int, generator: torch.Generator) -> Int[Tensor, " negatives"]:
        """Draw item rows with replacement.

        Args:
            size: how many.
            generator: the randomness, on the proposal's device.

        Returns:
            item rows, each an independent draw from q.
        """
        points = torch.rand(size, generator=generator, device=self.cumulative.device)
        # Rounding may leave the last running sum a hair below 1: a point above it belongs to the last item.
        return torch.searchsorted(self.cumulative, points, right=True).clamp_max(len(self.cumulative) - 1)


def full_softmax(
    states: Float[Tensor, "events dim"], targets: Int[Tensor, " events"], vectors: Float[Tensor, "items dim"]
) -> Float[Tensor, ""]:
    """Mean negative log-likelihood of the next item among all items.

        −s_y + log Σ_j e^{s_j},   s = state · E

    Args:
        states: user states before each event.
        targets: the item of each event.
        vectors: the whole item table.

    Returns:
        the mean loss in nats.
    """
    return functional.cross_entropy(states @ vectors.T, targets)


def sampled_softmax(
    states: Float[Tensor, "events dim"],
    targets: Int[Tensor, " events"],
    negatives: Int[Tensor, " negatives"],
    target_vectors: Float[Tensor, "events dim"],
    negative_vectors: Float[Tensor, "negatives dim"],
    log_q: Float[Tensor, " items"],
) -> Float[Tensor, ""]:
    """Estimate `full_softmax` from K draws, each standing for 1 / (K q_j) items.

        −s_y + log (e^{s_y} + Σ_{j∈N, j≠y} e^{s_j − log(K q_j)})

    Bengio and Senécal, IEEE Transactions on Neural Networks 19(4), 2008.

    Args:
        states: user states before each event.
        targets: the item of each event.
        negatives: K item rows, drawn with replacement from q, shared by all events.
        target_vectors: the targets' rows of the item table.
        negative_vectors: the negatives' rows of the item table.
        log_q: log q of every item.

    Returns:
        the mean loss in nats.
    """
    positive = (states * target_vectors).sum(1)
    hits = negatives == targets[:, None]
    total = _LogTotal.apply(states, negative_vectors, -log(len(negatives)) - log_q[negatives], hits, positive)  # type: ignore[no-untyped-call]
    return cast(Tensor, (total - positive).mean())


def bce(
    states: Float[Tensor, "events dim"],
    targets: Int[Tensor, " events"],
    negatives: Int[Tensor, " negatives"],
    target_vectors: Float[Tensor, "events dim"],
    negative_vectors: Float[Tensor, "negatives dim"],
) -> Float[Tensor, ""]:
    """Binary cross-entropy of the next item against drawn ones, each event's negatives weighing as much as its positive.

        −log σ(s_y) − mean_{j∈N, j≠y} log(1 − σ(s_j))

    Kang and McAuley, ICDM 2018, equation 7, with the mean of many negatives in the place of one.

    Args:
        states: user states before each event.
        targets: the item of each event.
        negatives: item rows, shared by all events.
        target_vectors: the targets' rows of the item table.
        negative_vectors: the negatives' rows of the item table.

    Returns:
        the mean loss in nats.
    """
    other = negatives != targets[:, None]
    pushed_down = functional.softplus(states @ negative_vectors.T) * other
    pulled_up = functional.softplus(-(states * target_vectors).sum(1))
    return (pulled_up + pushed_down.sum(1) / other.sum(1).clamp_min(1)).mean()


def next_item_loss(
    kind: Literal["full_softmax", "sampled_softmax", "bce"], *, proposal: Proposal, negatives: int
) -> NextItemLoss:
    """Join a loss to a backbone: encode the batch, keep the states of real events, compare them with item vectors.

    Args:
        kind: which loss.
        proposal: where negatives come from; on the backbone's device. Full softmax needs none.
        negatives: draws per batch.

    Returns:
        what `fit` minimizes.
    """

    def full(backbone: Backbone, batch: Batch, _: torch.Generator) -> Tensor:
        real = batch.inputs != ABSENT
        states = backbone.encode(backbone.items(batch.inputs.clamp_min(0)), batch.positions, batch.pieces)
        return full_softmax(states[real], batch.targets[real], backbone.items.weight)

    def sampled(backbone: Backbone, batch: Batch, generator: torch.Generator) -> Tensor:
        real, drawn = batch.inputs != ABSENT, proposal.draw(negatives, generator)
        targets = batch.targets[real]
        # One lookup for all three: backward, each would fill a gradient as large as the item table.
        rows = backbone.items(torch.cat([batch.inputs.clamp_min(0).flatten(), targets, drawn]))
        inputs, own, others = rows.split([batch.inputs.numel(), len(targets), negatives])
        states = backbone.encode(inputs.view(*batch.inputs.shape, -1), batch.positions, batch.pieces)[real]
        if kind == "bce":
            return bce(states, targets, drawn, own, others)
        return sampled_softmax(states, targets, drawn, own, others, proposal.log_q)

    return full if kind == "full_softmax" else sampled


class _LogTotal(torch.autograd.Function):
    """log(e^p + Σ_j e^{state · n_j + shift_j}) over all negatives but hits, for each event; p and j have their own gradients.

    The events × negatives matrix is made once and worked on in place: what autograd would do in nine passes over fresh memory
    takes half as long. With Z the total, the gradients are the shares e^p / Z and e^{s_j} / Z.
    """

    @staticmethod
    def forward(
        context: torch.autograd.function.FunctionCtx,
        states: Tensor,
        negative_vectors: Tensor,
        shift: Tensor,
        hits: Tensor,
        positive: Tensor,
    ) -> Tensor:
        scores = torch.addmm(shift, states, negative_vectors.T).masked_fill_(hits, -torch.inf)
        largest = torch.maximum(scores.amax(1), positive)  # finite, for the positive is
        shares = scores.sub_(largest[:, None]).exp_()
        own = (positive - largest).exp()
        total = shares.sum(1) + own
        context.save_for_backward(states, negative_vectors, shares, own / total, total)
        return total.log() + largest

    @staticmethod
    def backward(context: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, Tensor]:
        states, negative_vectors, shares, own, total = context.saved_tensors  # type: ignore[attr-defined]
        weight = (gradient / total)[:, None]  # on the small factors: the matrix stays as it is
        return (shares @ negative_vectors) * weight, shares.T @ (states * weight), None, None, own * gradient
