"""First-order sensitivities are gradients, the ridge finds a law that is there and none that is not."""

import numpy as np
import pytest
import torch

from ossia.adaptation import Base
from ossia.data import Cases, Histories
from ossia.personalizers import Chord
from ossia.training.frozen import FrozenBase
from ossia.training.personalizer import make_personalizer
from ossia.training.personalizer_recipe import PersonalizerRecipe
from ossia.training.sensitivities import Features, fit_ridge, implied_importance, sensitivities, warm_start


@pytest.fixture(scope="module")
def frozen(base: Base) -> FrozenBase:
    return FrozenBase.load(base, (2, 4, 8), torch.device("cpu"))


@pytest.fixture(scope="module")
def cases() -> Cases:
    rng = np.random.default_rng(0)
    histories = Histories.from_lists([rng.integers(0, 40, size).tolist() for size in rng.integers(1, 9, 64)])
    return Cases(histories, rng.integers(0, 40, 64).astype(np.int32), np.arange(64, dtype=np.int32))


def test_a_sensitivity_is_the_slope_of_that_events_own_log_likelihood(frozen: FrozenBase, cases: Cases) -> None:
    batch = frozen.events(cases).batch(np.arange(3))
    found = sensitivities(frozen, batch, steps=2)
    for event, channel in ((0, 0), (1, 17), (2, 60), (2, 95)):

        def likelihood(nudge: float, event: int = event, channel: int = channel) -> torch.Tensor:
            steps = torch.full((3, 2, frozen.base.channels), 0.5)
            steps[event, :, channel] += nudge
            logits = frozen.logits(frozen.states(batch.histories, steps))
            return logits.log_softmax(dim=1)[range(3), batch.targets]

        slope = (likelihood(0.05) - likelihood(-0.05)) / 0.1
        assert float(slope[event]) == pytest.approx(float(found[event, channel]), abs=2e-3)
        assert float(slope.abs().sum() - slope[event].abs()) == 0, "another event's widths are its own"


def observe(profiles: torch.Tensor, found: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(zip(profiles.split(100), found.split(100), strict=True))


def test_the_ridge_finds_a_law_under_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    profiles = torch.randn(4000, 6, generator=generator)
    law = torch.stack([profiles[:, 0], torch.cos(profiles[:, 1]), 3 + 0 * profiles[:, 2]], dim=1)
    noise = torch.randn(4000, 3, generator=generator)
    ridge = fit_ridge(Features.draw(profiles, 0), 3, observe(profiles, law + noise))
    fresh = torch.randn(500, 6, generator=generator)
    expected = torch.stack([fresh[:, 0], torch.cos(fresh[:, 1]), 3 + 0 * fresh[:, 2]], dim=1)
    assert float((ridge.predict(fresh) - expected).square().mean()) < 0.1 * float(expected.var(dim=0).mean())
    assert 0.2 < ridge.explained < 0.5  # (1 + 0.2 + 0) of (2 + 1.2 + 1), less what it costs to learn


def test_the_ridge_finds_nothing_in_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    profiles, noise = torch.randn(2000, 6, generator=generator), torch.randn(2000, 3, generator=generator)
    ridge = fit_ridge(Features.draw(profiles, 0), 3, observe(profiles, noise))
    assert ridge.explained < 0.01
    assert float(ridge.predict(profiles).var(dim=0).mean()) < 0.05


def test_implied_importance_keeps_the_order_per_weight_and_is_positive() -> None:
    predicted = torch.tensor([[-3.0, -0.1, 0.0, 0.2, 4.0]])
    inputs = torch.full((5,), 16.0)
    importance = implied_importance(predicted, inputs, spread=float((predicted / inputs).std()))
    assert (importance > 0).all()
    assert (importance.diff() > 0).all()
    assert float(importance.mean()) == pytest.approx(1, abs=1e-5)


def test_the_hypernetwork_learns_what_sensitivities_imply(base: Base, frozen: FrozenBase, cases: Cases) -> None:
    widest = {name: stacked[-1] for name, stacked in frozen.weights.items()}
    chord: Chord = make_personalizer(base, PersonalizerRecipe(hidden=32).resolve(), widest)
    losses = [step.loss for step in warm_start(frozen, chord, frozen.events(cases), size=100, steps=60, seed=0)]
    assert len(losses) == 60
    assert np.mean(losses[-5:]) < 0.3 * losses[0]
