"""Contenders in, table out: who is judged on what, how well, at how many bytes, and against whom.

Judging is a generator: whoever iterates sees how far it is, and stops it by stopping. Nothing is printed and nothing is chosen.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from ossia.data.histories import Histories
from ossia.data.splits import Cases
from ossia.errors import UsageError
from ossia.evaluation.lists import GIVEN, candidate_recall, list_rank_batches
from ossia.evaluation.protocol import FULL, Judgement, rank_batches, repeat_share
from ossia.evaluation.results import Comparison, Row, compare, make_row, with_bytes
from ossia.service.contenders import Contender

CONTROLS = (
    ("personal codes", "another user's codes"),
    ("personal codes", "constant codes"),
    ("personal weights", "another user's weights"),
    ("personal weights", "constant weights"),
    ("personal catalog", "popular rows"),
)
"""Beginnings of names: who is held against whom, where both are in the table; what follows must be the same."""


def judge_all(
    contenders: Iterable[Contender],
    cases: Cases,
    items: int,
    *,
    remove_seen: bool = True,
    lists: Histories | None = None,
    protocol: str = FULL,
) -> Iterator[tuple[Contender, Judgement | None]]:
    """Judge contenders one after the other; iterate to watch.

    Args:
        contenders: made when their turn comes.
        cases: what to judge; the same for all.
        items: rows of the catalog.
        remove_seen: do not offer what is in the history; without lists.
        lists: rank each case's target within its own list; None: in the whole catalog.
        protocol: what the lists are, by name: `GIVEN`, or `sampled_protocol(…)`.

    Yields:
        the contender at work with None, batch by batch, and at its end with its judgement.

    Raises:
        UsageError: there is no case.
    """
    repeats, recall = repeat_share(cases), candidate_recall(cases, lists) if lists and protocol == GIVEN else None
    for contender in contenders:
        ranks = []
        for batch in (
            rank_batches(contender.ranker, cases, items, remove_seen=remove_seen)
            if lists is None
            else list_rank_batches(contender.ranker, cases, lists, items)
        ):
            ranks.append(batch)
            yield contender, None
        if not ranks:
            raise UsageError("evaluation: expected at least one case, got none")
        yield contender, Judgement(contender.name, np.concatenate(ranks), repeats, protocol, recall)


def make_row_of(contender: Contender, judgement: Judgement, *, seed: int = 0) -> Row:
    """Put quality and bytes side by side.

    Args:
        contender: who was judged.
        judgement: how it did.
        seed: of the intervals.

    Returns:
        one row of the table.
    """
    sent = contender.delivery
    return with_bytes(
        make_row(judgement, contender.family, seed=seed),
        rest_bytes=contender.rest_bytes,
        device_bytes=None if sent is None else sent.device_bytes,
        payload_bytes=None if sent is None else sent.payload_bytes,
    )


def compare_personal(judgements: Mapping[str, Judgement], *, seed: int = 0) -> list[Comparison]:
    """Hold every personal row against what it must beat.

    Args:
        judgements: by name, all about the same cases.
        seed: of the intervals.

    Returns:
        one paired comparison for each pair of `CONTROLS` of which both are there.
    """
    pairs = [
        (name, control + name.removeprefix(personal))
        for personal, control in CONTROLS
        for name in judgements
        if name.startswith(personal)
    ]
    return [compare(judgements[one], judgements[other], seed=seed) for one, other in pairs if other in judgements]
