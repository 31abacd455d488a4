"""A backbone as a ranker: candidates in any order, histories of any length, items that are not there."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ossia.backbones import SASRec, TorchRanker
from ossia.backbones.ranker import encode, pad_left
from ossia.types import ABSENT, Candidates

ITEMS, LENGTH = 20, 5
items = st.lists(st.integers(0, ITEMS - 1), min_size=1, max_size=12)


def make() -> TorchRanker:
    torch.manual_seed(0)
    return TorchRanker(SASRec(ITEMS, dim=8, length=LENGTH, blocks=1, heads=2, hidden=16))


@settings(max_examples=40)
@given(history=items, candidates=items, seed=st.integers(0, 100))
def test_permuting_candidates_permutes_scores(history: list[int], candidates: list[int], seed: int) -> None:
    ranker, order = make(), np.random.default_rng(seed).permutation(len(candidates))
    scores = ranker.scores(np.array(history), Candidates(np.array(candidates)))
    shuffled = ranker.scores(np.array(history), Candidates(np.array(candidates)[order]))
    np.testing.assert_allclose(shuffled, scores[order], rtol=0, atol=1e-6)


@settings(max_examples=40)
@given(history=items)
def test_cropping_a_history_to_what_the_model_reads_changes_nothing(history: list[int]) -> None:
    ranker, everything = make(), Candidates(np.arange(ITEMS))
    whole, cropped = (ranker.scores(np.array(part), everything) for part in (history, history[-LENGTH:]))
    assert np.array_equal(whole, cropped)


@settings(max_examples=40)
@given(history=items, places=st.lists(st.integers(0, 12), max_size=4))
def test_absent_items_take_no_position(history: list[int], places: list[int]) -> None:
    ranker, everything = make(), Candidates(np.arange(ITEMS))
    holed = list(history)
    for place in places:
        holed.insert(min(place, len(holed)), ABSENT)
    assert np.array_equal(ranker.scores(np.array(holed), everything), ranker.scores(np.array(history), everything))


@settings(max_examples=40)
@given(histories=st.lists(st.lists(st.integers(-1, ITEMS - 1), max_size=9), min_size=1, max_size=5))
def test_many_users_at_once_are_scored_as_one_by_one(histories: list[list[int]]) -> None:
    ranker = make()
    arrays = [np.array(history, np.int32) for history in histories]
    together = ranker.scores_many(arrays)
    alone = np.array([ranker.scores(history, Candidates(np.arange(ITEMS))) for history in arrays])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)


def test_an_empty_history_has_the_zero_state() -> None:
    backbone = make().backbone
    assert not encode(backbone, [np.array([], np.int32), np.array([ABSENT])]).any()


def test_absent_candidates_come_last_and_vectors_come_first() -> None:
    ranker, history = make(), np.array([3, 1])
    assert ranker.scores(history, Candidates(np.array([ABSENT, 4])))[0] == -np.inf
    vectors = ranker.backbone.items.weight.detach().numpy()[[4, 7]]
    own = ranker.scores(history, Candidates(np.array([ABSENT, ABSENT]), vectors))
    np.testing.assert_allclose(own, ranker.scores(history, Candidates(np.array([4, 7]))), rtol=0, atol=1e-6)


def test_a_ranker_does_not_drop_values() -> None:
    backbone = SASRec(ITEMS, dim=8, length=LENGTH, dropout=0.5)
    ranker = TorchRanker(backbone.train())
    assert np.array_equal(ranker.scores_many([np.array([1, 2])]), ranker.scores_many([np.array([1, 2])]))


def test_nobody_is_padded_to_nothing() -> None:
    assert pad_left([], 5).shape == (0, 1)
    assert pad_left([np.array([], np.int32)], 5).tolist() == [[ABSENT]]
