"""The course that every personalizer's training takes: epochs, comparisons, checkpoints, the best one installed.

    for each epoch:    learn     compare (own, another user's, constant)     save     tell
    at the end:        the epoch whose own answers made the next item likeliest is installed beside its base

What an epoch learns, what is compared and what is installed is a `Course`: `personalizer.py` has that of codes, `generator.py`
that of generated weights. An interrupted training goes on from its last epoch, to the same last bit.
"""

import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ossia.adaptation import Base
from ossia.data import Dataset
from ossia.errors import UsageError
from ossia.training.checkpoint import optimizer_tensors, restore_optimizer, snapshot
from ossia.training.events import Events
from ossia.training.fit import Loss, Step, fit
from ossia.training.frozen import FrozenBase
from ossia.training.generator_recipe import GeneratorRecipe
from ossia.training.personalizer_checkpoint import PersonalizerEpoch, State, load_state, save_state, training_folder
from ossia.training.personalizer_recipe import PersonalizerRecipe


class Choices(NamedTuple):
    """Three answers compared on the same cases at the same budget: log-likelihoods, and NDCG@10 of the first."""

    own: float
    another: float
    constant: float
    ndcg: float


@dataclass(frozen=True, eq=False)
class Course(ABC):
    """What a personalizer's training does in an epoch.

    Attributes:
        network: what learns, on the device that computes.
        frozen: the base.
        learned: what to learn from.
        select: what epochs are chosen on.
        recipe: the resolved settings.
        data: the log.
        path: the base's folder.
    """

    network: nn.Module
    frozen: FrozenBase
    learned: Events
    select: Events
    recipe: PersonalizerRecipe | GeneratorRecipe
    data: Dataset
    path: Path

    @abstractmethod
    def learn(self, optimizer: torch.optim.Optimizer, epoch: int) -> Iterable[Step]:
        """Learn for one epoch.

        Args:
            optimizer: of the network's parameters.
            epoch: its number, from 0.

        Returns:
            the steps, each taken when it is asked for.
        """

    def fit(self, loss: Loss, optimizer: torch.optim.Optimizer, epoch: int) -> Iterator[Step]:
        """Take an optimizer step per batch of what is learned from, in an order of the epoch's own.

        Args:
            loss: of the network on a batch.
            optimizer: of the network's parameters.
            epoch: its number, from 0.

        Returns:
            the steps, each taken when it is asked for.
        """
        recipe = self.recipe
        batches = self.learned.batches(recipe.batch, np.random.default_rng((recipe.seed, 2, epoch)))
        return fit(self.network, loss, batches, optimizer, seed=(recipe.seed, 3, epoch))

    @abstractmethod
    def compare(self) -> Choices:
        """Judge the network as it is on validation.

        Returns:
            every user's own answer, another user's, and the same for all.
        """

    @abstractmethod
    def install(self, epochs: tuple[PersonalizerEpoch, ...]) -> Path:
        """Install the network, which has the best epoch's weights by now, beside its base.

        Args:
            epochs: what happened, oldest first.

        Returns:
            the personalizer's folder.
        """


def follow(
    prepare: Callable[[], Course],
    recipe: PersonalizerRecipe | GeneratorRecipe,
    path: Path,
    data_hash: str,
    base: Base,
) -> Iterator[PersonalizerEpoch]:
    """Run the epochs that are missing, then install.

    Args:
        prepare: gives the course, when the first epoch is asked for.
        recipe: the resolved settings.
        path: the base's folder.
        data_hash: identity of the data.
        base: the frozen base.

    Yields:
        each epoch, when it is saved.

    Raises:
        UsageError: a loss that is not finite, or an interrupted training of other settings; names it.
    """
    course = prepare()
    network, folder = course.network, training_folder(path, str(recipe.name))
    optimizer = torch.optim.Adam([each for each in network.parameters() if each.requires_grad], lr=recipe.lr)
    best, epochs = _take_up(folder, network, optimizer, recipe, data_hash, base)
    while not finished(epochs, recipe):
        started = time.perf_counter()
        loss = _mean_loss(course.learn(optimizer, len(epochs)), len(epochs), recipe.lr)
        network.eval()
        choices = course.compare()
        is_best = choices.own > max((epoch.own for epoch in epochs), default=-float("inf"))
        best = snapshot(network) if is_best else best
        seconds = round(time.perf_counter() - started, 3)
        epochs = (*epochs, PersonalizerEpoch(len(epochs), loss, *choices, is_best, seconds))
        save_state(folder, State(network.state_dict(), best, optimizer_tensors(optimizer), epochs), recipe, data_hash, base)
        yield epochs[-1]
    network.load_state_dict(best)
    course.install(epochs)
    shutil.rmtree(folder, ignore_errors=True)


def finished(epochs: tuple[PersonalizerEpoch, ...], recipe: PersonalizerRecipe | GeneratorRecipe) -> bool:
    """Tell whether a training is over: all epochs are run, or validation has not improved for `patience` epochs.

    Args:
        epochs: what happened so far, oldest first; the pass over sensitivities, if there is one, is the first of them.
        recipe: the settings.

    Returns:
        whether to stop.
    """
    since_best = next((age for age, epoch in enumerate(reversed(epochs)) if epoch.best), 0)
    return len(epochs) >= recipe.most_epochs or since_best >= recipe.patience


def _mean_loss(steps: Iterable[Step], index: int, lr: float) -> float:
    """Take all steps of an epoch."""
    losses = [step.loss for step in steps]
    if not np.isfinite(losses).all():
        raise UsageError(f"epoch {index}: expected a finite loss; a smaller lr than {lr} may help")
    return float(np.mean(losses))


def _take_up(
    folder: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    recipe: PersonalizerRecipe | GeneratorRecipe,
    data_hash: str,
    base: Base,
) -> tuple[dict[str, Tensor], tuple[PersonalizerEpoch, ...]]:
    """Go back to the last checkpoint, if there is one: best weights so far, and the epochs behind us."""
    state = load_state(folder, recipe, data_hash, base)
    if state is None:
        return {}, ()
    network.load_state_dict(state.model)
    restore_optimizer(optimizer, state.optimizer)
    return dict(state.best), state.epochs
