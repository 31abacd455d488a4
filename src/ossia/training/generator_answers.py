"""Running the base with what a generator answers: what an answer costs in training, how it is judged, where it is asked for.

    loss = −log p(next item | history, z · (W + Δ)) + μ |state − the base's own|² + λ · share of the blocks' cost that runs
    Δ(profile, z);   z(profile, budget) straight-through at τ, budget ~ U(0, 1) for two users in three, else no limit

The second term is the anchor. Without it the next item becomes likelier by a quarter of a nat and is in the top ten less often:
what is learned is to blur. Where blocks are skipped the anchor teaches the others to make up for them.

The base does not move; gradients reach the generator through its delta and its gates (`ossia.personalizers.generator`).
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ossia.personalizers import AbstractGenerator
from ossia.personalizers.forward_ofa import ForwardOfa
from ossia.personalizers.generator import delta_joint, gate_joint
from ossia.personalizers.levels import Level
from ossia.training.events import EventBatch, Events
from ossia.training.frozen import FrozenBase, Judged
from ossia.training.generator_recipe import GeneratorRecipe
from ossia.training.losses import full_softmax
from ossia.training.structures import Structure, find_levels

GeneratorLoss: TypeAlias = Callable[[AbstractGenerator, EventBatch, torch.Generator], Tensor]
States: TypeAlias = Callable[[FrozenBase, AbstractGenerator, EventBatch, Tensor, Tensor], Tensor]
"""User states, [events, dim], of (base, generator, events, profiles that are asked about, which blocks run)."""


def answered_states(
    frozen: FrozenBase,
    generator: AbstractGenerator,
    batch: EventBatch,
    profiles: Float[Tensor, "events dim"],
    kept: Float[Tensor, "events gates"],
) -> Float[Tensor, "events dim"]:
    """Run the base with a generator's answers to some profiles: every user with weights and blocks of their own.

    Args:
        frozen: the base.
        generator: who answers.
        batch: the events.
        profiles: that are asked about.
        kept: which blocks run.

    Returns:
        present user states, to score with.
    """
    numbers = generator.numbers(profiles, kept)
    slot, gate = delta_joint(generator.layout, numbers, frozen.basis), gate_joint(generator.gates, kept)
    states: Tensor = frozen.backbone(batch.histories, slot=slot, gate=gate)
    return states[:, -1]


def weights_loss(frozen: FrozenBase, recipe: GeneratorRecipe, epoch: int, states_of: States = answered_states) -> GeneratorLoss:
    """Make the loss: the next item's negative log-likelihood with generated weights, and what running blocks costs.

    Args:
        frozen: the base.
        recipe: λ and the temperatures.
        epoch: which decides the temperature.
        states_of: runs the base with what the generator answers.

    Returns:
        a loss for `fit`.
    """
    temperature = recipe.temperature(epoch)

    def loss(network: AbstractGenerator, batch: EventBatch, generator: torch.Generator) -> Tensor:
        share = (1.5 * torch.rand(len(batch.targets), generator=generator, device=generator.device)).clamp_max(1)
        kept = network.relax(batch.profiles, share, temperature, generator)
        states = states_of(frozen, network, batch, batch.profiles, kept)
        return objective(frozen, recipe, batch, states, kept @ network.costs)

    return loss


def objective(
    frozen: FrozenBase,
    recipe: GeneratorRecipe,
    batch: EventBatch,
    states: Float[Tensor, "events dim"],
    spent: Float[Tensor, " events"],
) -> Float[Tensor, ""]:
    """Add up what a batch's states cost: likelihood, anchor, sparsity.

    Args:
        frozen: the base.
        recipe: μ and λ.
        batch: the events.
        states: user states to score with.
        spent: share of the blocks' cost that each event's structure runs.

    Returns:
        the mean loss in nats.
    """
    with torch.no_grad():
        own = frozen.states(batch.histories)
    missed = full_softmax(states / frozen.temperature, batch.targets, frozen.vectors)
    return missed + recipe.anchor * (states - own).square().sum(dim=1).mean() + recipe.sparsity * spent.mean()


@torch.no_grad()
def judge_asked(
    frozen: FrozenBase,
    generator: AbstractGenerator,
    events: Events,
    asked: Float[Tensor, "events dim"],
    *,
    share: float = 1.0,
) -> Judged:
    """Judge every event with the answer to some profile.

    Args:
        frozen: the base.
        generator: who answers, on the base's device.
        events: what came next for whom.
        asked: the profile that is sent for each event: the user's own, or for a control another.
        share: of what all blocks cost together, what the devices can afford.

    Returns:
        log-likelihood and rank of each target.
    """

    def states(batch: EventBatch) -> Tensor:
        profiles = asked[batch.rows.cpu()].to(batch.profiles)
        kept = generator.choose(profiles, torch.full_like(profiles[:, 0], share))
        return answered_states(frozen, generator, batch, profiles, kept)

    return frozen.judge_states(events, states)


@torch.no_grad()
def levels_of(frozen: FrozenBase, recipe: GeneratorRecipe, network: ForwardOfa, select: Events) -> tuple[Level, ...]:
    """Find the budgets that a controller is asked for, and where one structure for everybody is better.

    What is better has the smaller objective on validation, without sparsity: by likelihood alone a structure far from the base
    may win that ranks worse, for the same reason that training needs its anchor.

    Args:
        frozen: the base.
        recipe: of its training.
        network: trained.
        select: what epochs were chosen on.

    Returns:
        the levels.
    """

    def minus_objective(share: float, common: Structure | None = None) -> float:
        if common is None:
            kept = network.choose(select.profiles.to(network.costs), torch.full((len(select),), share).to(network.costs))
        else:
            kept = network.costs.new_tensor(common).expand(len(select), -1)
        return -mean_objective(frozen, recipe, network, select, kept)

    return find_levels(network.costs.tolist(), lambda common: minus_objective(1.0, common), minus_objective)


@torch.no_grad()
def mean_objective(
    frozen: FrozenBase,
    recipe: GeneratorRecipe,
    network: AbstractGenerator,
    events: Events,
    kept: Float[Tensor, "events gates"],
) -> float:
    """Say what own answers cost on average, without sparsity.

    Args:
        frozen: the base.
        recipe: μ, and how many history events go into a batch.
        network: who answers.
        events: whose profiles are asked about, and what came next.
        kept: which blocks run for each event.

    Returns:
        nats.
    """
    total = 0.0
    for batch in events.batches(recipe.batch, np.random.default_rng(recipe.seed)):  # in any order: they are added up
        here = batch.to(frozen.vectors.device)
        states = answered_states(frozen, network, here, here.profiles, kept[batch.rows].to(here.profiles))
        total += float(objective(frozen, recipe, here, states, torch.zeros_like(states[:, 0]))) * len(states)
    return total / len(events)
