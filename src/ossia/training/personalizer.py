"""Training a personalizer on a frozen base: profile in, importance of channels out.

    loss = −log p(next item | history, widths m),   m = relax(profile; average bits ~ U(fewest, most); τ)     straight-through

The base does not move; gradients reach the personalizer through the masks alone (`ossia.personalizers.relaxed`). A pass over
first-order sensitivities comes first (`sensitivities.py`); with `learn=sensitivities` it is all there is. After each epoch
widths are fixed at an average of `validation_bits`, and three choices are compared on cases that nothing learned from: the
user's own, another user's, and the average user's for everybody. The epoch whose own choice makes the next item likeliest is
kept: log-likelihood sees small effects that NDCG@10 can't.

What to learn from matters more than how. The base has fitted its own training events, and what would have helped it there
does not help on new ones: learned from those, nothing personal stays on validation. So by default the events are *unseen*: the
validation case of four users in five, and the fifth user's for choosing epochs. Test events are never read.

An interrupted training goes on from the last epoch, to the same last bit; what it needs lies in
`BASE/.NAME.training/`, until the finished personalizer takes its place (`release.py`).

Differences from the paper: our base is trained, theirs random; the loss is the next item's likelihood in the whole catalog.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from ossia.adaptation import Base
from ossia.adaptation.allocate_codes import GAIN
from ossia.adaptation.personalizer_manifest import MODEL, personalizer_folder
from ossia.data import Cases, Dataset
from ossia.errors import UsageError
from ossia.personalizers import PERSONALIZERS, AbstractPersonalizer
from ossia.training.code_choices import compare_choices, constant_importance, own_steps
from ossia.training.course import Choices, Course, finished, follow
from ossia.training.events import EventBatch
from ossia.training.export import export_onnx
from ossia.training.fit import Step, seeded
from ossia.training.frozen import FrozenBase
from ossia.training.generator import GeneratorCourse
from ossia.training.generator_recipe import GeneratorRecipe
from ossia.training.losses import full_softmax
from ossia.training.personalizer_checkpoint import PersonalizerEpoch, check_installed, training_folder
from ossia.training.personalizer_events import choose_events, prepare_events
from ossia.training.personalizer_recipe import PersonalizerRecipe
from ossia.training.release import release
from ossia.training.row_prior import choose_beta
from ossia.training.sensitivities import learn_sensitivities
from ossia.types import WIDTHS

__all__ = [
    "GeneratorRecipe",
    "PersonalizerEpoch",
    "PersonalizerRecipe",
    "choose_events",
    "codes_loss",
    "finished",
    "make_personalizer",
    "train_personalizer",
]

CodesLoss: TypeAlias = Callable[[AbstractPersonalizer, EventBatch, torch.Generator], Tensor]


def train_personalizer(
    data: Dataset,
    base: Base,
    recipe: PersonalizerRecipe | GeneratorRecipe,
    out: Path | str | None = None,
    *,
    resume: bool = True,
) -> Iterator[PersonalizerEpoch]:
    """Train a personalizer and install it beside its base, or go on with a training that was interrupted.

    Args:
        data: the log that the base was trained on.
        base: the published base; never changed.
        recipe: the settings.
        out: the base's folder, in which `personalizers/NAME` appears; None: where the base was loaded from.
        resume: whether an interrupted training may be taken up; without it, everything begins anew, and a finished
            personalizer of that name is replaced.

    Returns:
        the epochs that are still to be run, each yielded when it has been trained, judged and saved; the last of them is
        yielded before the personalizer is installed, so iterate to the end. Nothing, if it is installed already.

    Raises:
        UsageError: a setting is out of range, the data are not the base's, the base was refit on the events that the
            personalizer would learn from, or one of that name was trained with other settings; names the field.
        DataError: too few users with a validation case.
        ArtifactError: a file of the interrupted training is damaged.

    Example:
        `for epoch in train_personalizer(data, base, PersonalizerRecipe(seed=1)): print(epoch)`
    """
    path, resolved = Path(out) if out is not None else base.path, recipe.resolve()
    if tuple(data.item_ids) != base.table.ids:
        raise UsageError(f"data: expected the {len(base.table):,} items of {base.path}, got {data.items:,} others")
    if (seen := int(base.table.counts.sum())) != (events := len(data.split().train.items)):
        raise UsageError(f"{base.path}: expected a base of the {events:,} training events, got one of {seen:,}; was it refit?")
    if resume and check_installed(personalizer_folder(path, str(resolved.name)), base, resolved, data.hash):
        return iter(())
    if not resume:
        shutil.rmtree(training_folder(path, str(resolved.name)), ignore_errors=True)
    learn, select = choose_events(data, resolved)

    def prepare() -> Course:
        if isinstance(resolved, GeneratorRecipe):
            return GeneratorCourse.prepare(data, base, resolved, path, learn, select)
        return CodesCourse.prepare(data, base, resolved, path, learn, select)

    return follow(prepare, resolved, path, data.hash, base)


def make_personalizer(base: Base, recipe: PersonalizerRecipe, weights: dict[str, Tensor]) -> AbstractPersonalizer:
    """Make a recipe's personalizer with its first weights, on the CPU.

    Args:
        base: the base that it is for.
        recipe: its shape and seed.
        weights: the base's slots at 8 bits.

    Returns:
        the module; equal recipes give equal weights.
    """
    with seeded((recipe.seed, 1), torch.device("cpu")):
        kind = PERSONALIZERS[recipe.personalizer]
        gains = {bits: GAIN[WIDTHS.index(bits)] for bits in recipe.alphabet}
        settings = {name: getattr(recipe, name) for name in kind.settings}
        return kind(base.manifest.slots, weights, base.manifest.shape["dim"], gains=gains, **settings)


@dataclass(frozen=True, eq=False)
class CodesCourse(Course):
    """Learning widths: sensitivities first, then straight-through; compared at one average width.

    Attributes:
        network: the personalizer.
        recipe: the resolved settings.
    """

    network: AbstractPersonalizer
    recipe: PersonalizerRecipe

    @classmethod
    def prepare(
        cls, data: Dataset, base: Base, recipe: PersonalizerRecipe, path: Path, learn: Cases, select: Cases
    ) -> "CodesCourse":
        """Put the base into torch, calibrate it, compute profiles, make the personalizer.

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
        frozen, learned, chosen_on = prepare_events(base, recipe, recipe.alphabet, learn, select)
        personalizer = make_personalizer(base, recipe, {name: every[-1].cpu() for name, every in frozen.weights.items()})
        return cls(personalizer.to(frozen.vectors.device), frozen, learned, chosen_on, recipe, data, path)

    def learn(self, optimizer: torch.optim.Optimizer, epoch: int) -> Iterable[Step]:
        """Learn for one epoch, the first of them from sensitivities if the recipe says so.

        Args:
            optimizer: of the network's parameters.
            epoch: its number, from 0.

        Returns:
            the steps, each taken when it is asked for.
        """
        recipe = self.recipe
        if recipe.learn != "codes" and epoch == 0:
            size, steps = recipe.batch, recipe.warm_steps
            return learn_sensitivities(
                self.frozen, self.network, self.learned, self._likelihood, size=size, steps=steps, seed=recipe.seed
            )
        return self.fit(codes_loss(self.frozen, recipe), optimizer, epoch)

    def _likelihood(self, personalizer: AbstractPersonalizer) -> float:
        """Say how likely the next items are of those that nothing was learned from, with their own widths."""
        steps = own_steps(personalizer, self.select.profiles, self.recipe.validation_bits)
        return self.frozen.judge(self.select, steps).mean_likelihood

    def compare(self) -> Choices:
        """Judge own, another user's and the average user's widths.

        Returns:
            own, another user's, and the same for all.
        """
        recipe = self.recipe
        return compare_choices(self.frozen, self.network, self.learned, self.select, recipe.validation_bits, recipe.seed)

    def install(self, epochs: tuple[PersonalizerEpoch, ...]) -> Path:
        """Install graph, manifest and controls.

        Args:
            epochs: what happened, oldest first.

        Returns:
            the personalizer's folder.
        """
        recipe, personalizer = self.recipe, self.network.cpu()
        chosen = choose_beta(self.frozen, self.data.split().validation, seed=recipe.seed)
        return release(
            self,
            epochs,
            {MODEL: export_onnx(personalizer, {"profiles": self.frozen.base.manifest.shape["dim"]}, "importance")},
            constant_importance(self.frozen, personalizer, self.learned, chosen.beta),
            alphabet=recipe.alphabet,
            beta=chosen.beta,
            rows={f"rows_ndcg_beta_{beta:g}": quality for beta, quality in chosen.quality.items()},
        )


def codes_loss(frozen: FrozenBase, recipe: PersonalizerRecipe) -> CodesLoss:
    """Make the straight-through loss: the next item's negative log-likelihood at widths of a random average.

    Args:
        frozen: the base.
        recipe: the range of averages, and τ.

    Returns:
        a loss for `fit`.
    """

    def loss(personalizer: AbstractPersonalizer, batch: EventBatch, generator: torch.Generator) -> Tensor:
        share = torch.rand(len(batch.targets), generator=generator, device=generator.device)
        bits = recipe.fewest_bits + (recipe.most_bits - recipe.fewest_bits) * share
        states = frozen.states(batch.histories, personalizer.relax(batch.profiles, bits, recipe.temperature))
        return full_softmax(states / frozen.temperature, batch.targets, frozen.vectors)

    return loss
