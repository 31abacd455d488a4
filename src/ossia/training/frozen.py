"""The frozen base as personalizers see it: profile in, and the next item's likelihood at any mix of widths out.

    states      = backbone(history; widths m of this user)          one batch, every user with widths of their own
    log p(next) = log softmax(states · E / T)[next]

T is fitted once on the base at 8 bits. A base that was trained with sampled negatives, or for long, is far too sure of
itself (T ≈ 2 to 3 on Beauty), and without T most of what a personalizer learns is to blur: log-likelihood rises by a third of
a nat, the ranking stays what it was. With T, what it gains is order.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int64
from torch import Tensor, nn

from ossia.adaptation import Adaptation, Base, apply, make_profile
from ossia.backbones import Backbone
from ossia.backbones.backbone import SlotJoint, plain
from ossia.backbones.published import from_weights
from ossia.backbones.ranker import encode
from ossia.data import Cases
from ossia.personalizers.relaxed import relaxed_slot, weights_at
from ossia.training.events import EventBatch, Events
from ossia.types import WIDTHS

TEMPERATURES = np.geomspace(0.5, 8.0, 33)
TEMPERATURE_EVENTS = 2_000
CHUNK = 256
TINY = 1e-30


@dataclass(frozen=True, eq=False)
class Judged:
    """What a choice of widths did to each event: natural log of the next item's probability, and its rank."""

    log_likelihood: Float32[np.ndarray, " events"]
    ranks: Int64[np.ndarray, " events"]

    @property
    def mean_likelihood(self) -> float:
        """Mean log-likelihood, in nats."""
        return float(self.log_likelihood.mean(dtype=np.float64))


@dataclass(frozen=True, eq=False)
class FrozenBase:
    """A published base in torch, without gradients, at every width of an alphabet.

    Attributes:
        base: the base.
        backbone: its twin at 8 bits.
        weights: each slot at the alphabet's widths above 0.
        temperature: T of the next item's softmax.
        activations: bits of what every slot reads; None: float32.
    """

    base: Base
    backbone: Backbone
    weights: Mapping[str, Tensor]
    temperature: float = 1.0
    activations: int | None = None

    @classmethod
    def load(cls, base: Base, alphabet: tuple[int, ...], device: torch.device, *, table: int = 8) -> "FrozenBase":
        """Build the twin.

        Args:
            base: the published base.
            alphabet: the widths that channels may have.
            device: where to compute.
            table: bits of every item row, scored or read from histories.

        Returns:
            the frozen base with T = 1.
        """
        weights = {name: stacked.to(device) for name, stacked in weights_at(base, alphabet).items()}
        whole = apply(base, Adaptation(rows=np.full(len(base.table), WIDTHS.index(table), np.uint8)))
        return cls(base, from_weights(replace(whole, history_rows=whole.rows)).to(device), weights)

    @cached_property
    def basis(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The directions of each slot, left and right, in float32; none without a basis."""
        device = self.vectors.device
        return {
            name: (torch.from_numpy(each.left).float().to(device), torch.from_numpy(each.right).float().to(device))
            for name, each in self.base.basis.items()
        }

    @property
    def vectors(self) -> Float[Tensor, "items dim"]:
        """The item table, as wide as it was loaded."""
        return self.backbone.items.weight.detach()

    def states(
        self, histories: Int[Tensor, "users time"], steps: Float[Tensor, "users steps channels"] | None = None
    ) -> Float[Tensor, "users dim"]:
        """Compute present user states.

        Args:
            histories: item rows, left-padded.
            steps: each user's widths, as masks; None: everything at 8 bits.

        Returns:
            one state per user.
        """
        slot = plain if steps is None else relaxed_slot(self.weights, steps)
        return self.backbone(histories, slot=coarsely(slot, self.activations) if self.activations else slot)[:, -1]

    def logits(self, states: Float[Tensor, "users dim"]) -> Float[Tensor, "users items"]:
        """Score the catalog so that a softmax of it is calibrated.

        Args:
            states: user states.

        Returns:
            states · E / T.
        """
        return states @ self.vectors.T / self.temperature

    def events(self, cases: Cases) -> Events:
        """Compute the profiles of cases, exactly as `make_profile` does from the states of the base at 8 bits.

        Args:
            cases: histories and what came next.

        Returns:
            the events.
        """
        clip = self.base.manifest.profile_clip
        lengths = cases.histories.lengths
        profiles = np.zeros((len(cases), self.base.manifest.shape["dim"]), np.float32)
        for rows in np.array_split(np.argsort(lengths, kind="stable"), -(-len(cases) // CHUNK)):
            states = encode(self.backbone, [cases.histories[row] for row in rows.tolist()]).cpu().numpy()
            profiles[rows] = [make_profile(state, clip).state for state in states]
        return Events(cases, torch.from_numpy(profiles), self.base.manifest.shape["length"])

    @torch.no_grad()
    def judge(
        self,
        events: Events,
        steps: Float[Tensor, "events steps channels"] | None = None,
        *,
        shift: Float[Tensor, "events dim"] | None = None,
    ) -> Judged:
        """Measure a choice of widths: full ranking, seen items removed, ties against us.

        Args:
            events: what came next for whom.
            steps: each event's widths, as masks on the CPU; None: everything at 8 bits.
            shift: what is added to each event's user state, on the CPU: a control that leaves widths alone.

        Returns:
            log-likelihood and rank of each target; a target that was seen has the last rank.
        """
        device = self.vectors.device

        def states(batch: EventBatch) -> Tensor:
            rows = batch.rows.cpu()
            found = self.states(batch.histories, None if steps is None else steps[rows].to(device))
            return found if shift is None else found + shift[rows].to(device)

        return self.judge_states(events, states)

    @torch.no_grad()
    def judge_states(self, events: Events, states: Callable[[EventBatch], Tensor]) -> Judged:
        """Measure any way of making user states: full ranking, seen items removed, ties against us.

        Args:
            events: what came next for whom.
            states: one state for each event of a batch; the batch is on the base's device.

        Returns:
            log-likelihood and rank of each target; a target that was seen has the last rank.
        """
        likelihood, ranks = np.zeros(len(events), np.float32), np.zeros(len(events), np.int64)
        for rows in np.array_split(np.argsort(events.cases.histories.lengths, kind="stable"), -(-len(events) // CHUNK)):
            batch = events.batch(rows).to(self.vectors.device)
            logits = self.logits(states(batch))
            likelihood[rows] = (_of_targets(logits, batch.targets) - logits.logsumexp(dim=1)).cpu().numpy()
            remove_seen(logits, [events.cases.histories[row] for row in rows.tolist()])
            target = _of_targets(logits, batch.targets)
            ranks[rows] = logits.shape[1] - (logits < target[:, None]).sum(dim=1).cpu().numpy()
        return Judged(likelihood, ranks)


def coarsely(slot: SlotJoint, bits: int) -> SlotJoint:
    """Round what a slot reads, event by event, onto a symmetric grid of its own, as an integer engine does with 8 bits.

        x̂ = s round(x / s),     s = max |x| / (2^(bits−1) − 1)

    Args:
        slot: how weights are applied.
        bits: of an activation.

    Returns:
        the same on rounded activations.

    Example:
        >>> layer = nn.Linear(2, 2, bias=False)
        >>> nn.init.eye_(layer.weight).requires_grad_(False)[0].tolist()
        [1.0, 0.0]
        >>> coarsely(plain, 2)("layer", layer, torch.tensor([[[4.0, -1.0]]])).tolist()
        [[[4.0, 0.0]]]
    """

    def rounded(name: str, linear: nn.Linear, x: Tensor) -> Tensor:
        step = (x.abs().amax(dim=-1, keepdim=True) / (2 ** (bits - 1) - 1)).clamp_min(TINY)
        return slot(name, linear, (x / step).round() * step)

    return rounded


@torch.no_grad()
def fit_temperature(frozen: FrozenBase, events: Events) -> float:
    """Find the T at which the base at 8 bits is best calibrated, on a logarithmic grid.

        T = argmin  −mean log softmax(state · E / T)[next]

    Args:
        frozen: the base, at any T.
        events: what it was not trained on.

    Returns:
        the temperature.
    """
    lengths = events.cases.histories.lengths
    spread = np.linspace(0, len(events) - 1, min(len(events), TEMPERATURE_EVENTS)).astype(np.int64)
    total = np.zeros(len(TEMPERATURES))
    for rows in np.array_split(spread[np.argsort(lengths[spread], kind="stable")], -(-len(spread) // CHUNK)):
        batch = events.batch(rows).to(frozen.vectors.device)
        logits = frozen.states(batch.histories) @ frozen.vectors.T
        total += [float(_of_targets((logits / T).log_softmax(dim=1), batch.targets).sum()) for T in TEMPERATURES.tolist()]
    return float(TEMPERATURES[total.argmax()])


def _of_targets(values: Float[Tensor, "users items"], targets: Int[Tensor, " users"]) -> Float[Tensor, " users"]:
    """Pick each user's target."""
    return values.gather(1, targets[:, None])[:, 0]


def remove_seen(scores: Float[Tensor, "users items"], histories: Sequence[np.ndarray]) -> None:
    """Write −inf where an item was seen, in place.

    Args:
        scores: a row per user.
        histories: what each user has met; `ABSENT` is no item.
    """
    users = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    seen = np.concatenate(histories).astype(np.int64)
    place = (torch.from_numpy(users[seen >= 0]).to(scores.device), torch.from_numpy(seen[seen >= 0]).to(scores.device))
    scores.index_put_(place, torch.tensor(-torch.inf, device=scores.device))
