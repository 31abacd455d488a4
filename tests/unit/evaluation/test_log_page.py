"""The page about a log stands alone, says what was measured, and never runs what a data set is called."""

import re

import msgspec
import pytest

from ossia.data.dataset import Dataset
from ossia.data.description import Description, describe
from ossia.data.synthetic import synthetic
from ossia.evaluation.bootstrap import Interval
from ossia.evaluation.log_page import render_log_page, verdict, warning
from ossia.evaluation.sequential import Sequentiality, measure_order

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic(60, 20, 8, predictability=0.7, seed=1)


def page_of(data: Dataset, name: str = "a log", description: Description | None = None) -> str:
    order = measure_order(data.split(), data.items)
    return render_log_page(name, description or describe(data), order, data.info)


def test_the_page_is_one_file_that_fetches_and_runs_nothing(data: Dataset) -> None:
    page = page_of(data)
    assert not re.search(r"<(script|link|iframe|img)\b|https?://|@import|url\(", page)
    assert page.count("<section>") == 5
    assert page == page_of(data)


def test_names_are_escaped(data: Dataset) -> None:
    info = msgspec.structs.replace(data.info, source={"path": EVIL})
    page = page_of(Dataset(data.histories, data.user_ids, data.item_ids, None, info, data.times), name=EVIL)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 2


def test_a_log_without_times_has_no_picture_of_them(data: Dataset) -> None:
    page = page_of(data, description=msgspec.structs.replace(describe(data), span=None, tie_share=None, ascending_ties=None))
    assert "<h2>Time</h2>" not in page
    assert "<h2>Lengths</h2>" in page


def test_the_figures_on_the_page_are_those_measured(data: Dataset) -> None:
    order, page = measure_order(data.split(), data.items), page_of(data)
    for row in order.rows:
        assert f"{row.ndcg_at_10.mean:.4f}" in page
    assert f"{describe(data).popularity.gini:.3f}" in page


def test_the_verdict_follows_the_interval() -> None:
    def found(low: float, high: float) -> str:
        return verdict(Sequentiality(10, (), Interval((low + high) / 2, low, high, 0.5)))

    assert found(0.01, 0.03) == "Order matters: a bigram gains NDCG@10 +0.0200 (+0.0100 … +0.0300) against shuffled copies."
    assert found(-0.01, 0.03).startswith("No sign that order matters")
    assert found(-0.03, -0.01).startswith("No sign that order matters")


@pytest.mark.parametrize(
    ("tied", "ascending", "warns"),
    [(0.5, 0.9, True), (0.5, 0.1, True), (0.5, 0.5, False), (0.01, 0.9, False), (None, None, False)],
)
def test_ties_in_order_of_id_are_warned_of(data: Dataset, tied: float | None, ascending: float | None, warns: bool) -> None:
    description = msgspec.structs.replace(describe(data), tie_share=tied, ascending_ties=ascending)
    assert (warning(description) is not None) == warns
