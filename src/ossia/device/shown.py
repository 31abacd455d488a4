"""What a device shows, and the last thing that it can still show: popular items that it remembers, when its base is gone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ossia.device.kept import Kept

POPULAR: Final = 100
"""Ids that a device remembers for the day on which its base is gone."""


@dataclass(frozen=True)
class Shown:
    """A ranking, ready to be shown.

    Attributes:
        ids: best first.
        scores: of each; −inf for what can't be scored.
        by: what ranked: `payload N`, `base` or `popularity`.
    """

    ids: tuple[str, ...]
    scores: tuple[float, ...]
    by: str


def rank_popular(kept: Kept, ids: Sequence[str] | None, k: int) -> Shown:
    """Rank by the popularity that is remembered.

    Args:
        kept: what the disk holds.
        ids: candidates; None: everything that is remembered and not in the history.
        k: how many to show.

    Returns:
        the most popular; those that are not remembered come last, in the order in which they came.
    """
    place = {each: index for index, each in enumerate(kept.popular)}
    seen = set(kept.history)
    offered = [each for each in kept.popular if each not in seen] if ids is None else ids
    best = sorted(offered, key=lambda each: place.get(each, len(place)))[:k]
    scores = tuple(-float(place[each]) if each in place else float("-inf") for each in best)
    return Shown(tuple(best), scores, "popularity")
