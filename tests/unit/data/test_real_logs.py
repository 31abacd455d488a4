"""Counts of public logs, where a checkout has them beside it; they are never part of the repository."""

from pathlib import Path

import pytest

from ossia.data.interactions import read_log
from ossia.data.prepare import prepare
from ossia.data.titles import read_titles

SHARED = Path(__file__).parents[4] / "shared" / "data"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data beside the repository")


@pytest.mark.parametrize(
    ("file", "users", "items", "events", "tie_share"),
    [
        ("s3rec-beauty/Beauty.txt.gz", 22_363, 12_101, 198_502, None),
        ("amazon2018-games/interactions.tsv.gz", 50_597, 16_874, 453_637, 0.4583),
        ("hin-amazon/user_item.dat.gz", 6_170, 2_753, 195_791, 0.2702),
    ],
)
def test_public_logs_have_their_published_counts(
    file: str, users: int, items: int, events: int, tie_share: float | None
) -> None:
    data = prepare(read_log(SHARED / file), min_user=1, min_item=1)
    assert (data.users, data.items, data.info.after.events, data.info.duplicates) == (users, items, events, 0)
    assert data.info.tie_share == (tie_share if tie_share is None else pytest.approx(tie_share, abs=5e-5))


def test_titles_of_a_real_catalog_fit_its_log() -> None:
    titles = read_titles(SHARED / "amazon2018-games" / "items.tsv.gz")
    assert len(titles) == 16_874
    assert titles["101"] == "Anno 2070"
