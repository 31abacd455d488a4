"""Who stands in the table, and what a control has in common with what it controls."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from ossia.adaptation import Adaptation, Base, Importance, allocate, costs
from ossia.data import Histories, Split, leave_one_out
from ossia.errors import BudgetError
from ossia.service.contenders import (
    Contender,
    baselines,
    catalogs,
    draw_cases,
    personal,
    possible_catalogs,
    three_bits,
    uniform,
    uniform_codes,
)
from ossia.service.personalizer import Personalizer
from ossia.service.trial import compare_personal, judge_all, make_row_of
from ossia.types import Budget, Profile


class ByProfile(Personalizer):
    """Answers without a network: a channel matters by its place and the profile, a row by its score."""

    def __init__(self, base: Base) -> None:
        object.__setattr__(self, "base", base)

    def personalize_many(self, profiles: Sequence[Profile], budgets: Sequence[Budget], **_: object) -> list[Adaptation]:
        return [allocate(self.base, self._importance(each), budget) for each, budget in zip(profiles, budgets, strict=True)]

    def personalize_nobody(self, budget: Budget, **_: object) -> Adaptation:
        return allocate(self.base, Importance(np.ones(self.base.channels), np.ones(len(self.base.table))), budget)

    def _importance(self, profile: Profile) -> Importance:
        seed = int(np.abs(profile.values.astype(int)).sum())
        scores = self.base.table.whole.dequantize() @ profile.state
        return Importance(np.random.default_rng(seed).random(self.base.channels), np.exp(scores - scores.max()))


@pytest.fixture(scope="module")
def big(make_base) -> Base:
    """A base whose table is much larger than the rows of one history."""
    return make_base(items=400, length=4)


@pytest.fixture(scope="module")
def split(big: Base) -> Split:
    rng = np.random.default_rng(3)
    return leave_one_out(Histories.from_lists([rng.choice(len(big.table), 8, replace=False).tolist() for _ in range(30)]))


def judged(contender: Contender, split: Split, items: int) -> np.ndarray:
    [*_, (_, judgement)] = judge_all([contender], split.test, items)
    assert judgement is not None
    return judgement.ranks


def test_personal_codes_stand_beside_constant_ones_and_another_users(big: Base, split: Split) -> None:
    made = list(personal(big, ByProfile(big), split.test, three_bits(big)))
    assert [each.name for each in made] == ["personal codes", "constant codes", "another user's codes"]
    own, _, other = made
    assert own.delivery is not None
    assert other.delivery is not None
    assert sorted(own.delivery.payloads) == sorted(other.delivery.payloads)
    assert all(a != b for a, b in zip(own.delivery.payloads, other.delivery.payloads, strict=True))


def test_a_control_of_codes_keeps_the_same_budget(big: Base, split: Split) -> None:
    budget = three_bits(big)
    assert budget.weight_bytes is not None
    for contender in personal(big, ByProfile(big), split.test, budget):
        assert contender.delivery is not None
        used = [cost.weight_bytes for cost in contender.delivery.costs]
        assert max(used) <= budget.weight_bytes
        assert min(used) >= 0.97 * budget.weight_bytes


def test_three_bits_lie_between_two_and_four(big: Base) -> None:
    two, four = (costs(big, uniform_codes(big, bits)).weight_bytes for bits in (2, 4))
    assert three_bits(big).weight_bytes == (two + four) // 2


def test_popular_rows_are_the_most_popular_ones_at_the_bytes_of_the_personal_ones(big: Base, split: Split) -> None:
    own, popular = catalogs(big, ByProfile(big), split.test, 0.2)
    assert own.rest_bytes is not None
    assert popular.rest_bytes is not None
    assert abs(popular.rest_bytes / own.rest_bytes - 1) < 0.05
    held = judged(popular, split, len(big.table))
    assert (held <= len(big.table)).all()
    [codes] = set(popular.delivery.payloads) if popular.delivery else set()
    from ossia.adaptation import decode_payload

    rows = decode_payload(big, codes, allow_unsigned=True).adaptation.rows
    assert rows is not None
    in_order = rows[big.table.popularity]
    assert all(a >= b for a, b in pairwise(in_order)), "a less popular row is wider than a more popular one"


def test_rows_worth_most_to_a_user_beat_popular_rows_where_the_target_is_the_best_score(big: Base) -> None:
    """The target is what the base ranks first; a catalog that follows the profile holds it, popularity need not."""
    from ossia.device import RUNTIMES
    from ossia.types import Candidates

    rng = np.random.default_rng(5)
    ranker, everything = RUNTIMES["numpy"](big, Adaptation()), Candidates(np.arange(len(big.table)))
    lists = []
    for _ in range(30):
        history = rng.choice(len(big.table), 4, replace=False)
        scores = ranker.scores(history, everything)
        scores[history] = -np.inf
        lists.append([*history.tolist(), int(scores.argmax())])
    split = leave_one_out(Histories.from_lists(lists))
    own, popular = catalogs(big, ByProfile(big), split.test, 0.2)
    hits = [(judged(each, split, len(big.table)) <= 10).mean() for each in (own, popular)]
    assert hits[0] > hits[1] + 0.3


def test_a_share_below_the_floor_is_told_of_and_left_out(big: Base, split: Split) -> None:
    said: list[str] = []
    made = list(possible_catalogs(big, ByProfile(big), split.test, shares=(0.0001, 0.2), say=said.append))
    assert [each.name.split(",")[1] for each in made] == [" 20% of the table"] * 2
    assert len(said) == 1
    assert "table_bytes" in said[0]
    with pytest.raises(BudgetError):
        list(catalogs(big, ByProfile(big), split.test, 0.0001))


def test_uniform_widths_keep_fewer_bytes_the_narrower_they_are(big: Base) -> None:
    kept = [each.rest_bytes for each in uniform(big)]
    assert kept[0] > kept[1] > kept[2]


def test_every_contender_becomes_a_row_and_personal_rows_are_compared(big: Base, split: Split) -> None:
    from itertools import chain

    contenders = chain(
        baselines(split, len(big.table)),
        uniform(big),
        personal(big, ByProfile(big), split.test, three_bits(big)),
        catalogs(big, ByProfile(big), split.test, 0.2),
    )
    done = [(each, judgement) for each, judgement in judge_all(contenders, split.test, len(big.table)) if judgement]
    table = [make_row_of(each, judgement) for each, judgement in done]
    assert len({row.name for row in table}) == len(table) == 12
    assert [row.payload_bytes is None for row in table] == [True] * 7 + [False] * 5
    pairs = compare_personal({judgement.name: judgement for _, judgement in done})
    assert [(each.name, each.versus) for each in pairs] == [
        ("personal codes", "another user's codes"),
        ("personal codes", "constant codes"),
        ("personal catalog, 20% of the table", "popular rows, 20% of the table"),
    ]


def test_a_draw_of_cases_is_the_same_for_everybody_and_keeps_their_order(split: Split) -> None:
    drawn, again = draw_cases(split.test, 7, seed=1), draw_cases(split.test, 7, seed=1)
    assert np.array_equal(drawn.users, again.users)
    assert len(drawn) == 7
    assert (np.diff(drawn.users) > 0).all()
    for number, user in enumerate(drawn.users):
        assert np.array_equal(drawn.histories[number], split.test.histories[int(user)])
    assert draw_cases(split.test, None) is split.test
