"""First-order sensitivities are gradients, a ridge keeps their order and says as much as helps, others learn to say it."""

import numpy as np
import pytest
import torch

from ossia.adaptation import Base
from ossia.data import Cases, Histories
from ossia.personalizers import AbstractPersonalizer, Ridge
from ossia.personalizers.relaxed import weights_at
from ossia.training.frozen import FrozenBase
from ossia.training.personalizer import make_personalizer
from ossia.training.personalizer_recipe import PersonalizerRecipe
from ossia.training.ridge_fit import Fit
from ossia.training.sensitivities import (
    LENGTHS,
    choose_length,
    learn_sensitivities,
    sensitivities,
    set_coefficients,
    with_length,
)


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


def test_a_ridges_importance_keeps_the_order_of_sensitivity_per_weight(base: Base) -> None:
    ridge = make(base, "ridge")
    assert isinstance(ridge, Ridge)
    generator = torch.Generator().manual_seed(0)
    profiles = torch.randn(64, 8, generator=generator)
    predicted = 0.1 * torch.randn(ridge.coefficients.shape, generator=generator) * ridge.inputs
    set_coefficients(ridge, Fit(predicted, 0.0, 1.0), profiles)
    wanted = ridge.features(profiles) @ predicted / ridge.inputs
    got = ridge.importance(profiles) / ridge.inputs
    assert (got > 0).all()
    assert torch.equal(got.argsort(dim=1), wanted.argsort(dim=1))
    assert float((ridge.features(profiles) @ ridge.coefficients.detach()).std()) == pytest.approx(2, rel=1e-4)


@pytest.fixture
def ridge(base: Base) -> Ridge:
    """A ridge with random coefficients, and a mean over users that is not 0."""
    ridge = make(base, "ridge")
    assert isinstance(ridge, Ridge)
    coefficients = torch.randn(ridge.coefficients.shape, generator=torch.Generator().manual_seed(0))
    set_coefficients(ridge, Fit(ridge.inputs * coefficients, 0.0, 1.0), PROFILES)
    return ridge


PROFILES = torch.randn(64, 8, generator=torch.Generator().manual_seed(1))


def test_a_length_scales_what_is_personal_and_leaves_the_mean_and_the_spread(ridge: Ridge) -> None:
    said = ridge.features(PROFILES) @ ridge.coefficients.detach()
    for length in LENGTHS:
        now = ridge.features(PROFILES) @ with_length(ridge, PROFILES, length).coefficients
        wanted = said.mean(dim=0) + length * (said - said.mean(dim=0))
        torch.testing.assert_close(now, wanted * (said.std() / wanted.std()), rtol=1e-3, atol=1e-4)
    assert torch.equal(ridge.features(PROFILES) @ ridge.coefficients.detach(), said), "the ridge itself stays as it is"


def test_without_its_personal_part_a_ridge_says_the_same_to_everybody_and_with_all_of_it_what_it_said(ridge: Ridge) -> None:
    none, whole = (with_length(ridge, PROFILES, length).importance(PROFILES).detach() for length in (0.0, 1.0))
    assert torch.equal(none, none[:1].expand_as(none))
    assert torch.equal(whole, ridge.importance(PROFILES).detach())


def test_the_best_length_is_chosen_and_of_equals_the_shortest(ridge: Ridge) -> None:
    def spread(each: AbstractPersonalizer) -> float:
        return float(each.importance(PROFILES).detach().std(dim=0).mean())

    assert choose_length(ridge, PROFILES, spread)[1] == LENGTHS[-1]
    assert choose_length(ridge, PROFILES, lambda each: -abs(spread(each) - spread(ridge)))[1] == 1
    made, length = choose_length(ridge, PROFILES, lambda _: 0.0)
    assert length == 0
    assert spread(made) == 0


def make(base: Base, name: str) -> AbstractPersonalizer:
    recipe = PersonalizerRecipe(personalizer=name, hidden=32).resolve()
    return make_personalizer(base, recipe, {name: stacked[-1] for name, stacked in weights_at(base, (8,)).items()})


def test_a_ridge_is_solved_in_one_step_and_a_hypernetwork_learns_to_say_the_same(
    base: Base, frozen: FrozenBase, cases: Cases
) -> None:
    ridge, chord, events = make(base, "ridge"), make(base, "chord"), frozen.events(cases)

    def spread(each: AbstractPersonalizer) -> float:
        return float(each.importance(events.profiles).detach().std(dim=0).mean())

    assert len(list(learn_sensitivities(frozen, ridge, events, spread, size=100, steps=60, seed=0))) == 1
    losses = [step.loss for step in learn_sensitivities(frozen, chord, events, spread, size=100, steps=400, seed=0)]
    assert len(losses) == 400
    assert np.mean(losses[-5:]) < 0.3 * losses[0]
    wanted, said = (each.importance(events.profiles).detach().log().flatten() for each in (ridge, chord))
    assert float(torch.corrcoef(torch.stack([wanted, said]))[0, 1]) > 0.8
    for _ in learn_sensitivities(frozen, ridge, events, lambda each: -spread(each), size=100, steps=60, seed=0):
        pass
    assert spread(ridge) == 0, "where nothing personal helps, nobody gets anything of their own"
