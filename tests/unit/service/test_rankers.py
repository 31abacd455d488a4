"""From adaptations to rankers by the device's own way."""

import numpy as np
import pytest

from ossia.adaptation import WHOLE, Adaptation, Base, costs
from ossia.device import RUNTIMES
from ossia.errors import PayloadError, UsageError
from ossia.service.rankers import deliver, make_profiles, pick_runtime, price, receive, unpack
from ossia.types import Candidates

HISTORIES = [np.array([3, 1, 4], np.int32), np.array([], np.int32), np.array([9, 2, 6, 5, 3, 5, 8, 9], np.int32)]


def codes(base: Base, seed: int) -> Adaptation:
    return Adaptation(codes=np.random.default_rng(seed).integers(0, 4, base.channels).astype(np.uint8))


def rows(base: Base, seed: int) -> Adaptation:
    return Adaptation(rows=np.random.default_rng(seed).integers(0, 4, len(base.table)).astype(np.uint8))


def test_a_ranker_from_bytes_scores_as_the_adaptation_itself(base: Base) -> None:
    adaptations = [codes(base, 1), rows(base, 2), Adaptation()]
    rankers = receive(base, deliver(base, adaptations))
    everything = Candidates(np.arange(len(base.table)))
    for number, adaptation in enumerate(adaptations):
        expected = RUNTIMES["numpy"](base, adaptation).scores(HISTORIES[0], everything)
        assert np.array_equal(rankers(number).scores(HISTORIES[0], everything), expected)


def test_a_profile_is_the_clipped_state_within_half_a_step(base: Base) -> None:
    ranker, clip = RUNTIMES["numpy"](base, Adaptation()), base.manifest.profile_clip
    for history, profile in zip(HISTORIES, make_profiles(base, HISTORIES), strict=True):
        expected = np.clip(ranker.state(history), -clip, clip)
        assert np.abs(profile.state - expected).max() <= profile.scale * 0.5001


def test_a_user_without_history_sends_zeros(base: Base) -> None:
    assert not make_profiles(base, [HISTORIES[1]])[0].values.any()


def test_codes_cost_their_payload_and_rows_their_bytes_too(base: Base) -> None:
    with_codes, with_rows = price(base, codes(base, 1)), price(base, rows(base, 2))
    assert with_codes.download_bytes == with_codes.payload_bytes
    assert with_rows.download_bytes > with_rows.payload_bytes == costs(base, rows(base, 2), on_device=WHOLE).payload_bytes


def test_bytes_are_means_over_devices(base: Base) -> None:
    sent = deliver(base, [codes(base, 1), Adaptation()])
    assert sent.payload_bytes == np.mean([len(payload) for payload in sent.payloads])
    assert sent.rest_bytes == np.mean([cost.weight_bytes + cost.table_bytes for cost in sent.costs])


def test_a_delivery_to_others_costs_the_same_and_ranks_for_others(base: Base) -> None:
    sent = deliver(base, [codes(base, seed) for seed in range(3)])
    moved = sent.to(np.array([1, 2, 0]))
    assert moved.payloads == (sent.payloads[1], sent.payloads[2], sent.payloads[0])
    assert moved.rest_bytes == pytest.approx(sent.rest_bytes)


def test_the_same_adaptations_give_the_same_bytes(base: Base) -> None:
    assert deliver(base, [codes(base, 5)]).payloads == deliver(base, [codes(base, 5)]).payloads


def test_a_payload_of_another_base_is_refused(base: Base, make_base) -> None:
    with pytest.raises(PayloadError, match="base"):
        unpack(make_base(seed=1), deliver(base, [codes(base, 1)]).payloads[0])


def test_unknown_runtimes_and_empty_deliveries_are_usage_errors(base: Base) -> None:
    with pytest.raises(UsageError, match="numpy_int8"):
        pick_runtime("abacus")
    with pytest.raises(UsageError, match="at least one"):
        deliver(base, [])
