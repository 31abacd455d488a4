"""Every event trains exactly once an epoch, alone with its own past, and the order is the generator's."""

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ossia.backbones import SASRec
from ossia.data import Histories
from ossia.training.batches import (
    Batch,
    Windows,
    cut_windows,
    epoch_batches,
    first_fit,
    group_at_random,
    group_by_size,
)
from ossia.types import ABSENT

users = st.lists(st.integers(0, 30), max_size=12)


def lay_out(lengths: list[int]) -> Histories:
    """Every event is an item of its own, so that it can be recognized."""
    ends = np.cumsum([0, *lengths])
    return Histories.from_lists([list(range(start, end)) for start, end in pairwise(ends)])


def batches(windows: Windows, events: int, seed: int = 0) -> list[Batch]:
    return list(epoch_batches(windows, events, np.random.default_rng(seed)))


@settings(max_examples=60)
@given(lengths=users, length=st.integers(1, 8))
def test_every_event_but_a_users_first_is_a_target_exactly_once(lengths: list[int], length: int) -> None:
    histories = lay_out(lengths)
    windows = cut_windows(histories, length)
    targets = [
        event for start, size in zip(windows.starts, windows.sizes, strict=True) for event in range(start + 1, start + size + 1)
    ]
    firsts = {int(start) for start, n in zip(histories.offsets, lengths, strict=False) if n}
    assert sorted(targets) == [event for event in range(sum(lengths)) if event not in firsts]
    assert (windows.sizes <= length).all()


@settings(max_examples=60)
@given(lengths=users, length=st.integers(1, 8))
def test_only_a_users_oldest_window_is_short(lengths: list[int], length: int) -> None:
    histories = lay_out(lengths)
    windows = cut_windows(histories, length)
    for start in windows.starts[windows.sizes < length]:
        assert start in histories.offsets


@settings(max_examples=60)
@given(lengths=users, length=st.integers(1, 8), events=st.integers(1, 40), seed=st.integers(0, 9))
def test_batches_hold_every_target_with_the_item_before_it(lengths: list[int], length: int, events: int, seed: int) -> None:
    histories = lay_out(lengths)
    pairs = []
    for batch in batches(cut_windows(histories, length), events, seed):
        real = batch.inputs != ABSENT
        assert torch.equal(real, batch.targets != ABSENT)
        pairs += list(zip(batch.inputs[real].tolist(), batch.targets[real].tolist(), strict=True))
    assert len(set(pairs)) == len(pairs) == sum(max(n - 1, 0) for n in lengths)
    assert all(target == before + 1 for before, target in pairs)


@settings(max_examples=60)
@given(sizes=st.lists(st.integers(1, 12), min_size=1, max_size=40), room=st.integers(12, 15))
def test_pieces_fit_their_rows_and_never_overlap(sizes: list[int], room: int) -> None:
    rows, columns = first_fit(sizes, room)
    cells = [
        (int(row), column)
        for row, start, size in zip(rows, columns, sizes, strict=True)
        for column in range(start, start + size)
    ]
    assert len(set(cells)) == len(cells)
    assert max(column for _, column in cells) < room
    assert sorted(set(rows.tolist())) == list(range(int(rows.max()) + 1))


@settings(max_examples=60)
@given(lengths=users, length=st.integers(1, 8), events=st.integers(1, 40))
def test_a_piece_is_one_window_whole_and_counts_from_its_newest_event(lengths: list[int], length: int, events: int) -> None:
    windows = cut_windows(lay_out(lengths), length)
    seen = []
    for batch in batches(windows, events):
        assert torch.equal(batch.pieces == -1, batch.inputs == ABSENT)
        for piece in range(int(batch.pieces.max()) + 1):
            rows, columns = torch.nonzero(batch.pieces == piece, as_tuple=True)
            assert len(rows.unique()) == 1
            assert columns.tolist() == list(range(int(columns[0]), int(columns[0]) + len(columns)))
            assert batch.positions[rows, columns].tolist() == list(range(len(columns)))[::-1]
            seen.append((int(batch.inputs[rows[0], columns[0]]), len(columns)))
    assert sorted(seen) == sorted(zip(windows.starts.tolist(), windows.sizes.tolist(), strict=True))


@torch.no_grad()
def test_a_packed_window_gets_the_states_that_it_gets_alone() -> None:
    torch.manual_seed(0)
    model = SASRec(items=60, dim=8, length=6, blocks=2, heads=2, hidden=16).eval()
    windows = cut_windows(lay_out([3, 9, 2, 20, 5, 4]), 6)
    packed = windows.packed(np.arange(len(windows)))
    assert len(packed.inputs) < len(windows)  # or this test would show nothing
    states = model.encode(model.items(packed.inputs.clamp_min(0)), packed.positions, packed.pieces)
    for window, (start, size) in enumerate(zip(windows.starts, windows.sizes, strict=True)):
        alone = model(torch.from_numpy(windows.events[start : start + size].astype(np.int64))[None])[0]
        assert torch.allclose(states[packed.pieces == window], alone, atol=1e-6)


@settings(max_examples=60)
@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=80), events=st.integers(1, 200), seed=st.integers(0, 9))
def test_groups_at_random_hold_every_window_once_and_about_as_much_as_asked(sizes: list[int], events: int, seed: int) -> None:
    array = np.array(sizes, np.int64)
    groups = group_at_random(array, events, np.random.default_rng(seed))
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(sizes)))
    assert all(0 < array[group].sum() < events + array[group].max() for group in groups)


@settings(max_examples=60)
@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=80), events=st.integers(1, 200), seed=st.integers(0, 9))
def test_groups_are_of_similar_size_and_about_as_large_as_asked(sizes: list[int], events: int, seed: int) -> None:
    array = np.array(sizes, np.int64)
    groups = group_by_size(array, events, np.random.default_rng(seed))
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(sizes)))
    for earlier, later in pairwise(groups):
        assert array[earlier].max() <= array[later].min()
    assert all(array[group].sum() < events + array[group].max() for group in groups)


def test_little_is_padded_where_a_fixed_width_would_be_padding_nearly_all() -> None:
    lengths = np.random.default_rng(0).geometric(0.15, 3_000) + 2
    windows = cut_windows(lay_out(lengths.tolist()), 50)
    epoch = batches(windows, 512)
    real, columns = (
        sum(int(n) for n in counts)
        for counts in ([(b.inputs != ABSENT).sum() for b in epoch], [b.inputs.numel() for b in epoch])
    )
    assert real / columns > 0.95
    assert real / (len(windows) * 50) < 0.2


def test_an_epoch_is_a_function_of_its_generator() -> None:
    windows = cut_windows(lay_out([5, 9, 3, 3, 30, 8, 8, 8, 2]), 6)
    first, again, other = (batches(windows, 10, seed) for seed in (1, 1, 2))
    assert all(torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets) for a, b in zip(first, again, strict=True))
    assert any(
        a.inputs.shape != b.inputs.shape or not torch.equal(a.inputs, b.inputs) for a, b in zip(first, other, strict=False)
    )


def test_a_batch_holds_users_of_every_length() -> None:
    windows = cut_windows(lay_out(list(range(3, 40)) * 4), 50)
    spreads = [np.ptp(np.unique(batch.pieces[batch.pieces >= 0], return_counts=True)[1]) for batch in batches(windows, 400)]
    assert min(spreads[:-1]) > 10


def test_nobody_to_train_on_gives_no_batches() -> None:
    assert batches(cut_windows(lay_out([]), 5), 10) == []
    assert batches(cut_windows(lay_out([1, 0]), 5), 10) == []
