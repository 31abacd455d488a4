"""What a personalizer learns from, and what its epochs are chosen on.

The base has fitted its own training events, and what would have helped it there does not help on new ones. So by default the
events are *unseen*: the validation case of four users in five, and the fifth user's for choosing epochs. Test events are never
read.
"""

from dataclasses import replace

import numpy as np
import torch

from ossia.adaptation import Base
from ossia.data import Cases, Dataset, Histories
from ossia.errors import DataError
from ossia.training.events import Events, take_cases
from ossia.training.frozen import FrozenBase, fit_temperature
from ossia.training.generator_recipe import GeneratorRecipe
from ossia.training.personalizer_recipe import PersonalizerRecipe

UNSEEN_SHARE = 0.8
"""Of the users with a validation case, how many are learned from; the others choose the epoch."""


def choose_events(data: Dataset, recipe: PersonalizerRecipe | GeneratorRecipe) -> tuple[Cases, Cases]:
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


def prepare_events(
    base: Base, recipe: PersonalizerRecipe | GeneratorRecipe, alphabet: tuple[int, ...], learn: Cases, select: Cases
) -> tuple[FrozenBase, Events, Events]:
    """Put the base into torch, calibrate it, and compute profiles.

    Args:
        base: the base.
        recipe: the resolved settings.
        alphabet: widths that channels may have.
        learn: what to learn from.
        select: what to choose epochs on.

    Returns:
        the calibrated base, events to learn from, events to validate with.
    """
    frozen = FrozenBase.load(base, alphabet, torch.device(recipe.device))
    chosen_on = frozen.events(select)
    frozen = replace(frozen, temperature=fit_temperature(frozen, chosen_on))
    return frozen, frozen.events(learn), chosen_on


def _newest_events(train: Histories, cuts: int) -> Cases:
    """Ask for each user's newest training events, given everything before each."""
    cases = [(user, place) for user, size in enumerate(train.lengths.tolist()) for place in range(max(1, size - cuts), size)]
    histories = [train[user][:place].tolist() for user, place in cases]
    targets = [train[user][place] for user, place in cases]
    return Cases(Histories.from_lists(histories), np.array(targets, np.int32), np.array([u for u, _ in cases], np.int32))
