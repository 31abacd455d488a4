"""The frozen base in torch judges as the project's own judge does, and profiles are those that a device would send."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ossia.adaptation import Adaptation, Base, apply
from ossia.backbones import TorchRanker
from ossia.backbones.published import from_weights
from ossia.data import Cases, Histories
from ossia.evaluation import target_ranks
from ossia.service.rankers import make_profiles
from ossia.training.events import take_cases
from ossia.training.frozen import TEMPERATURES, FrozenBase, fit_temperature


@pytest.fixture(scope="module")
def cases() -> Cases:
    rng = np.random.default_rng(0)
    histories = [rng.integers(0, 40, size).tolist() for size in rng.integers(1, 12, 50)]
    return Cases(Histories.from_lists(histories), rng.integers(0, 40, 50).astype(np.int32), np.arange(50, dtype=np.int32))


@pytest.fixture(scope="module")
def frozen(base: Base) -> FrozenBase:
    return FrozenBase.load(base, (2, 4, 8), torch.device("cpu"))


def test_ranks_are_those_of_the_projects_judge(base: Base, frozen: FrozenBase, cases: Cases) -> None:
    ranker = TorchRanker(from_weights(apply(base, Adaptation())))
    assert np.array_equal(frozen.judge(frozen.events(cases)).ranks, target_ranks(ranker, cases, 40))


def test_a_coarse_table_is_scored_and_read(base: Base, cases: Cases) -> None:
    weights = apply(base, Adaptation(rows=np.full(40, 1, np.uint8)))
    coarse = FrozenBase.load(base, (2, 8), torch.device("cpu"), table=2)
    twin = from_weights(replace(weights, history_rows=weights.rows))
    assert np.array_equal(coarse.vectors.numpy(), weights.rows.dequantize())
    assert np.array_equal(coarse.judge(coarse.events(cases)).ranks, target_ranks(TorchRanker(twin), cases, 40))


def test_each_event_is_judged_with_its_own_widths(base: Base, frozen: FrozenBase, cases: Cases) -> None:
    codes = np.random.default_rng(1).choice(np.array([1, 2, 3], np.uint8), (50, base.channels))
    steps = torch.from_numpy(np.stack([codes >= 2, codes >= 3], axis=1).astype(np.float32))
    judged = frozen.judge(frozen.events(cases), steps)
    for case in (0, 7, 23):
        alone = take_cases(cases, np.array([case]))
        ranker = TorchRanker(from_weights(apply(base, Adaptation(codes=codes[case]))))
        assert judged.ranks[case] == target_ranks(ranker, alone, 40)[0]
        logits = torch.from_numpy(ranker.scores_many([cases.histories[case]])[0])
        expected = logits.log_softmax(dim=0)[int(cases.targets[case])]
        assert judged.log_likelihood[case] == pytest.approx(float(expected), abs=1e-4)


def test_profiles_are_those_that_devices_send(base: Base, frozen: FrozenBase, cases: Cases) -> None:
    sent = np.stack([profile.state for profile in make_profiles(base, list(cases.histories))])
    found = frozen.events(cases).profiles.numpy()
    one_unit = np.abs(sent).max(axis=1, keepdims=True) / 127  # torch and numpy differ in the last digits: one step at most
    assert (np.abs(found - sent) <= 1.01 * one_unit).all()
    assert (np.abs(found - sent) <= 1e-4 * one_unit).mean() > 0.99


def test_the_temperature_is_that_at_which_targets_were_drawn(base: Base, frozen: FrozenBase) -> None:
    rng = np.random.default_rng(0)
    histories = Histories.from_lists([rng.integers(0, 40, 5).tolist() for _ in range(2000)])
    blank = Cases(histories, np.zeros(2000, np.int32), np.arange(2000, dtype=np.int32))
    logits = frozen.logits(frozen.states(frozen.events(blank).batch(np.arange(2000)).histories))
    drawn = (logits / 2).softmax(dim=1).multinomial(1, generator=torch.Generator().manual_seed(0))[:, 0]
    found = fit_temperature(frozen, frozen.events(Cases(histories, drawn.numpy().astype(np.int32), blank.users)))
    assert found == pytest.approx(2.0, rel=1.5 * (TEMPERATURES[1] / TEMPERATURES[0] - 1))


def test_a_batch_holds_the_events_that_were_asked_for(frozen: FrozenBase, cases: Cases) -> None:
    events = frozen.events(cases)
    seen = []
    for batch in events.batches(60, np.random.default_rng(0)):
        seen += batch.rows.tolist()
        for place, row in enumerate(batch.rows.tolist()):
            kept = batch.histories[place][batch.histories[place] >= 0].tolist()
            assert kept == cases.histories[row][-6:].tolist()
            assert int(batch.targets[place]) == cases.targets[row]
            assert torch.equal(batch.profiles[place], events.profiles[row])
    assert sorted(seen) == list(range(50))
