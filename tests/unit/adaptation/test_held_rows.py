"""A refresh sends what is not held, to the byte, and the whole comes out of it as if all had been sent."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossia.adaptation import Base, costs
from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.allocate import Importance, make_plan
from ossia.adaptation.held_rows import DEEP, MOST_BYTES, decode_held, encode_held, join_rows, let_stay, missing_rows
from ossia.adaptation.prices import row_prices
from ossia.errors import PayloadError
from ossia.simulation.stand_in import make_base
from ossia.types import Budget

CODES = st.lists(st.integers(0, 3), min_size=40, max_size=40).map(lambda listed: np.array(listed, np.uint8))


def widths(base: Base) -> tuple[int, int, int]:
    return tuple(base.table.planes[name].shape[1] for name in ("plane2", "plane4", "plane8"))


@settings(max_examples=150)
@given(wanted=CODES, held=CODES)
def test_what_is_held_and_what_is_sent_are_the_whole(base: Base, wanted: np.ndarray, held: np.ndarray) -> None:
    sent = missing_rows(base.table, wanted, held)
    assert join_rows(widths(base), wanted, held, base.table.row_bytes(held), sent) == base.table.row_bytes(wanted)
    assert np.array_equal(decode_held(encode_held(held), 40), held)


@given(wanted=CODES, held=CODES, seed=st.integers(0, 99))
def test_a_row_that_is_held_stays_while_it_is_among_the_best_2_n_and_none_beyond_is_named(
    wanted: np.ndarray, held: np.ndarray, seed: int
) -> None:
    importance = np.random.default_rng(seed).random(40)
    staying, rank = let_stay(wanted, importance, held), np.argsort(np.argsort(-importance))
    assert np.array_equal(np.sort(staying), np.sort(wanted))
    named, count = staying > 0, int((wanted > 0).sum())
    near = rank < DEEP * count
    assert not (named & ~near).any()
    assert (named & (held > 0)).sum() == min(count, (near & (held > 0)).sum())
    assert (np.diff(staying[np.argsort(rank)][named[np.argsort(rank)]].astype(int)) <= 0).all()  # the best are the widest


def test_rows_do_not_stay_where_the_list_of_them_would_break_the_budget(tmp_path: Path) -> None:
    """Rows far apart take two bytes each in the list, rows side by side one."""
    base, importance, held = make_base(tmp_path / "base", 3000), np.zeros(3000), np.zeros(3000, np.uint8)
    importance[:19], importance[150::150], held[150::150] = 1.0, 0.9, 1
    matters = Importance(np.ones(base.channels), importance + 1e-9)
    loose = Budget(table_bytes=costs(base, Adaptation(rows=np.repeat([3, 0], [15, 2985]).astype(np.uint8))).table_bytes)
    alone = make_plan(base, loose).allocate(matters)
    staying = make_plan(base, loose).allocate(matters, held)
    assert (staying.rows[held > 0] > 0).any()
    tight = replace(loose, download_bytes=costs(base, alone).download_bytes)
    assert costs(base, staying).download_bytes > tight.download_bytes
    assert costs(base, make_plan(base, tight).allocate(matters, held)).download_bytes <= tight.download_bytes


@settings(max_examples=50)
@given(wanted=CODES, held=CODES)
def test_what_is_sent_is_what_the_price_list_says_and_the_scales_of_rows_that_get_coarser(
    base: Base, wanted: np.ndarray, held: np.ndarray
) -> None:
    prices = row_prices(base, Adaptation(rows=held), None).download[np.arange(40), wanted].sum()
    ids = 4 * ((wanted > 0) & (held == 0)).sum()
    coarser = 4 * ((wanted > 0) & (wanted < held)).sum()
    assert len(missing_rows(base.table, wanted, held)) == prices - ids + coarser


def test_nothing_held_costs_all_rows_and_everything_held_costs_nothing(base: Base) -> None:
    wanted, nothing = np.tile(np.arange(4, dtype=np.uint8), 10), np.zeros(40, np.uint8)
    assert missing_rows(base.table, wanted, nothing) == base.table.row_bytes(wanted)
    assert missing_rows(base.table, wanted, wanted) == b""
    assert encode_held(nothing) == b""


@pytest.mark.parametrize(
    "data", [b"\x01", b"\x01\x28\x00\x00", b"\x01\x05\x01\x05\x00", b"\x00\x00\x00\x00", b"\x80\x00\x00\x00"]
)
def test_lists_that_are_none_are_refused(data: bytes) -> None:
    with pytest.raises(PayloadError):
        decode_held(data, 40)


def test_other_lengths_are_refused_by_name(base: Base) -> None:
    wanted, held = np.full(40, 2, np.uint8), np.full(40, 1, np.uint8)
    kept, sent = base.table.row_bytes(held), missing_rows(base.table, wanted, held)
    for mine, theirs in ((kept[:-1], sent), (kept, sent + b"x"), (kept, b"")):
        with pytest.raises(PayloadError, match="rows: expected") as caught:
            join_rows(widths(base), wanted, held, mine, theirs)
        assert caught.value.refusal == "other_rows"


def test_a_device_that_holds_too_much_to_say_says_nothing() -> None:
    assert encode_held(np.tile(np.array([0, 3], np.uint8), MOST_BYTES)) == b""
