"""Twins on purpose: each backbone's forward in torch and on the device, within 1e-5 of the largest score in float32."""

import numpy as np
import pytest
import torch

from ossia.adaptation import Adaptation, Base
from ossia.backbones import BACKBONES
from ossia.backbones.published import from_weights
from ossia.device.forward import FORWARDS
from ossia.device.ranking import rerank
from ossia.device.runtimes import DeviceRanker, numpy_ranker
from ossia.types import Candidates

BOUND = 1e-5  # of the largest score


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
def test_the_device_and_torch_agree_for_any_adaptation(reference_base: Base, seed: int) -> None:
    items = len(reference_base.table)
    ranker = numpy_ranker(reference_base, random_adaptation(reference_base, seed))
    history = np.random.default_rng(seed).integers(0, items, 1 + 7 * seed % 50)
    everything = Candidates(np.arange(items))
    expected, got = twin_scores(ranker, history), ranker.scores(history, everything)
    held = np.isfinite(expected)
    assert (np.isfinite(got) == held).all()
    bound = BOUND * np.abs(expected[held]).max()
    assert np.abs(got[held] - expected[held]).max() <= bound
    best = rerank(ranker, history, everything, 10).items
    assert np.abs(expected[best] - np.sort(expected)[::-1][:10]).max() <= bound  # equal but for swaps within the bound


def test_a_device_can_run_every_backbone_that_can_be_trained() -> None:
    assert set(FORWARDS) == set(BACKBONES)
