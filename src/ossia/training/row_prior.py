"""How much popularity belongs into the importance of table rows: one number, β, chosen on validation.

    z_i = state · E_i + β · log(count_i + 1)          the rows of highest z are what a small device holds

While the profile is fresh, the rows that the user's own state likes best are all that is needed and β = 0 will do; for the
days until the next contact, what everybody takes is insurance. So the devices here hold rows chosen by the profile of now and,
again, of two events ago, as many as fit into 5 % of the table's bytes at 2 bits, and rank with the state of now:

    quality(β) = mean NDCG@10 over both,   full ranking, an absent target is a miss, seen items removed

Two bits, because that is what the allocator mostly buys at such a share; but rows are read at 8 bits here: the question is
which, not how coarse. Nothing about rows is learned, so β may be chosen on any validation case, those too that the channels'
importance is learned from.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ossia.adaptation import Base
from ossia.adaptation.prices import fixed_table, row_prices, tail_bytes
from ossia.data import Cases
from ossia.evaluation import ndcg_at_k
from ossia.training.events import earlier, take_cases
from ossia.training.frozen import FrozenBase, remove_seen
from ossia.types import WIDTHS

BETAS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0)
STALE_EVENTS = 2
TABLE_SHARE = 0.05
FEWEST_ROWS = 10
MOST_CASES = 1_000
CHUNK = 128


@dataclass(frozen=True)
class RowPrior:
    """The choice, and the NDCG@10 that each β on the grid gave."""

    beta: float
    quality: dict[float, float]


def rows_within(base: Base, share: float) -> int:
    """Count the rows at 2 bits that fit into a share of the whole table's bytes, beside the device's own history and the tail.

    Args:
        base: the base with its table.
        share: of the table at 8 bits.

    Returns:
        rows, at least ten: fewer would be no list to rank.
    """
    price = row_prices(base, None, None).rest[0]
    room = share * len(base.table) * price[WIDTHS.index(8)] - (fixed_table(base, True) - tail_bytes(base))
    return min(len(base.table), max(FEWEST_ROWS, int(room // price[WIDTHS.index(2)])))


@torch.no_grad()
def choose_beta(frozen: FrozenBase, cases: Cases, *, seed: int) -> RowPrior:
    """Choose β on validation.

    Args:
        frozen: the base.
        cases: validation cases; a thousand of them are read.
        seed: of which.

    Returns:
        the best β; of equal ones the smallest.
    """
    cases = take_cases(cases, np.random.default_rng(seed).permutation(len(cases))[:MOST_CASES])
    now, then = frozen.events(cases), frozen.events(earlier(cases, STALE_EVENTS))
    prior = torch.from_numpy(np.log1p(frozen.base.table.counts)).to(frozen.vectors)
    held_rows = rows_within(frozen.base, TABLE_SHARE)
    ranks: dict[float, list[Tensor]] = {beta: [] for beta in BETAS}
    for rows in np.array_split(np.arange(len(cases)), -(-len(cases) // CHUNK)):
        batch = now.batch(rows).to(frozen.vectors.device)
        states, seen = frozen.states(batch.histories), [cases.histories[row] for row in rows.tolist()]
        scores, coarse = states @ frozen.vectors.T, _coarse(frozen.base, states)
        remove_seen(scores, seen)
        remove_seen(coarse, seen)
        for events in (now, then):
            wanted = events.profiles[rows].to(frozen.vectors) @ frozen.vectors.T
            for beta in BETAS:
                held = _highest(wanted + beta * prior, held_rows)
                ranks[beta].append(_ranks(torch.where(held, scores, coarse), batch.targets))
    quality = {beta: ndcg_at_k(torch.cat(found).cpu().numpy(), 10) for beta, found in ranks.items()}
    return RowPrior(max(BETAS, key=lambda beta: (quality[beta], -beta)), quality)


def _coarse(base: Base, states: Float[Tensor, "users dim"]) -> Float[Tensor, "users items"]:
    """Score what a device does not hold: by the table's tail, or not at all."""
    tail = base.table.tail
    if tail is None:
        return states.new_full((len(states), len(base.table)), -torch.inf)
    return torch.from_numpy(tail.scores_of_all(states.cpu().numpy())).to(states)


def _highest(z: Float[Tensor, "users items"], count: int) -> Bool[Tensor, "users items"]:
    """Mark each user's `count` highest."""
    return torch.zeros_like(z, dtype=torch.bool).scatter(1, z.topk(count, dim=1).indices, True)


def _ranks(scores: Float[Tensor, "users items"], targets: Tensor) -> Tensor:
    """Rank targets, ties against them: an absent or seen target, at −inf, has the last rank."""
    target = scores.gather(1, targets[:, None])
    return (~(scores < target)).sum(dim=1)
