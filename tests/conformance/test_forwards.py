"""Twins on purpose: each backbone's forward in torch and on the device, within 1e-5 of the largest score in float32."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from ossia.adaptation import Adaptation, Base
from ossia.backbones import BACKBONES
from ossia.backbones.published import from_weights
from ossia.device.forward import FORWARDS
from ossia.device.ranking import rerank
from ossia.device.runtimes import DeviceRanker, numpy_ranker
from ossia.personalizers import relaxed_slot, weights_at
from ossia.types import Candidates

BOUND = 1e-5  # of the largest score
REFERENCE = {
    "sasrec": {"dim": 64, "length": 50, "hidden": 256},
    "caser": {"dim": 64, "length": 5, "vertical": 4, "horizontal": 16},
    "gru4rec": {"dim": 64, "length": 50, "hidden": 128},
    "sasrec with valves": {"dim": 64, "length": 50, "hidden": 64},
}


@pytest.fixture(scope="module", params=REFERENCE)
def kind_base(request: pytest.FixtureRequest, base_of: Callable[..., Base]) -> Base:
    """A base of each backbone at its reference size."""
    return base_of(request.param, items=300, **REFERENCE[request.param])


def random_adaptation(base: Base, seed: int) -> Adaptation:
    """Draw gates, codes of all four widths, and rows of all four widths; 0 stands for the base itself."""
    random = np.random.default_rng(seed)
    sizes, ends = (len(base.manifest.gates), base.channels, len(base.table)), (2, 4, 4)
    gates, codes, rows = (random.integers(0, end, size).astype(np.uint8) for size, end in zip(sizes, ends, strict=True))
    return Adaptation(gates, codes, rows=rows) if seed else Adaptation()


def twin_scores(ranker: DeviceRanker, history: np.ndarray) -> np.ndarray:
    """Score every row that the device holds by torch's state of the same weights; −inf for the others."""
    with torch.no_grad():
        state = from_weights(ranker.weights)(torch.from_numpy(history)[None])[0, -1].numpy()
    rows, held = ranker.weights.rows.dequantize(), ranker.weights.held.copy()
    rows[history], held[history] = ranker.weights.history_rows.dequantize()[history], True
    return np.where(held, rows @ state, np.float32(-np.inf))


@pytest.mark.parametrize("seed", range(12))
def test_the_device_and_torch_agree_for_any_adaptation(kind_base: Base, seed: int) -> None:
    items = len(kind_base.table)
    ranker = numpy_ranker(kind_base, random_adaptation(kind_base, seed))
    history = np.random.default_rng(seed).integers(0, items, 1 + 7 * seed % kind_base.manifest.shape["length"])
    everything = Candidates(np.arange(items))
    expected, got = twin_scores(ranker, history), ranker.scores(history, everything)
    held = np.isfinite(expected)
    assert (np.isfinite(got) == held).all()
    bound = BOUND * np.abs(expected[held]).max()
    assert np.abs(got[held] - expected[held]).max() <= bound
    best = rerank(ranker, history, everything, 10).items
    assert np.abs(expected[best] - np.sort(expected)[::-1][:10]).max() <= bound  # equal but for swaps within the bound


@pytest.mark.parametrize("seed", range(3))
def test_widths_per_user_in_torch_are_the_codes_of_a_device(kind_base: Base, seed: int) -> None:
    """What personalizers learn with: a batch of users, each with codes of their own, through the joint."""
    random, alphabet, length = np.random.default_rng(seed), (0, 2, 4, 8), kind_base.manifest.shape["length"]
    codes = random.integers(0, 4, (3, kind_base.channels)).astype(np.uint8)
    steps = torch.from_numpy((codes[:, None] > np.arange(3)[:, None]).astype(np.float32))
    histories = random.integers(0, len(kind_base.table), (3, length))
    twin, joint = (
        from_weights(numpy_ranker(kind_base, Adaptation()).weights),
        relaxed_slot(weights_at(kind_base, alphabet), steps),
    )
    with torch.no_grad():
        together = twin(torch.from_numpy(histories), slot=joint)[:, -1].numpy()
    for user, history in enumerate(histories):
        alone = numpy_ranker(kind_base, Adaptation(codes=codes[user])).state(history)
        assert np.abs(together[user] - alone).max() <= BOUND * np.abs(alone).max()


def test_a_device_can_run_every_backbone_that_can_be_trained() -> None:
    assert set(FORWARDS) == set(BACKBONES)
