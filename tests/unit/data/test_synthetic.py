from itertools import pairwise

import numpy as np
import pytest

from ossia.data.dataset import Dataset
from ossia.data.synthetic import successors, synthetic
from ossia.errors import UsageError


def bigram_hits(data: Dataset) -> float:
    """How often the item that most often followed the last item, in all but each user's last event, comes next."""
    table = np.zeros((data.items, data.items), np.int64)
    for history in data.histories:
        np.add.at(table, (history[:-2], history[1:-1]), 1)
    return float(np.mean([table[history[-2]].argmax() == history[-1] for history in data.histories]))


def test_a_rule_is_one_walk_through_all_items() -> None:
    for rule in successors(30, 4, np.random.default_rng(0)):
        seen, item = [], 0
        for _ in range(30):
            seen.append(item)
            item = rule[item]
        assert item == 0
        assert sorted(seen) == list(range(30))


def test_predictable_users_follow_one_rule_and_never_repeat() -> None:
    data = synthetic(200, 20, 20, predictability=1.0, seed=0, rules=1)
    following = {}
    for history in data.histories:
        for before, after in pairwise(history):
            assert following.setdefault(int(before), int(after)) == after
    assert data.info.repeat_share == 0


def test_the_dial_goes_from_certainty_to_chance() -> None:
    hits = [bigram_hits(synthetic(2000, 40, 8, predictability=dial, seed=3, rules=1)) for dial in (1.0, 0.5, 0.0)]
    assert hits[0] == 1
    assert hits[1] == pytest.approx(0.5 + 0.5 / 40, abs=0.05)
    assert hits[2] == pytest.approx(1 / 40, abs=0.015)


def test_whoever_does_not_know_the_user_is_right_once_in_as_many_rules() -> None:
    assert bigram_hits(synthetic(4000, 40, 8, predictability=1.0, seed=3, rules=4)) == pytest.approx(1 / 4, abs=0.05)


def test_the_same_seed_gives_the_same_users() -> None:
    first, again, other = (synthetic(20, 10, 5, predictability=0.7, seed=seed).hash for seed in (1, 1, 2))
    assert first == again != other


def test_sizes_are_what_was_asked() -> None:
    data = synthetic(30, 10, 7, predictability=0.5, seed=0)
    assert (data.users, data.items, set(data.histories.lengths.tolist())) == (30, 10, {7})
    assert data.user_ids[3] == "user-3"


@pytest.mark.parametrize(
    "changed", [{"users": 1}, {"items": 1}, {"events": 2}, {"rules": 0}, {"predictability": 1.1}, {"predictability": -0.1}]
)
def test_what_can_not_be_made_up_is_refused(changed: dict[str, float]) -> None:
    asked = {"users": 5, "items": 5, "events": 5, "predictability": 0.5, "seed": 0, "rules": 1, **changed}
    with pytest.raises(UsageError, match="synthetic: expected 2 users"):
        synthetic(**asked)  # type: ignore[arg-type]
