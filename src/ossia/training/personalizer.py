"""Training a personalizer on a frozen base: profile in, importance of channels out.

    loss = −log p(next item | history, widths m),   m = relax(profile; average bits ~ U(fewest, most); τ)     straight-through

The base does not move; gradients reach the personalizer through the masks alone (`ossia.personalizers.relaxed`). A pass over
first-order sensitivities comes first (`sensitivities.py`); with `learn=sensitivities` it is all there is. After each epoch
widths are fixed at an average of `validation_bits`, and three choices are compared on cases that nothing learnt from: the
user's own, another user's, and the average user's for everybody. The epoch whose own choice makes the next item likeliest is
kept: log-likelihood sees small effects that NDCG@10 can't.

What to learn from matters more than how. The base has fitted its own training events, and what would have helped it there
does not help on new ones: learnt from those, nothing personal is left on validation. So by default the events are *unseen*: the
validation case of four users in five, and the fifth user's for choosing epochs. Test events are never read.

An interrupted training goes on from the last epoch, to the same last bit; what it needs lies in
`BASE/.NAME.training/`, until the finished personalizer takes its place (`release.py`).

Differences from the paper: our base is trained, theirs random; the loss is the next item's likelihood in the whole catalog.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ossia.adaptation import Base
from ossia.adaptation.allocate_codes import GAIN
from ossia.adaptation.personalizer_manifest import personalizer_folder
from ossia.data import Cases, Dataset, Histories
from ossia.errors import DataError, UsageError
from ossia.personalizers import PERSONALIZERS, AbstractPersonalizer
from ossia.training.checkpoint import optimizer_tensors, restore_optimizer, snapshot
from ossia.training.fit import fit, seeded
from ossia.training.frozen import EventBatch, Events, FrozenBase, fit_temperature, take_cases
from ossia.training.losses import full_softmax
from ossia.training.personalizer_checkpoint import (
    PersonalizerEpoch,
    State,
    check_installed,
    load_state,
    save_state,
    training_folder,
)
from ossia.training.personalizer_recipe import PersonalizerRecipe
from ossia.training.release import compare_choices, release
from ossia.training.row_prior import choose_beta
from ossia.training.sensitivities import learn_sensitivities
from ossia.types import WIDTHS

__all__ = ["PersonalizerEpoch", "PersonalizerRecipe", "train_personalizer"]

CodesLoss: TypeAlias = Callable[[AbstractPersonalizer, EventBatch, torch.Generator], Tensor]

UNSEEN_SHARE = 0.8
"""Of the users with a validation case, how many are learnt from; the others choose the epoch."""


def train_personalizer(
    data: Dataset, base: Base, recipe: PersonalizerRecipe, out: Path | str | None = None, *, resume: bool = True
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
    return _train(data, base, resolved, path, learn, select)


def choose_events(data: Dataset, recipe: PersonalizerRecipe) -> tuple[Cases, Cases]:
    """Choose what to learn from and what to validate with; no event is in both, none is a test event.

    Args:
        data: the log.
        recipe: which events, and the seed of the choice.

    Returns:
        cases to learn from, and cases to validate with.

    Raises:
        DataError: fewer than two cases for one of them.
    """
    split = data.split()
    shuffled = np.random.default_rng((recipe.seed, 0)).permutation(len(split.validation))
    if recipe.events == "training":
        learn, select = _newest_events(split.train, recipe.cuts), take_cases(split.validation, shuffled)
    else:
        cut = round(UNSEEN_SHARE * len(shuffled))
        learn, select = (take_cases(split.validation, rows) for rows in (shuffled[:cut], shuffled[cut:]))
    if min(len(learn), len(select)) < 2:
        raise DataError(f"data: expected at least 10 users with three events or more, found {len(split.validation)}")
    return learn, take_cases(select, np.arange(min(len(select), recipe.validation_users)))


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
class _Material:
    """What every epoch works with, and never changes."""

    frozen: FrozenBase
    learn: Events
    select: Events

    @classmethod
    def prepare(cls, base: Base, recipe: PersonalizerRecipe, learn: Cases, select: Cases) -> "_Material":
        """Put the base into torch, calibrate it, compute profiles."""
        frozen = FrozenBase.load(base, recipe.alphabet, torch.device(recipe.device))
        chosen_on = frozen.events(select)
        frozen = replace(frozen, temperature=fit_temperature(frozen, chosen_on))
        return cls(frozen, frozen.events(learn), chosen_on)


def _train(
    data: Dataset, base: Base, recipe: PersonalizerRecipe, path: Path, learn: Cases, select: Cases
) -> Iterator[PersonalizerEpoch]:
    """Run the epochs that are missing, then install."""
    material = _Material.prepare(base, recipe, learn, select)
    frozen, folder = material.frozen, training_folder(path, str(recipe.name))
    personalizer = make_personalizer(base, recipe, {name: every[-1].cpu() for name, every in frozen.weights.items()})
    optimizer = torch.optim.Adam(personalizer.to(frozen.vectors.device).parameters(), lr=recipe.lr)
    best, epochs = _take_up(folder, personalizer, optimizer, recipe, data.hash, base)
    while not finished(epochs, recipe):
        started = time.perf_counter()
        loss = _run_epoch(personalizer, optimizer, material, recipe, len(epochs))
        choices = compare_choices(frozen, personalizer, material.learn, material.select, recipe.validation_bits, recipe.seed)
        is_best = choices.own > max((epoch.own for epoch in epochs), default=-float("inf"))
        best = snapshot(personalizer) if is_best else best
        seconds = round(time.perf_counter() - started, 3)
        epochs = (*epochs, PersonalizerEpoch(len(epochs), loss, *choices, is_best, seconds))
        save_state(
            folder, State(personalizer.state_dict(), best, optimizer_tensors(optimizer), epochs), recipe, data.hash, base
        )
        yield epochs[-1]
    personalizer.load_state_dict(best)
    rows = choose_beta(frozen, data.split().validation, seed=recipe.seed)
    release(path, frozen, personalizer.cpu(), material.learn, material.select, rows, recipe, data.hash, epochs)
    shutil.rmtree(folder, ignore_errors=True)


def finished(epochs: tuple[PersonalizerEpoch, ...], recipe: PersonalizerRecipe) -> bool:
    """Tell whether a training is over: all epochs are run, or validation has not improved for `patience` epochs.

    Args:
        epochs: what happened so far, oldest first; the pass over sensitivities, if there is one, is the first of them.
        recipe: the settings.

    Returns:
        whether to stop.
    """
    since_best = next((age for age, epoch in enumerate(reversed(epochs)) if epoch.best), 0)
    return len(epochs) >= recipe.most_epochs or since_best >= recipe.patience


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


def _run_epoch(
    personalizer: AbstractPersonalizer,
    optimizer: torch.optim.Optimizer,
    material: _Material,
    recipe: PersonalizerRecipe,
    index: int,
) -> float:
    """Train for one epoch, the first of them on sensitivities if the recipe says so; mean loss."""
    if recipe.learn != "codes" and index == 0:
        steps = learn_sensitivities(
            material.frozen, personalizer, material.learn, size=recipe.batch, steps=recipe.warm_steps, seed=recipe.seed
        )
    else:
        every = material.learn.batches(recipe.batch, np.random.default_rng((recipe.seed, 2, index)))
        batches = (batch.to(torch.device(recipe.device)) for batch in every)
        steps = fit(personalizer, codes_loss(material.frozen, recipe), batches, optimizer, seed=(recipe.seed, 3, index))
    losses = [step.loss for step in steps]
    personalizer.eval()
    if not np.isfinite(losses).all():
        raise UsageError(f"epoch {index}: expected a finite loss; a smaller lr than {recipe.lr} may help")
    return float(np.mean(losses))


def _take_up(
    folder: Path,
    personalizer: AbstractPersonalizer,
    optimizer: torch.optim.Optimizer,
    recipe: PersonalizerRecipe,
    data_hash: str,
    base: Base,
) -> tuple[dict[str, Tensor], tuple[PersonalizerEpoch, ...]]:
    """Go back to the last checkpoint, if there is one: best weights so far, and the epochs behind us."""
    state = load_state(folder, recipe, data_hash, base)
    if state is None:
        return {}, ()
    personalizer.load_state_dict(state.model)
    restore_optimizer(optimizer, state.optimizer)
    return dict(state.best), state.epochs


def _newest_events(train: Histories, cuts: int) -> Cases:
    """Ask for each user's newest training events, given everything before each."""
    cases = [(user, place) for user, size in enumerate(train.lengths.tolist()) for place in range(max(1, size - cuts), size)]
    histories = [train[user][:place].tolist() for user, place in cases]
    targets = [train[user][place] for user, place in cases]
    return Cases(Histories.from_lists(histories), np.array(targets, np.int32), np.array([u for u, _ in cases], np.int32))
