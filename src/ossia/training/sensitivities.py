"""Learning from first-order sensitivities: what one more bit would have done to events that have happened.

Put every channel of the frozen base half-way between its narrowest and its widest rounding, each user with a mixing weight
of their own per channel. One backward pass per event then gives, for all channels at once,

    s_uc = −∂ loss_u / ∂ m_uc         how much the next item's log-likelihood gains as channel c moves to its wide end

A single event's s is nearly all noise (of its variance on Amazon Beauty less than 1 % can be predicted), so a closed-form
ridge regression averages it over users with similar profiles (`ridge_fit.py`):

    ŝ(p) = φ(p) B

Widths are dealt out by the *order* of ŝ, so its direction counts and its length does not: the ridge's penalty is chosen by the
cosine between what it predicts and what was held out, as deviations from the mean over users (.08 on Beauty).
The least squared error would shrink more, and was .006 to .02 nats worse where widths were then used (validation, Beauty).
But the mean over users is part of ŝ, too, and how long the personal part is beside it decides whose order it is:

    ŝ(p) = mean + ℓ (φ(p) B − mean),     ℓ of `LENGTHS`; 0 is one allocation for everybody

A cosine of deviations can't see ℓ. So ridges of every length deal out widths to users that nothing was learned from, and the
one that makes their next items likeliest is kept. Where few events were learned from that is 0: noise is not dealt out as if
it were knowledge.

An importance is positive, ŝ need not be. The ridge says I_c ∝ k_c · softplus(φ(p) C_c) with

    C_c = 2 B_c / (k_c σ),      σ the spread of ŝ / k over users and channels

A personalizer that is itself a ridge takes C as it is; any other learns by gradient to say what the ridge says
(`imitation.py`). `personalizer.py` goes on from here.
"""

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ossia.personalizers import AbstractPersonalizer, Ridge
from ossia.training.events import EventBatch, Events
from ossia.training.fit import Step
from ossia.training.frozen import FrozenBase
from ossia.training.imitation import imitate
from ossia.training.ridge_fit import Fit, fit_ridge

SHARPNESS = 2.0
SPREAD_EVENTS = 4_096
CHUNK = 1_024
LENGTHS = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0)
"""How long the personal part may be beside the mean; 1 is what the ridge found."""


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


@torch.no_grad()
def set_coefficients(ridge: Ridge, fit: Fit, profiles: Float[Tensor, "users dim"]) -> None:
    """Put a fit of sensitivities into a personalizer: C_c = 2 B_c / (k_c σ).

    Args:
        ridge: on the CPU; its features are those of the fit.
        fit: of the sensitivities.
        profiles: over which the spread σ of ŝ / k is measured.
    """
    per_weight = fit.coefficients / ridge.inputs
    spread = float((ridge.features(profiles) @ per_weight).std())
    ridge.coefficients.copy_(SHARPNESS * per_weight / max(spread, 1e-30))


@torch.no_grad()
def observe(
    frozen: FrozenBase, events: Events, *, size: int, steps: int, seed: int
) -> Iterator[tuple[Float[Tensor, "events dim"], Float[Tensor, "events channels"]]]:
    """Go once through all events and find their sensitivities.

    Args:
        frozen: the base.
        events: what has happened.
        size: history events per batch.
        steps: how many steps of width the alphabet has.
        seed: of the order.

    Yields:
        profiles and sensitivities, on the CPU.
    """
    for batch in events.batches(size, np.random.default_rng((seed, 0))):
        with torch.enable_grad():
            found = sensitivities(frozen, batch.to(frozen.vectors.device), steps)
        yield batch.profiles, found.cpu()


def learn_sensitivities(
    frozen: FrozenBase,
    personalizer: AbstractPersonalizer,
    events: Events,
    quality: Callable[[AbstractPersonalizer], float],
    *,
    size: int,
    steps: int,
    seed: int,
) -> Iterator[Step]:
    """Teach a personalizer what sensitivities say.

    Args:
        frozen: the base.
        personalizer: is trained in place: a ridge by the linear solve, any other to say what the ridge says.
        events: what to learn from.
        quality: how well a personalizer does on events that nothing was learned from; chooses the length.
        size: history events per batch of the one pass over the events.
        steps: optimizer steps of a personalizer that is no ridge.
        seed: of everything that is random.

    Yields:
        for a ridge one step, whose loss is 1 − the alignment with what was held out; for others one step per
        optimizer step, whose loss is the mean squared error of log importance.
    """
    ridge = Ridge(personalizer.slots, {}, events.profiles.shape[1], gains=personalizer.gains)
    observed = observe(frozen, events, size=size, steps=len(personalizer.step_bits), seed=seed)
    alignment = solve(ridge, events, observed, seed=seed)
    ridge, _ = choose_length(ridge, events.profiles, quality)
    if isinstance(personalizer, Ridge):
        personalizer.load_state_dict(ridge.state_dict())
        yield Step(0, 1 - alignment)
    else:
        yield from imitate(personalizer, ridge, events, steps=steps, seed=seed)


def solve(
    ridge: Ridge,
    events: Events,
    observed: Iterable[tuple[Float[Tensor, "events dim"], Float[Tensor, "events channels"]]],
    *,
    seed: int,
) -> float:
    """Fit a ridge to sensitivities, in place.

    Args:
        ridge: on the CPU.
        events: what the sensitivities are of.
        observed: profiles and sensitivities, in batches.
        seed: of the events over which the spread σ is measured.

    Returns:
        the alignment with what was held out.
    """
    ridge.features.standardize(events.profiles)
    fitted = fit_ridge(ridge.features, len(ridge.inputs), observed)
    some = np.random.default_rng((seed, 3)).permutation(len(events))[:SPREAD_EVENTS]
    set_coefficients(ridge, fitted, events.profiles[some])
    return fitted.alignment


def choose_length(
    ridge: Ridge, profiles: Float[Tensor, "events dim"], quality: Callable[[AbstractPersonalizer], float]
) -> tuple[Ridge, float]:
    """Choose how long the personal part of a ridge's answers is.

    Args:
        ridge: as solved, on the CPU.
        profiles: of the events that it was fitted to.
        quality: how well a personalizer does on events that nothing was learned from.

    Returns:
        the ridge of the best length, and that length; of equals the shortest.
    """
    best = max(LENGTHS, key=lambda length: quality(with_length(ridge, profiles, length)))
    return with_length(ridge, profiles, best), best


@torch.no_grad()
def with_length(ridge: Ridge, profiles: Float[Tensor, "events dim"], length: float) -> Ridge:
    """Move all answers of a ridge toward or away from their mean; their spread over users and channels stays.

        C' ∝ ℓ C + (1 − ℓ) (mean φ · C) on the constant

    Args:
        ridge: on the CPU; stays as it is.
        profiles: over which the mean is taken.
        length: ℓ; 0 says the same for everybody, 1 what the ridge says.

    Returns:
        another ridge.
    """
    features, made = ridge.features, deepcopy(ridge)
    mean = torch.stack([features(chunk).sum(dim=0) for chunk in torch.split(profiles, CHUNK)]).sum(dim=0) / len(profiles)
    made.coefficients.mul_(length)
    made.coefficients[0] += (1 - length) * (mean @ ridge.coefficients)
    some = features(profiles[:: -(-len(profiles) // SPREAD_EVENTS)])
    before, now = (float((some @ each.coefficients).std()) for each in (ridge, made))
    made.coefficients.mul_(before / max(now, 1e-30))
    return made
