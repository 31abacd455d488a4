"""Four losses for the next item, as plain functions of states and targets.

All take user states, the items that came next, and the item table, and return the mean over the events:

    full_softmax      −s_y + log Σ_j e^{s_j}                                      over the whole catalog
    sampled_softmax   −s_y + log (e^{s_y} + Σ_{j∈N, j≠y} e^{s_j − log(K q_j)})    over K shared draws N from q
    bce               −log σ(s_y) − mean_{j∈N, j≠y} log(1 − σ(s_j))               over the same draws
    gbce              −β log σ(s_y) − Σ_{j∈N, j≠y} w_j log(1 − σ(s_j))            over the same draws, β calibrated

with s = state · E. Full softmax is the exact log-likelihood, and its cost grows with the catalog. Sampled softmax estimates
the sum: a draw j stands for 1 / (K q_j) items, which is the *logQ correction* (Bengio and Senécal, 2008). The target is
always there, so it is not corrected, and a draw that happens to hit it is left out; then the sum is unbiased for every
q > 0, and the loss tends to the full one as K grows. Negatives are shared by the whole batch: one matrix product.

What this does not do: weigh events, or know of users. `next_item_loss` is what joins a loss to a backbone and a batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import Literal, NamedTuple, Protocol, TypeAlias, cast, runtime_checkable

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor
from torch.nn import functional

from ossia.backbones import Backbone
from ossia.backbones.backbone import GateJoint, SlotJoint, keep, plain
from ossia.training.batches import Batch
from ossia.types import ABSENT

Hits: TypeAlias = tuple[Int[Tensor, " hits"], Int[Tensor, " hits"]]
"""The events and the draws of the pairs that must not count against each other."""


def as_they_are(rows: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows dim"]:
    """Read item rows as they are.

    Args:
        rows: of the item table.

    Returns:
        the same.
    """
    return rows


class Beside(NamedTuple):
    """Other rows that the same states score beside the table's own (`coarse.py`).

    Attributes:
        weight: how much their loss counts; that of the table's rows counts 1.
        rows: what stands for some items.
    """

    weight: float
    rows: Callable[[Tensor], Tensor]


class Reading(NamedTuple):
    """How a loss reads a backbone: as it is, or with weights that are rounded (`widths.py`) or branches skipped (`depth.py`).

    Attributes:
        slot: how adaptable weights are applied.
        rows: what stands for the item rows that are scored. Rows of the history are read as they are: a device holds them at
            8 bits.
        gate: what a branch adds, or hands on.
        beside: other rows that are scored as well, if there are any.
    """

    slot: SlotJoint = plain
    rows: Callable[[Tensor], Tensor] = as_they_are
    gate: GateJoint = keep
    beside: Beside | None = None

    def compare(
        self,
        loss: Callable[[Tensor], Tensor],
        rows: Float[Tensor, "items dim"],
        items: Int[Tensor, " items"],
    ) -> Float[Tensor, ""]:
        """Compute the loss over rows as they are read, and over those beside them.

        Args:
            loss: over the rows that it is given.
            rows: of the item table.
            items: which they are.

        Returns:
            the loss.
        """
        value = loss(self.rows(rows))
        return value if self.beside is None else value + self.beside.weight * loss(self.beside.rows(items))


AS_TRAINED = Reading()


@runtime_checkable
class NextItemLoss(Protocol):
    """`(backbone, batch, generator) -> mean loss of the batch's events`, as `fit` calls it."""

    def __call__(self, backbone: Backbone, batch: Batch, generator: torch.Generator, reading: Reading = AS_TRAINED) -> Tensor:
        """Compute the loss."""
        ...


FLOAT32_ITEMS = 1 << 16
"""Up to here a float32 tells the shares of items well enough apart."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """Where negatives come from: item j with probability `q_j ∝ max(count_j, 1)^alpha`.

    Attributes:
        cumulative: running sum of q, for drawing by bisection; ends in 1. float64 for a large catalog: steps of 2⁻²⁴ are coarse
            where q is a millionth.
        log_q: log of each item's probability.
    """

    cumulative: Float[Tensor, " items"]
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
        cumulative = q.cumsum(0)
        return cls(cumulative if len(counts) > FLOAT32_ITEMS else cumulative.float(), q.log().float())

    def draw(self, size: int, generator: torch.Generator) -> Int[Tensor, " negatives"]:
        """Draw item rows with replacement.

        Args:
            size: how many.
            generator: the randomness, on the proposal's device.

        Returns:
            item rows, each an independent draw from q.
        """
        points = torch.rand(size, generator=generator, device=self.cumulative.device, dtype=self.cumulative.dtype)
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
    hits = find_hits(targets, negatives)
    total = _LogTotal.apply(states, negative_vectors, -log(len(negatives)) - log_q[negatives], hits, positive)  # type: ignore[no-untyped-call]
    return cast(Tensor, (total - positive).mean())


def find_hits(targets: Int[Tensor, " events"], negatives: Int[Tensor, " negatives"]) -> Hits:
    """Find the draws that hit an event's own target, without comparing every event with every draw.

    Args:
        targets: the item of each event.
        negatives: item rows, drawn with replacement, in any order.

    Returns:
        the event and the draw of each hit.

    Example:
        >>> [hit.tolist() for hit in find_hits(torch.tensor([4, 7]), torch.tensor([7, 2, 7]))]
        [[1, 1], [0, 2]]
    """
    ordered, draws = negatives.sort(stable=True)
    first, behind = torch.searchsorted(ordered, targets), torch.searchsorted(ordered, targets, right=True)
    counts = behind - first
    events = torch.repeat_interleave(torch.arange(len(targets), device=targets.device), counts)
    rank = torch.arange(len(events), device=targets.device) - (counts.cumsum(0) - counts)[events]
    return events, draws[first[events] + rank]


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


def gbce(
    states: Float[Tensor, "events dim"],
    targets: Int[Tensor, " events"],
    negatives: Int[Tensor, " negatives"],
    target_vectors: Float[Tensor, "events dim"],
    negative_vectors: Float[Tensor, "negatives dim"],
    log_q: Float[Tensor, " items"],
    calibration: float,
) -> Float[Tensor, ""]:
    """Binary cross-entropy whose positive is played down, because few of the items that were not chosen are drawn.

        −(β log σ(s_y) + Σ_{j∈N, j≠y} w_j log(1 − σ(s_j))) / (K + 1),     w_j = 1 / ((n − 1) q_j)
        β = a (t (1 − 1/a) + 1/a),     a = K / (n − 1)

    Against K of n − 1 items at β = 1, σ(s_j) overstates how probable j is: its best value is p / (p + a (1 − p)). At β = a
    it is p itself. Petrov and Macdonald, RecSys 2023 (gSASRec), https://arxiv.org/abs/2308.07192;
    there negatives are drawn uniformly (w = 1), here a draw is weighed so that β is right for every q.

    Args:
        states: user states before each event.
        targets: the item of each event.
        negatives: K item rows, drawn with replacement from q, shared by all events.
        target_vectors: the targets' rows of the item table.
        negative_vectors: the negatives' rows of the item table.
        log_q: log q of every item.
        calibration: t, 0 … 1: 0 is plain binary cross-entropy (β = 1), 1 is calibrated (β = a).

    Returns:
        the mean loss in nats per compared item.
    """
    rate = len(negatives) / (len(log_q) - 1)  # above 1 where draws with replacement outnumber the items
    beta = rate * (calibration * (1 - 1 / rate) + 1 / rate)
    weights = (negatives != targets[:, None]) * torch.exp(-log_q[negatives]) / (len(log_q) - 1)
    pushed_down = (functional.softplus(states @ negative_vectors.T) * weights).sum(1)
    pulled_up = functional.softplus(-(states * target_vectors).sum(1))
    return (beta * pulled_up + pushed_down).mean() / (len(negatives) + 1)


def next_item_loss(
    kind: Literal["full_softmax", "sampled_softmax", "bce", "gbce"],
    *,
    proposal: Proposal,
    negatives: int,
    calibration: float = 0.75,
) -> NextItemLoss:
    """Join a loss to a backbone: encode the batch, keep the states of real events, compare them with item vectors.

    Args:
        kind: which loss.
        proposal: where negatives come from; on the backbone's device. Full softmax needs none.
        negatives: draws per batch.
        calibration: t of `gbce`.

    Returns:
        what `fit` minimizes.
    """

    def full(backbone: Backbone, batch: Batch, generator: torch.Generator, reading: Reading = AS_TRAINED) -> Tensor:  # noqa: ARG001
        real, vectors = batch.inputs != ABSENT, backbone.items(batch.inputs.clamp_min(0))
        states = backbone.encode(vectors, batch.positions, batch.pieces, slot=reading.slot, gate=reading.gate)[real]
        targets, table = batch.targets[real], backbone.items.weight
        every = torch.arange(len(table), device=table.device)
        return reading.compare(lambda rows: full_softmax(states, targets, rows), table, every)

    def sampled(backbone: Backbone, batch: Batch, generator: torch.Generator, reading: Reading = AS_TRAINED) -> Tensor:
        real, drawn = batch.inputs != ABSENT, proposal.draw(negatives, generator)
        targets = batch.targets[real]
        # One lookup for all three: backward, each would fill a gradient as large as the item table.
        items = torch.cat([batch.inputs.clamp_min(0).flatten(), targets, drawn])
        inputs, scored = backbone.items(items).split([batch.inputs.numel(), len(targets) + negatives])
        vectors = inputs.view(*batch.inputs.shape, -1)
        states = backbone.encode(vectors, batch.positions, batch.pieces, slot=reading.slot, gate=reading.gate)[real]

        def against(rows: Tensor) -> Tensor:
            own, others = torch.split(rows, [len(targets), negatives])
            if kind == "bce":
                return bce(states, targets, drawn, own, others)
            if kind == "gbce":
                return gbce(states, targets, drawn, own, others, proposal.log_q, calibration)
            return sampled_softmax(states, targets, drawn, own, others, proposal.log_q)

        return reading.compare(against, scored, items[batch.inputs.numel() :])

    return full if kind == "full_softmax" else sampled


def log_total(
    states: Float[Tensor, "events dim"],
    negative_vectors: Float[Tensor, "negatives dim"],
    shift: Float[Tensor, " negatives"],
    hits: Hits,
    positive: Float[Tensor, " events"],
) -> Float[Tensor, " events"]:
    """Log of what an event's own score and the negatives' add up to.

        log(e^p + Σ_{j not a hit} e^{state · n_j + shift_j})

    Args:
        states: user states.
        negative_vectors: rows of the item table, shared by all events.
        shift: log of how many items each stands for.
        hits: the events and the negatives of what is left out.
        positive: p.

    Returns:
        the total of each event.
    """
    return cast(Tensor, _LogTotal.apply(states, negative_vectors, shift, hits, positive))  # type: ignore[no-untyped-call]


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
        hits: Hits,
        positive: Tensor,
    ) -> Tensor:
        scores = torch.addmm(shift, states, negative_vectors.T)
        scores[hits] = -torch.inf
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
