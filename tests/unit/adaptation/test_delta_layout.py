"""Which generated number goes where."""

import numpy as np
import pytest

from ossia.adaptation import Adaptation, Base, encode_payload
from ossia.adaptation.adaptation import Dense, LowRank
from ossia.adaptation.delta_layout import LARGEST, DeltaLayout
from ossia.errors import UsageError

NAMES = ("blocks.0.output", "blocks.1.contract")


def layout_of(base: Base, rank: int) -> DeltaLayout:
    return DeltaLayout.of(base.manifest.slots, NAMES, rank)


def test_numbers_are_read_slot_by_slot_left_before_right(base: Base) -> None:
    layout = layout_of(base, 2)
    numbers = np.arange(1, layout.numbers + 1, dtype=np.float32)
    first, second = layout.read(numbers)
    assert isinstance(first, LowRank) and isinstance(second, LowRank)
    read = np.concatenate([part.ravel() for part in (first.left, first.right, second.left, second.right)])
    assert (read == numbers).all()
    assert (first.left.shape, second.right.shape) == ((8, 2), (2, 16))


def test_a_dense_delta_is_the_matrix_row_by_row(base: Base) -> None:
    layout = layout_of(base, 0)
    numbers = np.arange(1, layout.numbers + 1, dtype=np.float32)
    first, _ = layout.read(numbers)
    assert isinstance(first, Dense)
    assert (first.expand() == numbers[:64].reshape(8, 8)).all()


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_bytes_are_those_of_the_payload(base: Base, rank: int) -> None:
    layout = layout_of(base, rank)
    sent = Adaptation(deltas=layout.read(np.ones(layout.numbers, np.float32)))
    assert len(encode_payload(base, sent, issued=0, expiry=1)) == 80 + 2 + 2 + layout.bytes_of(NAMES)


def test_nothing_is_not_sent(base: Base) -> None:
    layout = layout_of(base, 1)
    left_alone = np.zeros(layout.numbers, np.float32)
    left_alone[:8] = 1  # the first slot's left factor: its product with a right factor of zeros is nothing
    assert layout.read(left_alone) == ()
    assert layout.read(np.full(layout.numbers, 1e-9, np.float32)) == ()  # nothing in float16


def test_a_skipped_block_gets_no_delta(base: Base) -> None:
    numbers = np.ones(layout_of(base, 1).numbers, np.float32)
    assert [delta.slot for delta in layout_of(base, 1).read(numbers, {"blocks.0.attention"})] == [NAMES[1]]


def test_what_a_float16_can_not_hold_is_cut_off(base: Base) -> None:
    layout = layout_of(base, 1)
    (first, _) = layout.read(np.full(layout.numbers, 1e9, np.float32))
    assert isinstance(first, LowRank)
    assert first.left.max() == np.float16(LARGEST)


def test_an_unknown_slot_is_named(base: Base) -> None:
    with pytest.raises(UsageError, match=r"'blocks\.7\.output'"):
        DeltaLayout.of(base.manifest.slots, ["blocks.7.output"], 1)
    with pytest.raises(UsageError, match="rank 256"):
        DeltaLayout.of(base.manifest.slots, NAMES, 256)
