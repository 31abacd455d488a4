"""The table of results says the same thing in every dress, and a dash where nothing was measured."""

import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from ossia.errors import UsageError
from ossia.evaluation.bootstrap import Interval
from ossia.evaluation.metrics import gains_at_k
from ossia.evaluation.protocol import Judgement
from ossia.evaluation.results import Comparison, Provenance, Row, compare, make_row, with_bytes
from ossia.evaluation.table import comparison_cells, json_table, markdown_table, rich_table

PROVENANCE = Provenance(
    command="ossia evaluate BASE",
    seeds=(0, 1),
    machine="2 cores",
    versions={"torch": "2.13.0", "numpy": "2.4.0"},
    data="ml-100k",
    data_hash="c0ffee",
    date="2026-01-02",
)
ROWS = (
    Row("popularity", "baseline", Interval(0.0449, 0.04, 0.05), Interval(0.0859, 0.07, 0.1)),
    Row("per|sonal [b]", "personal", Interval(0.08, 0.07, 0.09), Interval(0.17, 0.15, 0.19), 158_120.4, 368, 368),
)


def test_a_row_has_the_figures_of_its_ranks() -> None:
    ranks = np.random.default_rng(0).integers(1, 30, 200)
    row = make_row(Judgement("some", ranks, 0.25), "base", seed=3)
    assert row.ndcg_at_10.mean == pytest.approx(gains_at_k(ranks, 10).mean())
    assert row.hr_at_10.mean == pytest.approx((ranks <= 10).mean())
    assert row.ndcg_at_10.low < row.ndcg_at_10.mean < row.ndcg_at_10.high
    assert (row.name, row.cases, row.repeat_share, row.rest_bytes) == ("some", 200, 0.25, None)


def test_bytes_are_added_to_a_new_row() -> None:
    row = with_bytes(ROWS[0], rest_bytes=10, payload_bytes=3)
    assert (row.rest_bytes, row.device_bytes, row.payload_bytes) == (10, None, 3)
    assert ROWS[0].rest_bytes is None


def test_a_comparison_is_paired() -> None:
    ranks = np.random.default_rng(1).integers(1, 15, 300)
    better = np.maximum(1, ranks - 1)
    comparison = compare(Judgement("better", better, 0.0), Judgement("plain", ranks, 0.0))
    assert comparison.ndcg_at_10.mean == pytest.approx((gains_at_k(better, 10) - gains_at_k(ranks, 10)).mean())
    assert comparison.ndcg_at_10.low > 0
    with pytest.raises(UsageError, match="same users"):
        compare(Judgement("better", better, 0.0), Judgement("plain", ranks[1:], 0.0))


def test_markdown_has_a_cell_for_every_column_and_dashes_for_what_was_not_measured() -> None:
    text = markdown_table(ROWS, PROVENANCE)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert lines[2] == "| popularity | 0.0449 | 0.0400–0.0500 | 0.0859 | 0.0700–0.1000 | – | – | – |"
    assert lines[3] == "| per\\|sonal [b] | 0.0800 | 0.0700–0.0900 | 0.1700 | 0.1500–0.1900 | 158,120 | 368 | 368 |"
    assert {line.replace("\\|", "").count("|") for line in lines} == {9}
    for told in ("`ossia evaluate BASE`", "0, 1", "2 cores", "numpy 2.4.0, torch 2.13.0", "ml-100k, `c0ffee`", "2026-01-02"):
        assert told in text


def test_json_keeps_numbers_as_they_are_and_null_for_what_was_not_measured() -> None:
    comparison = Comparison("a", "b", Interval(0.1, 0.05, 0.15, 0.004))
    whole = json.loads(json_table(ROWS, PROVENANCE, [comparison]))
    assert [row["name"] for row in whole["rows"]] == ["popularity", "per|sonal [b]"]
    assert whole["rows"][0]["rest_bytes"] is None
    assert whole["rows"][1]["ndcg_at_10"] == {"mean": 0.08, "low": 0.07, "high": 0.09, "p": None}
    assert whole["rows"][1]["rest_bytes"] == 158_120.4
    assert whole["comparisons"][0]["ndcg_at_10"]["p"] == 0.004
    assert whole["provenance"]["seeds"] == [0, 1]


def test_the_terminal_shows_names_as_they_are_and_every_figure() -> None:
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115 swallowed
    console.print(rich_table(ROWS, title="results"))
    text = console.export_text()
    for told in ("results", "per|sonal [b]", "0.0449", "0.1500–0.1900", "158,120", "–"):
        assert told in text


@pytest.mark.parametrize(("p", "shown"), [(0.0004, "< 0.001"), (0.0314, "0.031"), (1.0, "1.000"), (None, "–")])
def test_a_comparison_shows_its_sign_and_p(p: float | None, shown: str) -> None:
    cells = comparison_cells(Comparison("a", "b", Interval(-0.01, -0.02, 0.005, p)))
    assert cells == ("a", "b", "−0.0100", "−0.0200 … +0.0050", shown)


def test_comparisons_follow_in_markdown() -> None:
    comparison = Comparison("a", "b", Interval(0.01, 0.005, 0.02, 0.03))
    assert "| a | b | +0.0100 | +0.0050 … +0.0200 | 0.030 |" in markdown_table(ROWS, PROVENANCE, [comparison])


def test_rows_are_values() -> None:
    assert replace(ROWS[0]) == ROWS[0]
    with pytest.raises(AttributeError):
        ROWS[0].name = "other"  # type: ignore[misc]
