"""Forward-OFA: which blocks run, and with which weights, in one forward pass (arXiv 2501.02837, KDD 2025).

    controller   interest e = relu(M (norm(p), budget)),  two logits a block,  ν = keep − drop
    structure    I ∈ {0, 1} per block: straight-through Gumbel-softmax of the logits, then the budget, hard
    policy       s = P I                                          the structural vector
    mapper       z = M₂ relu(M₁ (norm(p), s))                     structure-related interest
    generators   Δ_l = reshape(U_l z + c_l), one for every layer l, in parallel

    h_l = h_{l−1} + I_l · f_l(h_{l−1}; W_l + Δ_l)

No gradient conflict is the paper's point: each generator hears only its own layer, and different structures give different s,
so that two structures never write the same weights. The loss is the next item's likelihood plus λ times the share of the
blocks' cost that runs (sparsity).

The budget is an input *and* hard. As an input it is one number, the share of all blocks' cost that the device can afford; a
block costs what it weighs while learning, and what the device measured while serving. Hard it is by
`ossia.adaptation.structure`: blocks with ν > 0 in the order of ν / price, each if it still fits. `project` is that rule for a
batch, and gradients pass beside it:

    kept = I + soft − soft.detach(),     soft = σ((ν + g) / τ),  g logistic noise: the Gumbel-softmax of two logits

Once learned, the controller is held to levels of the budget that validation has judged (`levels.py`).

A layer here is what a gate can skip: for SASRec an attention or a feed-forward network. By default only the slot that ends a
layer has a delta (its output is where the layer speaks); any slots can be asked for. Mapper and decoders start as in
`duet.py`: untrained, Δ is zero and every block is likely to be kept.

Differences from the paper: what the device sends is the profile, so controller and mapper read that, not embeddings of cached
candidates; s is a projection of the structure that runs, not of the logits, so that the generators know what the budget left;
weights are added to the base's, low rank by default (`rank=0`: dense, as theirs); the budget is an input; levels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ossia.adaptation.delta_layout import DeltaLayout
from ossia.adaptation.personalizer_manifest import CONTROLLER, MODEL
from ossia.personalizers.decoder import Decoder, mapper
from ossia.personalizers.generator import AbstractGenerator, Graph
from ossia.personalizers.levels import Level, Leveled
from ossia.types import Slot

KEEP = 2.0
"""Log-odds of keeping a block before anything is learned."""


class Controller(nn.Module):
    """Profile and budget in, log-odds of keeping each block out.

    Args:
        profile_dim: length of a profile.
        hidden: width of the interest.
        gates: how many blocks.
    """

    def __init__(self, profile_dim: int, hidden: int, gates: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(profile_dim)
        self.extractor = nn.Linear(profile_dim + 1, hidden)
        self.head = nn.Linear(hidden, 2 * gates)
        with torch.no_grad():
            self.head.weight.mul_(0.1)  # at first nobody's structure is very much their own
            self.head.bias.copy_(torch.tensor([0.0, KEEP]).repeat_interleave(gates))

    def forward(self, profiles: Float[Tensor, "users dim"], share: Float[Tensor, "users 1"]) -> Float[Tensor, "users gates"]:
        """Read a profile and a budget.

        Args:
            profiles: user states as the device sends them.
            share: of what all blocks cost together, what the device can afford, 0 … 1.

        Returns:
            ν, the logit of keeping less that of dropping.
        """
        interest = self.extractor(torch.cat([self.norm(profiles), share], dim=1)).relu()
        drop, keep = self.head(interest).chunk(2, dim=1)
        log_odds: Tensor = keep - drop
        return log_odds


class Parameters(nn.Module):
    """Profile and structure in, the numbers of all layers' deltas out: policy projection, mapper, a generator per layer.

    Args:
        layout: which slots have a delta.
        gates: how many blocks can be skipped.
        profile_dim: length of a profile.
        hidden: inner width of the mapper.
        latent: length of z.
        structure: length of s.
    """

    def __init__(self, layout: DeltaLayout, gates: int, profile_dim: int, *, hidden: int, latent: int, structure: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(profile_dim)
        self.policy = nn.Linear(gates, structure)
        self.mapper = mapper(profile_dim + structure, hidden, latent)
        self.generators = nn.ModuleList(Decoder(latent, layer) for layer in layers_of(layout))

    def forward(
        self, profiles: Float[Tensor, "users dim"], kept: Float[Tensor, "users gates"]
    ) -> Float[Tensor, "users numbers"]:
        """Generate.

        Args:
            profiles: user states as the device sends them.
            kept: 1 where a block runs and 0 where not.

        Returns:
            what the layout reads.
        """
        z = self.mapper(torch.cat([self.norm(profiles), self.policy(kept)], dim=1))
        return torch.cat([generator(z) for generator in self.generators], dim=1)


class ForwardOfa(AbstractGenerator):
    """Structure and weights for a frozen base.

    Args:
        layout: which slots have a delta.
        gates: names of the base's gates.
        profile_dim: length of a profile.
        costs: what each block costs, in any unit.
        hidden: inner width of controller and mapper.
        latent: length of z.
        structure: length of s.
    """

    settings: ClassVar[tuple[str, ...]] = ("hidden", "latent", "structure")
    structured: ClassVar[bool] = True

    def __init__(
        self,
        layout: DeltaLayout,
        gates: Sequence[str],
        profile_dim: int,
        *,
        costs: Sequence[float],
        hidden: int = 128,
        latent: int = 32,
        structure: int = 16,
    ) -> None:
        super().__init__(layout, gates, costs)
        self.controller: nn.Module = Controller(profile_dim, hidden, len(gates))
        self.parameters_of = Parameters(layout, len(gates), profile_dim, hidden=hidden, latent=latent, structure=structure)

    def hold_to(self, levels: Sequence[Level]) -> None:
        """Ask the controller only for what validation has judged, from now on (`levels.py`).

        Args:
            levels: the first of share 0, the others rising.
        """
        self.controller = Leveled(self.controller, levels, len(self.gates))

    @classmethod
    def own_slots(cls, slots: Sequence[Slot]) -> tuple[str, ...]:
        """Choose what ends each layer.

        Args:
            slots: all of a base's, in wire order.

        Returns:
            the name of the last slot of each gate, and of every slot without one.
        """
        layers = [(gate, list(group)) for gate, group in groupby(slots, key=lambda slot: slot.gate)]
        return tuple(slot.name for gate, group in layers for slot in (group if gate is None else group[-1:]))

    def log_odds(self, profiles: Float[Tensor, "users dim"], share: Float[Tensor, " users"]) -> Float[Tensor, "users gates"]:
        """Say how likely each block is to be kept.

        Args:
            profiles: user states as the device sends them.
            share: of what all blocks cost together, what each device can afford.

        Returns:
            ν.
        """
        log_odds: Tensor = self.controller(profiles, share[:, None])
        return log_odds

    def choose(self, profiles: Float[Tensor, "users dim"], share: Float[Tensor, " users"]) -> Float[Tensor, "users gates"]:
        """Choose the blocks that run, hard.

        Args:
            profiles: user states as the device sends them.
            share: of what all blocks cost together, what each device can afford.

        Returns:
            1 where a block runs and 0 where not.
        """
        return project(self.log_odds(profiles, share), self.costs, share)

    def relax(
        self,
        profiles: Float[Tensor, "users dim"],
        share: Float[Tensor, " users"],
        temperature: float,
        generator: torch.Generator,
    ) -> Float[Tensor, "users gates"]:
        """Draw the blocks that run, straight-through: 0 or 1 forward, with the gradient of the Gumbel-softmax.

        Args:
            profiles: user states as the device sends them.
            share: of what all blocks cost together, what each device can afford.
            temperature: τ.
            generator: of the noise.

        Returns:
            1 where a block runs and 0 where not, with gradients.
        """
        noise = torch.rand(len(profiles), len(self.gates), generator=generator, device=profiles.device).clamp(1e-6, 1 - 1e-6)
        drawn = self.log_odds(profiles, share) + noise.logit()
        soft = soften(drawn, temperature)
        return project(drawn.detach(), self.costs, share) + (soft - soft.detach())

    def numbers(
        self, profiles: Float[Tensor, "users dim"], kept: Float[Tensor, "users gates"]
    ) -> Float[Tensor, "users numbers"]:
        """Generate weights for a structure.

        Args:
            profiles: user states as the device sends them.
            kept: 1 where a block runs and 0 where not.

        Returns:
            what the layout reads.
        """
        numbers: Tensor = self.parameters_of(profiles, kept)
        return numbers

    def graphs(self, profile_dim: int) -> Mapping[str, Graph]:
        """Say what the service runs: the controller, and after the budget the parameters.

        Args:
            profile_dim: length of a profile.

        Returns:
            two graphs.
        """
        return {
            CONTROLLER: Graph(self.controller, {"profiles": profile_dim, "share": 1}, "log_odds"),
            MODEL: Graph(self.parameters_of, {"profiles": profile_dim, "kept": len(self.gates)}, "numbers"),
        }


def layers_of(layout: DeltaLayout) -> list[DeltaLayout]:
    """Take a layout apart into layers: what a gate can skip; a slot without a gate is a layer of its own.

    Args:
        layout: all slots.

    Returns:
        a layout per layer, in wire order.
    """
    keys = [slot.gate or slot.name for slot in layout.slots]
    groups = groupby(zip(keys, layout.slots, strict=True), key=lambda pair: pair[0])
    return [replace(layout, slots=tuple(slot for _, slot in group)) for _, group in groups]


def soften(log_odds: Float[Tensor, "users gates"], temperature: float) -> Float[Tensor, "users gates"]:
    """Relax a structure: σ(ν / τ), which is 1 where ν > 0 and 0 elsewhere as τ → 0.

    Args:
        log_odds: ν, with noise or without.
        temperature: τ.

    Returns:
        between 0 and 1.
    """
    return torch.sigmoid(log_odds / temperature)


@torch.no_grad()
def project(
    log_odds: Float[Tensor, "users gates"], costs: Float[Tensor, " gates"], share: Float[Tensor, " users"]
) -> Float[Tensor, "users gates"]:
    """Keep the likeliest blocks that a budget allows: those with ν > 0 in the order of ν / cost, each if it still fits.

    Args:
        log_odds: ν.
        costs: of each block; shares of 1.
        share: what each user may spend.

    Returns:
        1 where a block runs and 0 where not.

    Example:
        >>> project(torch.tensor([[1.0, 3.0, -1.0]]), torch.tensor([0.25, 0.5, 0.25]), torch.tensor([0.5]))
        tensor([[0., 1., 0.]])
    """
    kept, left = torch.zeros_like(log_odds), share.clone()
    order = (-log_odds / costs).argsort(dim=1, stable=True)
    for gate in order.T:  # gate: of each user the next in order
        wanted = log_odds.gather(1, gate[:, None])[:, 0] > 0
        takes = (wanted & (costs[gate] <= left + 1e-6)).to(kept)
        kept.scatter_(1, gate[:, None], takes[:, None])
        left -= takes * costs[gate]
    return kept
