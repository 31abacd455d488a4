"""Who stands in the table of results, and the controls that a personal ranker must beat.

    popularity (all, recent),
    bigram, item-kNN                   counts, no model at all
    uniform 8 / 4 / 2 bits             the same width for every channel of the encoder, the whole table at 8 bits
    personal codes                     this user's widths, within the budget
    constant codes                     one allocation for everybody, from the mean importance of training users
    another user's codes               somebody else's payload, same bytes
    personal catalog at a share        every channel at 8 bits; of the table this user's rows, within a share of its bytes
    popular rows at a share            the same bytes, filled with the most popular rows

If another user's codes rank as well, nothing is personal; if popular rows do, the rows need no profile. Everything but the
first four goes through `rankers`: encoded, decoded, folded, as on a device.

Nothing here looks at a target.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.allocate import Device, Importance, allocate
from ossia.adaptation.base import Base
from ossia.adaptation.cost import costs
from ossia.data.splits import Cases, Split, item_counts
from ossia.errors import BudgetError
from ossia.evaluation.baselines import MarkovBigram, Popularity, recent_counts
from ossia.evaluation.controls import another_user
from ossia.evaluation.item_knn import ItemKNN
from ossia.evaluation.results import Family
from ossia.service.answerer import FRESH
from ossia.service.generator import Generator
from ossia.service.personalizer import Personalizer
from ossia.service.rankers import Delivery, deliver, make_profiles, receive, unpack
from ossia.types import WIDTHS, Budget, Profile, Ranker

SHARES = (0.05, 0.20)
"""Parts of the table's bytes at which the personal catalog is held against popular rows."""

BATCH = 256
"""Users whose adaptations are in memory at a time."""


@dataclass(frozen=True, eq=False)
class Contender:
    """One row of the table before it is judged.

    Attributes:
        name: as it stands in the table.
        family: what kind of thing it is.
        ranker: one for everybody, or a function from the number of a case to that case's ranker.
        rest_bytes: encoder and table on the device, mean over devices; None: not the same kind of thing.
        delivery: what was sent to each device; None: nothing personal was.
    """

    name: str
    family: Family
    ranker: Ranker | Callable[[int], Ranker]
    rest_bytes: float | None = None
    delivery: Delivery | None = None


def baselines(split: Split, items: int) -> Iterator[Contender]:
    """Make the rankers that only count.

    Args:
        split: the data; counted is its training part.
        items: rows of the catalog.

    Yields:
        popularity, recent popularity, bigram, item-kNN.
    """
    yield Contender("popularity", "baseline", Popularity(item_counts(split.train, items)))
    yield Contender("recent popularity", "baseline", Popularity(recent_counts(split.train, items)))
    yield Contender("Markov bigram", "baseline", MarkovBigram(split.train, items))
    yield Contender("item-kNN", "baseline", ItemKNN(split.train, items))


def uniform(base: Base, *, runtime: str = "numpy") -> Iterator[Contender]:
    """Make the base at one width for every channel, the table whole at 8 bits.

    Args:
        base: the base.
        runtime: a name in `ossia.device.runtimes.RUNTIMES`.

    Yields:
        8, 4 and 2 bits.
    """
    for bits in (8, 4, 2):
        adaptation = uniform_codes(base, bits)
        sent = deliver(base, [adaptation])
        yield Contender(f"uniform {bits} bits", "base", unpack(base, sent.payloads[0], runtime=runtime), sent.rest_bytes)


def personal(
    base: Base,
    personalizer: Personalizer | Generator,
    cases: Cases,
    budget: Budget,
    *,
    device: Device = FRESH,
    seed: int = 0,
    runtime: str = "numpy",
) -> Iterator[Contender]:
    """Make personal codes, or weights, and what they must beat, all within the same budget.

    Args:
        base: the base.
        personalizer: what answers profiles.
        cases: what will be judged; case i's device is number i.
        budget: of every device.
        device: what is on every device, and how fast it is.
        seed: of who gets whose codes.
        runtime: a name in `ossia.device.runtimes.RUNTIMES`.

    Yields:
        personal, constant and another user's codes, or weights; the last with at least two cases.

    Raises:
        BudgetError: the budget is below the base's floor.
    """
    profiles = make_profiles(base, cases.histories, runtime=runtime)
    own = deliver(base, _answers(personalizer, profiles, budget, device))
    what = "codes" if isinstance(personalizer, Personalizer) else "weights"
    yield _delivered(f"personal {what}", "personal", base, own, runtime)
    same = deliver(base, [personalizer.personalize_nobody(budget, device=device)])
    yield _delivered(f"constant {what}", "control", base, same.to(np.zeros(len(cases), int)), runtime)
    if len(cases) > 1:
        swapped = own.to(another_user(len(cases), seed=seed))
        yield _delivered(f"another user's {what}", "control", base, swapped, runtime)


def catalogs(
    base: Base, personalizer: Personalizer | Generator, cases: Cases, share: float, *, runtime: str = "numpy"
) -> Iterator[Contender]:
    """Make the personal catalog at a share of the table's bytes, and popular rows at the same bytes.

    Args:
        base: the base.
        personalizer: what answers profiles.
        cases: what will be judged; case i's device is number i.
        share: of the bytes of the whole table at 8 bits, 0 … 1.
        runtime: a name in `ossia.device.runtimes.RUNTIMES`.

    Yields:
        the personal catalog, then popular rows.

    Raises:
        BudgetError: the share is less than what every device keeps, the rows of its own history.
    """
    budget = Budget(table_bytes=float(int(share * costs(base, Adaptation()).table_bytes)))
    profiles = make_profiles(base, cases.histories, runtime=runtime)
    own = deliver(base, _answers(personalizer, profiles, budget))
    yield _delivered(f"personal catalog, {share:.0%} of the table", "personal", base, own, runtime)
    popular = deliver(base, [allocate(base, Importance(rows=_prior(base)), budget)])
    name = f"popular rows, {share:.0%} of the table"
    yield _delivered(name, "control", base, popular.to(np.zeros(len(cases), int)), runtime)


def possible_catalogs(
    base: Base,
    personalizer: Personalizer | Generator,
    cases: Cases,
    *,
    shares: Sequence[float] = SHARES,
    runtime: str = "numpy",
    say: Callable[[str], None],
) -> Iterator[Contender]:
    """Make the catalogs at every share that a device can meet: a tiny table's history rows alone may be more.

    Args:
        base: the base.
        personalizer: what answers profiles.
        cases: what will be judged.
        shares: of the bytes of the whole table at 8 bits, each 0 … 1.
        runtime: a name in `ossia.device.runtimes.RUNTIMES`.
        say: told which share is left out, and why.

    Yields:
        for each share the personal catalog, then popular rows.
    """
    for share in shares:
        try:
            yield from catalogs(base, personalizer, cases, share, runtime=runtime)
        except BudgetError as error:
            say(f"no personal catalog at {share:.0%} of the table: {error}")


def uniform_codes(base: Base, bits: int) -> Adaptation:
    """Give every channel the same width.

    Args:
        base: the base.
        bits: one of `WIDTHS`.

    Returns:
        the adaptation; the table stays whole.
    """
    return Adaptation(codes=np.full(base.channels, WIDTHS.index(bits), np.uint8))


def three_bits(base: Base) -> Budget:
    """Compute the usual budget for codes: halfway between 2 and 4 bits for every channel, about three on average.

    Args:
        base: the base.

    Returns:
        the budget, on weight bytes alone.
    """
    low, high = (costs(base, uniform_codes(base, bits)).weight_bytes for bits in (2, 4))
    return Budget(weight_bytes=float((low + high) // 2))


def usual_budget(personalizer: Personalizer | Generator) -> Budget:
    """Choose the budget at which a personalizer is judged where nobody says another.

    Args:
        personalizer: what answers.

    Returns:
        about three bits a channel for codes; no limit for generated weights.
    """
    chooses_widths = isinstance(personalizer, Personalizer) or personalizer.codes is not None
    return three_bits(personalizer.base) if chooses_widths else Budget()


def draw_cases(cases: Cases, most: int | None, *, seed: int = 0) -> Cases:
    """Draw some cases, for a quick look at a large log; the draw does not depend on who ranks.

    Args:
        cases: all of them.
        most: how many at most; None: all.
        seed: of the draw.

    Returns:
        the cases, in their order.
    """
    if most is None or most >= len(cases):
        return cases
    chosen = np.sort(np.random.default_rng(seed).choice(len(cases), most, replace=False))
    histories = type(cases.histories).from_lists([cases.histories[number].tolist() for number in chosen.tolist()])
    return Cases(histories, cases.targets[chosen], cases.users[chosen])


def _delivered(name: str, family: Family, base: Base, sent: Delivery, runtime: str) -> Contender:
    """Make a contender of what was sent."""
    return Contender(name, family, receive(base, sent, runtime=runtime), sent.rest_bytes, sent)


def _answers(
    personalizer: Personalizer | Generator, profiles: Sequence[Profile], budget: Budget, device: Device = FRESH
) -> Iterator[Adaptation]:
    """Ask for everybody, some at a time: adaptations as arrays are much larger than as payloads."""
    for start in range(0, len(profiles), BATCH):
        batch = profiles[start : start + BATCH]
        yield from personalizer.personalize_many(batch, [budget] * len(batch), devices=[device] * len(batch))


def _prior(base: Base) -> Float32[np.ndarray, " rows"]:
    """Popular rows matter most: events in training, never 0, so that rows without events are still ordered last."""
    return base.table.counts + np.float32(0.5)
