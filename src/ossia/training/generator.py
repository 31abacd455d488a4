"""Training a personalizer that generates weights: profile in, delta and structure out, the base frozen.

    loss = −log p(next item | history, z · (W + Δ)) + μ |state − the base's own|² + λ · share of the blocks' cost that runs
    Δ(profile, z);   z(profile, budget) straight-through at τ, budget ~ U(0, 1) for two users in three, else no limit

The second term is the anchor. Without it the next item becomes likelier by a quarter of a nat and is in the top ten less often:
what is learned is to blur. Where blocks are skipped the anchor teaches the others to make up for them.

The base does not move; gradients reach the generator through its delta and its gates (`ossia.personalizers.generator`). After
each epoch three answers are compared on cases that nothing learned from: the user's own, another user's, and the average
profile's for everybody. The course is that of every personalizer (`course.py`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import msgspec
import numpy as np
import torch
from jaxtyping import Float
from msgspec import UNSET
from torch import Tensor

from ossia.adaptation import Base
from ossia.adaptation.delta_layout import DeltaLayout
from ossia.adaptation.manifests import tensor_bytes, write_files, write_manifest
from ossia.adaptation.personalizer_manifest import CONSTANT, HISTORY, Generated, PersonalizerManifest, personalizer_folder
from ossia.data import Cases, Dataset
from ossia.errors import UsageError
from ossia.evaluation import ndcg_at_k
from ossia.evaluation.controls import another_user
from ossia.files import folder_whole
from ossia.personalizers import GENERATORS, AbstractGenerator
from ossia.personalizers.forward_ofa import ForwardOfa
from ossia.personalizers.generator import delta_joint, gate_joint
from ossia.personalizers.levels import Level
from ossia.training.course import Choices, Course
from ossia.training.export import export_onnx
from ossia.training.fit import Step, fit, seeded
from ossia.training.frozen import EventBatch, Events, FrozenBase, Judged
from ossia.training.generator_recipe import GeneratorRecipe
from ossia.training.losses import full_softmax
from ossia.training.personalizer_checkpoint import PersonalizerEpoch
from ossia.training.personalizer_events import prepare_events
from ossia.training.release import figures, versions
from ossia.training.structures import Structure, find_levels

GeneratorLoss: TypeAlias = Callable[[AbstractGenerator, EventBatch, torch.Generator], Tensor]
States: TypeAlias = Callable[[FrozenBase, AbstractGenerator, EventBatch, Tensor, Tensor], Tensor]
"""User states, [events, dim], of (base, generator, events, profiles that are asked about, which blocks run)."""


@dataclass(frozen=True, eq=False)
class GeneratorCourse(Course):
    """Learning weights.

    Attributes:
        network: the generator.
        frozen: the base.
        learned: what to learn from.
        select: what epochs are chosen on.
        recipe: the resolved settings.
        data_hash: identity of the log.
        path: the base's folder.
    """

    network: AbstractGenerator
    frozen: FrozenBase
    learned: Events
    select: Events
    recipe: GeneratorRecipe
    data_hash: str
    path: Path

    @classmethod
    def prepare(
        cls, data: Dataset, base: Base, recipe: GeneratorRecipe, path: Path, learn: Cases, select: Cases
    ) -> "GeneratorCourse":
        """Put the base into torch, calibrate it, compute profiles, make the generator.

        Args:
            data: the log.
            base: the frozen base.
            recipe: the resolved settings.
            path: the base's folder.
            learn: what to learn from.
            select: what to choose epochs on.

        Returns:
            the course.
        """
        frozen, learned, chosen_on = prepare_events(base, recipe, (8,), learn, select)
        generator = make_generator(base, recipe).to(frozen.vectors.device)
        return cls(generator, frozen, learned, chosen_on, recipe, data.hash, path)

    def learn(self, optimizer: torch.optim.Optimizer, epoch: int) -> Iterable[Step]:
        """Learn for one epoch.

        Args:
            optimizer: of the network's parameters.
            epoch: its number, from 0.

        Returns:
            the steps, each taken when it is asked for.
        """
        recipe = self.recipe
        every = self.learned.batches(recipe.batch, np.random.default_rng((recipe.seed, 2, epoch)))
        batches = (batch.to(torch.device(recipe.device)) for batch in every)
        return fit(self.network, weights_loss(self.frozen, recipe, epoch), batches, optimizer, seed=(recipe.seed, 3, epoch))

    def compare(self) -> Choices:
        """Judge own, another user's and the average profile's answers.

        Returns:
            own, another user's, and the same for all.
        """
        own = self.select.profiles
        swapped = own[another_user(len(own), seed=self.recipe.seed)]
        average = self.learned.profiles.mean(dim=0).expand_as(own)
        shares = self.recipe.validation_shares if self.network.structured else (1.0,)

        def judge(asked: Tensor) -> list[Judged]:
            return [judge_asked(self.frozen, self.network, self.select, asked, share=share) for share in shares]

        mine = judge(own)
        own_likelihood, another, constant = (
            float(np.mean([each.mean_likelihood for each in found])) for found in (mine, judge(swapped), judge(average))
        )
        return Choices(own_likelihood, another, constant, float(np.mean([ndcg_at_k(each.ranks, 10) for each in mine])))

    def install(self, epochs: tuple[PersonalizerEpoch, ...]) -> Path:
        """Install graphs, manifest and the average profile.

        Args:
            epochs: what happened, oldest first.

        Returns:
            the personalizer's folder.
        """
        if isinstance(self.network, ForwardOfa):
            self.network.hold_to(levels_of(self.frozen, self.recipe, self.network, self.select))
        base, recipe, generator = self.frozen.base, self.recipe, self.network.cpu().eval()
        dim = base.manifest.shape["dim"]
        graphs = {name: export_onnx(graph.network, graph.inputs, graph.output) for name, graph in generator.graphs(dim).items()}
        constant = tensor_bytes({"profile": self.learned.profiles.mean(dim=0).numpy()})
        history = b"".join(msgspec.json.encode(epoch) + b"\n" for epoch in epochs)
        layout = generator.layout
        folder = personalizer_folder(self.path, str(recipe.name))
        with folder_whole(folder, replace=True) as fresh:
            manifest = PersonalizerManifest(
                method=recipe.personalizer,
                base=base.id.hex(),
                profile_dim=dim,
                channels=base.channels,
                alphabet=(),
                beta=0.0,
                temperature=self.frozen.temperature,
                recipe=msgspec.to_builtins(recipe),
                data=self.data_hash,
                versions=versions(),
                validation=figures(self.frozen, self.select, max(epochs, key=lambda epoch: epoch.own)),
                files=write_files(fresh, {**graphs, CONSTANT: constant, HISTORY: history}),
                generated=Generated(
                    tuple(slot.name for slot in layout.slots), layout.rank, generator.structured, layout.coordinates
                ),
            )
            write_manifest(fresh / "manifest.json", manifest)
        return folder


def make_generator(base: Base, recipe: GeneratorRecipe, prices: Mapping[str, float] | None = None) -> AbstractGenerator:
    """Make a recipe's generator with its first weights, on the CPU.

    Args:
        base: the base that it is for.
        recipe: its shape and seed.
        prices: what each block costs, by gate; None: as many as it has weights.

    Returns:
        the module; equal recipes give equal weights.

    Raises:
        UsageError: the base has no such slot, or no basis where coordinates are asked for.
    """
    kind, slots = GENERATORS[recipe.personalizer], base.manifest.slots
    names = kind.own_slots(slots) if recipe.slots is None else recipe.slots
    layout = DeltaLayout.of(slots, names, _rank(base, recipe), coordinates=recipe.coordinates)
    settings = {name: getattr(recipe, name) for name in kind.settings}
    weights = {
        gate: float(sum(slot.channels * slot.inputs for slot in slots if slot.gate == gate)) for gate in base.manifest.gates
    }
    costs = [(weights if prices is None else prices)[gate] for gate in base.manifest.gates]
    with seeded((recipe.seed, 1), torch.device("cpu")):
        return kind(layout, base.manifest.gates, base.manifest.shape["dim"], costs=costs, **settings)


def _rank(base: Base, recipe: GeneratorRecipe) -> int:
    """Say the rank of every delta: of coordinates the base decides."""
    if not recipe.coordinates:
        return recipe.rank
    if base.manifest.basis is UNSET:
        raise UsageError("coordinates: expected a base that was published with --basis, got one without")
    return int(base.manifest.basis)


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
        total = 0.0
        batches = select.batches(recipe.batch, np.random.default_rng(recipe.seed))  # in any order: their objective is added up
        for batch in (each.to(frozen.vectors.device) for each in batches):
            if common is None:
                kept = network.choose(batch.profiles, torch.full_like(batch.profiles[:, 0], share))
            else:
                kept = batch.profiles.new_tensor(common).expand(len(batch.profiles), -1)
            states = answered_states(frozen, network, batch, batch.profiles, kept)
            total += float(objective(frozen, recipe, batch, states, torch.zeros_like(batch.profiles[:, 0]))) * len(kept)
        return -total / len(select)

    return find_levels(network.costs.tolist(), lambda common: minus_objective(1.0, common), minus_objective)
