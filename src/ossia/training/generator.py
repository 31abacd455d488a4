"""Training a personalizer that generates weights: profile in, delta and structure out, the base frozen.

What an answer costs, and how the base runs with it, is in `generator_answers.py`. The base does not move. After each epoch
three answers are compared on cases that nothing learned from: the user's own, another user's, and the average profile's for
everybody. The course is that of every personalizer (`course.py`); in the end Forward-OFA is held to levels of the budget.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from msgspec import UNSET
from torch import Tensor

from ossia.adaptation import Base
from ossia.adaptation.delta_layout import DeltaLayout
from ossia.adaptation.personalizer_manifest import Generated
from ossia.data import Cases, Dataset
from ossia.errors import UsageError
from ossia.evaluation import ndcg_at_k
from ossia.evaluation.controls import another_user
from ossia.personalizers import GENERATORS, AbstractGenerator
from ossia.personalizers.forward_ofa import ForwardOfa
from ossia.personalizers.ridge_head import RidgeHead
from ossia.training.course import Choices, Course
from ossia.training.export import export_onnx
from ossia.training.fit import Step, seeded
from ossia.training.frozen import Judged
from ossia.training.generator_answers import judge_asked, levels_of, weights_loss
from ossia.training.generator_recipe import GeneratorRecipe
from ossia.training.personalizer_checkpoint import PersonalizerEpoch
from ossia.training.personalizer_events import prepare_events
from ossia.training.release import release
from ossia.training.ridge_head import solve_head


@dataclass(frozen=True, eq=False)
class GeneratorCourse(Course):
    """Learning weights.

    Attributes:
        network: the generator.
        recipe: the resolved settings.
    """

    network: AbstractGenerator
    recipe: GeneratorRecipe

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
        return cls(generator, frozen, learned, chosen_on, recipe, data, path)

    def learn(self, optimizer: torch.optim.Optimizer, epoch: int) -> Iterable[Step]:
        """Learn for one epoch.

        Args:
            optimizer: of the network's parameters.
            epoch: its number, from 0.

        Returns:
            the steps, each taken when it is asked for.
        """
        if isinstance(self.network, RidgeHead):
            return solve_head(self.frozen, self.recipe, self.network, self.learned, self.select)
        return self.fit(weights_loss(self.frozen, self.recipe, epoch), optimizer, epoch)

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
        generator, layout = self.network.cpu().eval(), self.network.layout
        graphs = generator.graphs(self.frozen.base.manifest.shape["dim"])
        return release(
            self,
            epochs,
            {name: export_onnx(graph.network, graph.inputs, graph.output) for name, graph in graphs.items()},
            {"profile": self.learned.profiles.mean(dim=0).numpy()},
            generated=Generated(
                tuple(slot.name for slot in layout.slots), layout.rank, generator.structured, layout.coordinates
            ),
        )


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
