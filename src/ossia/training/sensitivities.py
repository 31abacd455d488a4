"""A warm start from first-order sensitivities: what one more bit would have done to events that have happened.

Put every channel of the frozen base half-way between its narrowest and its widest rounding, each user with a mixing weight
of their own per channel. One backward pass per event then gives, for all channels at once,

    s_uc = −∂ loss_u / ∂ m_uc         how much the next item's log-likelihood gains as channel c moves to its wide end

A single event's s is nearly all noise (of its variance on Amazon Beauty less than 1 % can be predicted), so a closed-form
ridge regression averages it over users with similar profiles:

    ŝ(p) = B · φ(p),   φ = (1, p, 1,024 random cosines of p)   B = (ΦᵀΦ + λ √n)⁻¹ ΦᵀS,   λ chosen on every fifth event

and the hypernetwork then learns the importance that ŝ implies. An importance is positive, ŝ need not be: per weight of the
channel, with k weights and σ the spread of ŝ / k over users and channels,

    I_c ∝ k · softplus(2 ŝ_c / (k σ))        keeps the order; what would do harm comes to nearly nothing

Only sums over events are kept (ΦᵀΦ, ΦᵀS), so a log of any length fits. `personalizer.py` goes on from here.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from ossia.personalizers import Chord
from ossia.training.fit import Step, fit
from ossia.training.frozen import EventBatch, Events, FrozenBase

COSINES = 1024
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4)
HELD_OUT = 5  # every fifth event chooses the penalty
SHARPNESS = 2.0
LR = 3e-3
BATCH = 256
SPREAD_EVENTS = 4_096


def sensitivities(frozen: FrozenBase, batch: EventBatch, steps: int) -> Float[Tensor, "events channels"]:
    """Differentiate each event's log-likelihood by the mixing weight of each channel, half-way between low and high width.

    Args:
        frozen: the base at its widths.
        batch: the events.
        steps: how many steps of width the alphabet has; all of a channel's move together.

    Returns:
        the gain per unit of mixing weight, in nats.
    """
    half = torch.full((len(batch.targets), 1, frozen.base.channels), 0.5, device=batch.targets.device, requires_grad=True)
    logits = frozen.logits(frozen.states(batch.histories, half.expand(-1, steps, -1)))
    loss = F.cross_entropy(logits, batch.targets, reduction="sum")  # a sum: every event's gradient is its own
    return -torch.autograd.grad(loss, half)[0][:, 0]


@dataclass(frozen=True, eq=False)
class Features:
    """φ(p): a constant, the standardized profile, random cosines of it (Rahimi and Recht, 2007)."""

    mean: Float[Tensor, " dim"]
    spread: Float[Tensor, " dim"]
    frequencies: Float[Tensor, "dim cosines"]
    phases: Float[Tensor, " cosines"]

    @classmethod
    def draw(cls, profiles: Float[Tensor, "events dim"], seed: int) -> "Features":
        """Standardize by some profiles and draw the cosines.

        Args:
            profiles: what to standardize by.
            seed: of the draws.

        Returns:
            the features.
        """
        generator = torch.Generator().manual_seed(seed)
        dim = profiles.shape[1]
        frequencies = torch.randn(dim, COSINES, generator=generator) / dim**0.5
        phases = 2 * torch.pi * torch.rand(COSINES, generator=generator)
        spread = profiles.std(dim=0, correction=0).clamp_min(1e-6)
        return cls(profiles.mean(dim=0), spread, frequencies, phases)

    @property
    def size(self) -> int:
        """How many features there are."""
        return 1 + len(self.mean) + COSINES

    def __call__(self, profiles: Float[Tensor, "events dim"]) -> Float[Tensor, "events features"]:
        """Compute φ of profiles on the CPU."""
        z = (profiles - self.mean) / self.spread
        scale = (2 * z.shape[1] / COSINES) ** 0.5  # the cosines together weigh as much as the linear part
        return torch.cat([torch.ones(len(z), 1), z, scale * torch.cos(z @ self.frequencies + self.phases)], dim=1)


@dataclass(frozen=True, eq=False)
class Ridge:
    """ŝ(p) = φ(p) B.

    Attributes:
        features: φ.
        coefficients: B.
        explained: share of the held-out variance around the mean over users that the chosen penalty explains.
    """

    features: Features
    coefficients: Float[Tensor, "features channels"]
    explained: float

    def predict(self, profiles: Float[Tensor, "users dim"]) -> Float[Tensor, "users channels"]:
        """Predict sensitivities.

        Args:
            profiles: of any users, on the CPU.

        Returns:
            nats per unit of mixing weight.
        """
        return self.features(profiles) @ self.coefficients


def fit_ridge(
    features: Features, targets: int, observed: Iterable[tuple[Float[Tensor, "events dim"], Float[Tensor, "events channels"]]]
) -> Ridge:
    """Fit the ridge in one pass; nothing but sums is kept.

    Args:
        features: φ.
        targets: how many channels there are.
        observed: profiles and sensitivities of batches of events, in random order.

    Returns:
        the ridge, refitted on all events with the penalty that was best on every fifth.
    """
    kept, held = (_Sums(features.size, targets) for _ in range(2))
    for profiles, found in observed:
        phi = features(profiles)
        is_held = torch.arange(len(phi)) % HELD_OUT == 0
        kept.add(phi[~is_held], found[~is_held])
        held.add(phi[is_held], found[is_held])
    around_mean = held.error(kept.solve(float("inf")))
    errors = [held.error(kept.solve(penalty)) for penalty in PENALTIES]
    best = int(np.argmin(errors))
    kept.merge(held)
    return Ridge(features, kept.solve(PENALTIES[best]), 1 - errors[best] / max(around_mean, 1e-30))


class _Sums:
    """Sufficient statistics of a linear regression on many targets."""

    def __init__(self, features: int, targets: int) -> None:
        self.events, self.total = 0, 0.0
        self.square, self.cross = torch.zeros(features, features), torch.zeros(features, targets)

    def add(self, phi: Tensor, found: Tensor) -> None:
        """Count some events in."""
        self.events += len(phi)
        self.square += phi.T @ phi
        self.cross += phi.T @ found
        self.total += float(found.square().sum())

    def merge(self, other: "_Sums") -> None:
        """Count another's events in."""
        self.events += other.events
        self.total += other.total
        self.square += other.square
        self.cross += other.cross

    def solve(self, penalty: float) -> Tensor:
        """Solve for the coefficients; the constant is not penalized, and with an infinite penalty it is all there is."""
        if penalty == float("inf"):
            return torch.cat([self.cross[:1] / self.events, torch.zeros_like(self.cross[1:])])
        weight = torch.full((len(self.square),), penalty * self.events**0.5, dtype=torch.float64)
        weight[0] = 0
        return torch.linalg.solve(self.square.double() + weight.diag(), self.cross.double()).float()

    def error(self, coefficients: Tensor) -> float:
        """Sum the squared errors: Σ S² − 2 tr(Bᵀ ΦᵀS) + tr(Bᵀ ΦᵀΦ B)."""
        fitted = (coefficients * (self.square @ coefficients - 2 * self.cross)).sum(dtype=torch.float64)
        return self.total + float(fitted)


def implied_importance(
    predicted: Float[Tensor, "users channels"], inputs: Float[Tensor, " channels"], spread: float
) -> Float[Tensor, "users channels"]:
    """Turn predicted sensitivities into importance: I_c ∝ k · softplus(2 ŝ_c / (k σ)), mean 1 over a user's channels.

    Args:
        predicted: ŝ of many users.
        inputs: k, the weights in each channel.
        spread: σ, the standard deviation of ŝ / k over users and channels.

    Returns:
        importance above 0.
    """
    importance = inputs * F.softplus(SHARPNESS * predicted / (inputs * max(spread, 1e-30)))
    return importance / importance.mean(dim=1, keepdim=True)


def warm_start(frozen: FrozenBase, chord: Chord, events: Events, *, size: int, steps: int, seed: int) -> Iterator[Step]:
    """Teach a hypernetwork what sensitivities imply.

    Args:
        frozen: the base.
        chord: is trained in place.
        events: what to learn from.
        size: history events per batch of the one pass over the events.
        steps: optimizer steps.
        seed: of everything that is random.

    Yields:
        one step per optimizer step; the loss is the mean squared error of log importance.
    """
    device = frozen.vectors.device
    levels = len(chord.step_bits)
    batches = events.batches(size, np.random.default_rng((seed, 0)))
    observed = ((batch.profiles, sensitivities(frozen, batch.to(device), levels).cpu()) for batch in batches)
    ridge = fit_ridge(Features.draw(events.profiles, seed), frozen.base.channels, observed)
    rng = np.random.default_rng((seed, 1))
    chosen = rng.integers(0, len(events), (steps, BATCH))
    lessons = (lesson.to(device) for lesson in _lessons(ridge, chord, events.profiles, chosen))
    optimizer = torch.optim.Adam(chord.parameters(), lr=LR)
    for step in fit(chord, _log_error, lessons, optimizer, seed=(seed, 2)):
        optimizer.param_groups[0]["lr"] = LR * (1 - (step.index + 1) / (steps + 1))
        yield step


@dataclass(frozen=True, eq=False)
class _Lesson:
    """Profiles and the logarithm of the importance that they imply."""

    profiles: Tensor
    goal: Tensor

    def to(self, device: torch.device) -> "_Lesson":
        """Put the lesson on a device."""
        return _Lesson(self.profiles.to(device), self.goal.to(device))


def _lessons(
    ridge: Ridge, chord: Chord, profiles: Float[Tensor, "events dim"], rows: Int64[np.ndarray, "lessons chosen"]
) -> Iterator[_Lesson]:
    """Predict what the hypernetwork is to say, batch by batch: for a long log all of it would not fit into memory."""
    inputs = torch.cat([torch.full((slot.channels,), float(slot.inputs)) for slot in chord.slots])
    spread = float((ridge.predict(profiles[rows.ravel()[:SPREAD_EVENTS]]) / inputs).std())
    for chosen in rows:
        yield _Lesson(profiles[chosen], implied_importance(ridge.predict(profiles[chosen]), inputs, spread).log())


def _log_error(chord: Chord, lesson: _Lesson, _generator: torch.Generator) -> Tensor:
    """Mean squared error of log importance."""
    return (chord.importance(lesson.profiles).log() - lesson.goal).square().mean()
