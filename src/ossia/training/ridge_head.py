"""What a ridge head learns, in two passes over events: readers first, then one boosting step in closed form.

    v_n   = argmin E (v · x_n − 1)²            x_n: what slot n reads at the present event
    g     = −∂ loss / ∂ u  at u = 0            of every event; the loss has likelihood and anchor (`generator_answers.py`)
    C     = ℓ B,    B: ridge of g on φ(p) (`ridge_fit.py`);  ℓ a power of 2, where others' loss is least

*Others* are users that nothing was learned from. A gradient of one event is nearly all noise, so what the ridge predicts is a
direction, and how far to go has to be tried. Likelihood alone goes too far, where the next item is likelier and in the top ten
less often; the anchor stops it. A second step would be a twentieth of the first.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ossia.backbones.backbone import plain
from ossia.personalizers.generator import delta_joint
from ossia.personalizers.ridge_head import RidgeHead
from ossia.training.events import Events
from ossia.training.fit import Step
from ossia.training.frozen import FrozenBase
from ossia.training.generator_answers import mean_objective, objective
from ossia.training.generator_recipe import GeneratorRecipe
from ossia.training.ridge_fit import fit_ridge

SHORTEST, LONGEST = 2.0**-6, 2.0**20
"""Between these ℓ is sought; the first try is 1."""
DAMPING = 1e-4
"""Of the mean square of what a slot reads: keeps a reader short where inputs are copies of each other."""


def solve_head(
    frozen: FrozenBase, recipe: GeneratorRecipe, network: RidgeHead, events: Events, select: Events
) -> Iterator[Step]:
    """Learn all that a ridge head learns, in place.

    Args:
        frozen: the base.
        recipe: batch, anchor and seed.
        network: what learns, on the base's device.
        events: what to learn from.
        select: events that nothing is learned from; they choose the length.

    Yields:
        one step, whose loss is 1 − the alignment with what was held out.
    """
    features = deepcopy(network.features).cpu().standardize(events.profiles)
    network.features.load_state_dict(features.state_dict())
    fit_readers(frozen, network, events, size=recipe.batch)
    fitted = fit_ridge(features, network.coefficients.shape[1], _pulls(frozen, recipe, network, events))

    def quality() -> float:
        return -mean_objective(frozen, recipe, network, select, network.choose(select.profiles, torch.ones(len(select))))

    search_length(network.coefficients, fitted.coefficients.to(network.coefficients), quality)
    yield Step(0, 1 - fitted.alignment)


@torch.no_grad()
def fit_readers(frozen: FrozenBase, network: RidgeHead, events: Events, *, size: int) -> None:
    """Fit a reader to each slot, in place: v with v · x nearly 1 at the present event.

        v = (E xxᵀ + damping)⁻¹ E x

    Args:
        frozen: the base.
        network: whose readers; none where it moves coordinates.
        events: at which slots are watched.
        size: history events per batch.
    """
    if not network.readers:
        return
    names = [slot.name for slot in network.layout.slots]
    seen = {name: _Seen(slot.inputs) for name, slot in zip(names, network.layout.slots, strict=True)}
    for batch in events.batches(size, np.random.default_rng(0)):
        last: dict[str, Tensor] = {}

        def watch(name: str, linear: nn.Linear, x: Tensor, last: dict[str, Tensor] = last) -> Tensor:
            last[name] = x[:, -1]  # a network that steps through time comes by once for each event
            return plain(name, linear, x)

        frozen.backbone(batch.to(frozen.vectors.device).histories, slot=watch)
        for name in names:
            seen[name].add(last[name].double().cpu())
    for name, reader in zip(names, network.readers, strict=True):
        reader.copy_(seen[name].reader())


@dataclass(eq=False)
class _Seen:
    """Sums over what a slot reads."""

    inputs: int

    def __post_init__(self) -> None:
        self.sum, self.square = (
            torch.zeros(size, dtype=torch.float64) for size in ((self.inputs,), (self.inputs, self.inputs))
        )

    def add(self, x: Float[Tensor, "events inputs"]) -> None:
        """Count some events in."""
        self.sum += x.sum(dim=0)
        self.square.addmm_(x.T, x)

    def reader(self) -> Float[Tensor, " inputs"]:
        """Solve for v; events need not be counted, for both sides have as many."""
        damping = DAMPING * self.square.diagonal().mean().clamp_min(1e-30)
        return torch.linalg.solve(self.square + damping * torch.eye(self.inputs, dtype=torch.float64), self.sum)


@torch.no_grad()
def _pulls(
    frozen: FrozenBase, recipe: GeneratorRecipe, network: RidgeHead, events: Events
) -> Iterator[tuple[Float[Tensor, "events dim"], Float[Tensor, "events moved"]]]:
    """Go once through the events and find what would make each next item likelier: −∂ loss / ∂ u, on the CPU."""
    for batch in events.batches(recipe.batch, np.random.default_rng((recipe.seed, 0))):
        here = batch.to(frozen.vectors.device)
        moves = network.coefficients.new_zeros(len(here.targets), network.coefficients.shape[1]).requires_grad_()
        with torch.enable_grad():
            slot = delta_joint(network.layout, network.arrange(moves), frozen.basis)
            states = frozen.backbone(here.histories, slot=slot)[:, -1]
            loss = objective(frozen, recipe, here, states, torch.zeros_like(states[:, 0])) * len(states)
        yield batch.profiles, -torch.autograd.grad(loss, moves)[0].cpu()  # of a sum: every event's gradient is its own


@torch.no_grad()
def search_length(coefficients: Tensor, step: Tensor, quality: Callable[[], float]) -> float:
    """Make coefficients a step of the best length, in place: doubled, or halved, for as long as that is better.

    Args:
        coefficients: what is made.
        step: its direction.
        quality: of the coefficients as they are; asked some ten times.

    Returns:
        ℓ, a power of 2; 0 where no length is better than none.

    Example:
        >>> made = torch.zeros(1)
        >>> search_length(made, torch.ones(1), lambda: -abs(float(made[0]) - 5)), made
        (4.0, tensor([4.]))
    """

    def at(length: float) -> float:
        coefficients.copy_(length * step)
        return quality()

    none, best, reached = at(0.0), 1.0, at(1.0)
    for factor, end in ((2.0, LONGEST), (0.5, SHORTEST)):
        while best != end and (found := at(best * factor)) > reached:
            best, reached = best * factor, found
    best = best if reached > none else 0.0
    coefficients.copy_(best * step)
    return best
