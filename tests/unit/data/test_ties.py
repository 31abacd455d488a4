import numpy as np

from ossia.data.histories import Histories
from ossia.data.ties import mix, repeat_share, tie_keys, tie_share

GOLDEN = ["0x4a47339b71f7fc3", "0x778dc8407ca03ce5", "0xbacc4d6b7b3f5a09"]  # computed apart, in plain Python integers
USERS, ITEMS = np.array([0, 0, 1]), np.array([0, 1, 0])


def test_keys_are_these_numbers_on_every_machine() -> None:
    keys = tie_keys(USERS, ITEMS, ["ann", "bób"], ["7", "8"], seed=0)
    assert [hex(key) for key in keys] == GOLDEN


def test_mix_is_the_finaliser_of_splitmix64() -> None:
    # The first output of the published generator seeded with 0 is the finaliser of its increment.
    assert hex(mix(np.array([0x9E3779B97F4A7C15], np.uint64))[0]) == "0xe220a8397b1dcdaf"


def test_another_seed_gives_other_keys() -> None:
    first, second = (tie_keys(USERS, ITEMS, ["a", "b"], ["7", "8"], seed) for seed in (0, 2**64 - 1))
    assert not (first == second).any()


def test_a_user_and_an_item_of_one_name_are_hashed_apart() -> None:
    same = tie_keys(np.array([0, 1]), np.array([1, 0]), ["a", "b"], ["a", "b"], seed=0)
    assert same[0] != same[1]


def test_keys_order_items_differently_for_different_users() -> None:
    users, items = np.divmod(np.arange(200), 2)
    first, second = tie_keys(users, items, [f"u{n}" for n in range(100)], ["x", "y"], seed=0).reshape(100, 2).T
    assert 30 < (first < second).sum() < 70


def test_shares_of_logs_without_neighbors_or_events_are_zero() -> None:
    assert tie_share(np.array([0, 1]), np.array([5, 5])) == 0
    assert repeat_share(Histories.from_lists([[], []])) == 0
