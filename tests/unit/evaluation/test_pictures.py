"""Pictures of codes: every channel is drawn once, in the color of its width, pale exactly where users agree."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossia.errors import UsageError
from ossia.evaluation.bootstrap import Interval
from ossia.evaluation.pictures import UserCodes, average_bits, draw_codes, draw_interval
from ossia.types import WIDTHS, Slot

SLOTS = (Slot("blocks.0.query", 64, 8), Slot("blocks.0.expand", 100, 8), Slot("blocks.1.query", 7, 32))
CHANNELS = 171


def cells(picture: str) -> dict[tuple[str, str], str]:
    """Map the corner of each cell to the class of its path."""
    drawn = {}
    for kind, path in re.findall(r'<path class="([^"]*)" d="([^"]*)"/>', picture):
        for corner in re.findall(r"M(\d+) (\d+)h", path):
            assert corner not in drawn, "a cell drawn twice"
            drawn[corner] = kind
    return drawn


@given(st.integers(0, 1000), st.integers(1, 3))
def test_every_channel_is_one_cell_in_the_color_of_its_width(seed: int, users: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 4, (users, CHANNELS)).astype(np.uint8)
    pictures = draw_codes(SLOTS, [UserCodes(str(user), "", row) for user, row in enumerate(codes)])
    drawn = [cells(picture) for picture in pictures]
    agree = np.all(codes == codes[0], axis=0) if users > 1 else np.zeros(CHANNELS, bool)
    for row, kinds in zip(codes, drawn, strict=True):
        assert len(kinds) == CHANNELS
        assert sum("alike" in kind for kind in kinds.values()) == agree.sum()
        for code, width in enumerate(WIDTHS):
            assert sum(kind.split()[0] == f"width-{width}" for kind in kinds.values()) == (row == code).sum()
    assert all(kinds.keys() == drawn[0].keys() for kinds in drawn)  # a channel has one place in all pictures


def test_channels_stand_in_wire_order_line_by_line() -> None:
    codes = np.zeros(CHANNELS, np.uint8)
    codes[[0, 64, 128]] = 3  # first cell of the first slot, of the second, and of the second's second line
    corners = sorted(corner for corner, kind in cells(draw_codes(SLOTS, [UserCodes("a", "", codes)])[0]).items() if "8" in kind)
    assert len({x for x, _ in corners}) == 1
    assert len({y for _, y in corners}) == 3


def test_average_bits_weigh_channels_by_their_inputs() -> None:
    codes = np.zeros(CHANNELS, np.uint8)
    codes[164:] = 3  # 7 channels of 32 inputs at 8 bits
    assert average_bits(SLOTS, codes) == pytest.approx(7 * 32 * 8 / (164 * 8 + 7 * 32))


def test_codes_of_another_length_are_refused() -> None:
    with pytest.raises(UsageError, match="codes of Ann: expected 171 channels, got 3"):
        draw_codes(SLOTS, [UserCodes("Ann", "", np.zeros(3, np.uint8))])


def test_names_are_escaped() -> None:
    picture = draw_codes((Slot("a<b>.q&r", 1, 1),), [UserCodes('"<script>', "", np.zeros(1, np.uint8))])[0]
    assert "<script>" not in picture
    assert "q&amp;r" in picture
    assert "a&lt;b&gt;" in picture


def test_the_whisker_spans_the_interval_and_the_bar_ends_at_the_mean() -> None:
    bar = draw_interval(Interval(0.5, 0.25, 1.0), most=2.0, family="base")
    assert 'style="width:25.00%"' in bar
    assert 'style="left:12.50%;width:37.50%"' in bar


def test_a_bar_never_leaves_its_cell_to_the_left() -> None:
    assert "left:0.00%;width:10.00%" in draw_interval(Interval(0.01, -0.2, 0.1), most=1.0, family="base")
