"""β is chosen by what a small device could rank."""

import numpy as np
import pytest
import torch

from ossia.adaptation import Adaptation, Base, costs
from ossia.data import Cases, Histories
from ossia.training.frozen import FrozenBase
from ossia.training.row_prior import BETAS, choose_beta, rows_within
from ossia.types import WIDTHS


@pytest.fixture(scope="module")
def big(make_base) -> Base:
    return make_base(items=600, length=4)


@pytest.fixture(scope="module")
def frozen(big: Base) -> FrozenBase:
    return FrozenBase.load(big, (2, 4, 8), torch.device("cpu"))


def cases_of(histories: np.ndarray, targets: np.ndarray) -> Cases:
    return Cases(Histories.from_lists(histories.tolist()), targets.astype(np.int32), np.arange(len(targets), dtype=np.int32))


def test_so_many_rows_at_two_bits_fit_and_no_more(big: Base) -> None:
    whole = costs(big, Adaptation()).table_bytes
    for share in (0.1, 0.2, 0.5):
        count = rows_within(big, share)
        rows = np.zeros(600, np.uint8)
        rows[: count + 1] = WIDTHS.index(2)
        assert costs(big, Adaptation(rows=rows)).table_bytes > share * whole
        rows[count] = 0
        assert costs(big, Adaptation(rows=rows)).table_bytes <= share * whole


def test_a_table_too_small_for_its_share_still_lists_ten(base: Base) -> None:
    assert rows_within(base, 0.01) == 10


def test_users_who_take_what_their_state_likes_need_no_popularity(frozen: FrozenBase) -> None:
    rng = np.random.default_rng(0)
    histories = rng.integers(0, 600, (80, 1))  # of one event: the profile of two events ago is that of now
    scores = (frozen.states(torch.from_numpy(histories)) @ frozen.vectors.T).numpy()
    scores[np.arange(80)[:, None], histories] = -np.inf
    found = choose_beta(frozen, cases_of(histories, scores.argmax(axis=1)), seed=0)
    assert found.beta == 0
    assert found.quality[0.0] == 1 > found.quality[2.0]
    assert set(found.quality) == set(BETAS)


def test_users_who_take_what_is_popular_ask_for_popularity(frozen: FrozenBase) -> None:
    rng = np.random.default_rng(0)
    histories = rng.integers(300, 600, (80, 3))
    popular = frozen.base.table.popularity[:5]
    scores = (frozen.states(torch.from_numpy(histories)) @ frozen.vectors.T).numpy()
    targets = popular[scores[:, popular].argmax(axis=1)]
    found = choose_beta(frozen, cases_of(histories, targets), seed=0)
    assert found.beta > 0
    assert found.quality[found.beta] > found.quality[0.0]
