"""Validation after each epoch: the protocol of `ossia.evaluation`, computed where the model is.

The judge there takes any ranker and asks for scores user by user; asked after every epoch, that would cost more than the
training. Here the same rule runs in torch, over users of similar length together, into one buffer that is used again:

    rank = |{ i : not score_i < score_target }|     seen items and NaN at the bottom or against us; a repeat is a miss

Ranks are equal to the judge's; a test holds the two together.
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from ossia.backbones import Backbone
from ossia.backbones.ranker import AnyHistory, encode
from ossia.data import Cases, Histories
from ossia.evaluation import ndcg_at_k
from ossia.training.coarse import every_row
from ossia.training.recipes import BackboneRecipe
from ossia.training.widths import at_one_width

CHUNK = 256
"""Users at a time, at most: their scores for 12,000 items are 12 MB, which caches still help with."""

SCORES = 1 << 24
"""Scores at a time, at most: 64 MB."""


def choose_cases(cases: Cases, most: int, seed: int) -> Cases:
    """Choose the cases that validation reads after every epoch, and line them up by the length of their histories.

    Args:
        cases: all validation cases.
        most: how many to read; all if there are fewer.
        seed: which ones.

    Returns:
        the chosen cases, shortest history first.
    """
    chosen = np.random.default_rng(seed).permutation(len(cases))[:most]
    chosen = chosen[np.argsort(cases.histories.lengths[chosen], kind="stable")]
    histories = [cases.histories[int(case)] for case in chosen]
    offsets = np.cumsum([0, *map(len, histories)], dtype=np.int64)
    items = np.concatenate([np.empty(0, np.int32), *histories])
    return Cases(Histories(items, offsets), cases.targets[chosen], cases.users[chosen])


def validation_ranks(
    backbone: Backbone, cases: Cases, rows: Float[Tensor, "items dim"] | None = None
) -> Int64[np.ndarray, " cases"]:
    """Rank every case's target in the whole catalog, seen items removed, ties against us.

    Args:
        backbone: is put into evaluation mode.
        cases: histories and what came next; users of similar length together are faster.
        rows: the item rows that are scored; None: those that histories are read with.

    Returns:
        1-based ranks, in the order of the cases; a target that the history holds has the last.
    """
    backbone.eval()
    vectors = (backbone.items.weight if rows is None else rows).detach()
    users = max(1, min(CHUNK, len(cases), SCORES // len(vectors)))
    buffer = torch.empty(users, len(vectors), dtype=vectors.dtype, device=vectors.device)
    ranks = [
        _ranks(torch.mm(encode(backbone, histories), vectors.T, out=buffer[: len(histories)]), histories, targets)
        for histories, targets in _chunks(cases, users)
    ]
    return torch.cat(ranks).cpu().numpy() if ranks else np.empty(0, np.int64)


def validation_quality(backbone: Backbone, cases: Cases, recipe: BackboneRecipe) -> float:
    """Judge what will be used: the weights as they are, or the mean over the widths, or table and tail, that are trained.

    Args:
        backbone: is put into evaluation mode.
        cases: histories and what came next.
        recipe: says what is trained.

    Returns:
        NDCG@10.
    """
    if recipe.coarse:
        tables = (backbone.items.weight, every_row(backbone))
        return float(np.mean([ndcg_at_k(validation_ranks(backbone, cases, rows), 10) for rows in tables]))
    if recipe.widths is None:
        return ndcg_at_k(validation_ranks(backbone, cases), 10)
    slices = (at_one_width(backbone, bits, recipe.widths.scales) for bits in recipe.widths.alphabet)
    return float(np.mean([ndcg_at_k(validation_ranks(each.backbone, cases, each.rows), 10) for each in slices]))


def _chunks(cases: Cases, users: int) -> Iterator[tuple[list[AnyHistory], Int[np.ndarray, " users"]]]:
    """Cut the cases into chunks of users."""
    for start in range(0, len(cases), users):
        numbers = range(start, min(start + users, len(cases)))
        yield [cases.histories[number] for number in numbers], cases.targets[start : start + users]


def _ranks(
    scores: Float[Tensor, "users items"], histories: list[AnyHistory], targets: Int[np.ndarray, " users"]
) -> Int64[Tensor, " users"]:
    """Rank one chunk; writes −inf into `scores` where an item was seen."""
    users = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    seen = np.concatenate(histories).astype(np.int64)
    place = (torch.from_numpy(users[seen >= 0]).to(scores.device), torch.from_numpy(seen[seen >= 0]).to(scores.device))
    scores.index_put_(place, torch.tensor(-torch.inf, device=scores.device))
    target = scores.gather(1, torch.from_numpy(targets.astype(np.int64))[:, None].to(scores.device))
    # Summing bytes as int32 is three times faster than summing booleans, which torch widens to int64 first.
    return scores.shape[1] - (scores < target).view(torch.uint8).sum(1, dtype=torch.int32).long()
