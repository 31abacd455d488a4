"""Every event trains exactly once an epoch, next to others of its length, and the order is the generator's alone."""

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ossia.data import Histories
from ossia.training.batches import Batch, Windows, cut_windows, epoch_batches, group_by_size
from ossia.types import ABSENT

users = st.lists(st.integers(0, 30), max_size=12)


def lay_out(lengths: list[int]) -> Histories:
    """Every event is an item of its own, so that it can be recognised."""
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
@given(lengths=users, length=st.integers(1, 8), events=st.integers(1, 40))
def test_batches_are_left_padded_and_cropped_to_the_longest(lengths: list[int], length: int, events: int) -> None:
    for batch in batches(cut_windows(lay_out(lengths), length), events):
        real = (batch.inputs != ABSENT).int()
        assert (real.diff(dim=1) >= 0).all()
        assert real[:, 0].any()
        assert real[:, -1].all()


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


def test_batches_do_not_come_in_order_of_length() -> None:
    windows = cut_windows(lay_out(list(range(3, 40)) * 4), 50)
    widths = [batch.inputs.shape[1] for batch in batches(windows, 100)]
    assert widths != sorted(widths)
    assert widths != sorted(widths, reverse=True)


def test_nobody_to_train_on_gives_no_batches() -> None:
    assert batches(cut_windows(lay_out([]), 5), 10) == []
    assert batches(cut_windows(lay_out([1, 0]), 5), 10) == []
