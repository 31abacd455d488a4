"""First-order sensitivities are gradients, the ridge finds a law that is there and none that is not."""

import numpy as np
import pytest
import torch

from ossia.adaptation import Base
from ossia.data import Cases, Histories
from ossia.personalizers import AbstractPersonalizer, Ridge
from ossia.personalizers.relaxed import weights_at
from ossia.personalizers.ridge import Cosines
from ossia.training.frozen import FrozenBase
from ossia.training.personalizer import make_personalizer
from ossia.training.personalizer_recipe import PersonalizerRecipe
from ossia.training.sensitivities import (
    LENGTHS,
    Fit,
    choose_length,
    fit_ridge,
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


def in_batches(profiles: torch.Tensor, found: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(zip(profiles.split(100), found.split(100), strict=True))


def test_the_ridge_finds_a_law_under_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    profiles = torch.randn(4000, 6, generator=generator)
    law = torch.stack([profiles[:, 0], torch.cos(profiles[:, 1]), 3 + 0 * profiles[:, 2]], dim=1)
    noise = torch.randn(4000, 3, generator=generator)
    features = Cosines(6).standardize(profiles)
    found = fit_ridge(features, 3, in_batches(profiles, law + noise))
    fresh = torch.randn(500, 6, generator=generator)
    expected = torch.stack([fresh[:, 0], torch.cos(fresh[:, 1]), 3 + 0 * fresh[:, 2]], dim=1)
    error = (features(fresh) @ found.coefficients - expected).square().mean()
    assert float(error) < 0.1 * float(expected.var(dim=0).mean())
    assert 0.45 < found.alignment < 0.56  # the root of (1 + 0.2 + 0) of (2 + 1.2 + 1) is .53; some is lost in learning


def test_the_ridge_is_the_solution_of_its_normal_equations_and_alignment_is_a_cosine() -> None:
    generator = torch.Generator().manual_seed(1)
    profiles = torch.randn(500, 4, generator=generator)
    found = profiles @ torch.randn(4, 3, generator=generator) + 2 + torch.randn(500, 3, generator=generator)
    features = Cosines(4, 8).standardize(profiles)
    fitted = fit_ridge(features, 3, in_batches(profiles, found))
    phi = features(profiles).double()
    weight = torch.full((phi.shape[1],), fitted.penalty * 500**0.5, dtype=torch.float64)
    weight[0] = 0
    expected = torch.linalg.solve(phi.T @ phi + weight.diag(), phi.T @ found.double())
    torch.testing.assert_close(fitted.coefficients.double(), expected, rtol=1e-4, atol=1e-5)

    held = torch.arange(500) % 100 % 5 == 0
    kept, weight = phi[~held], weight / 500**0.5 * int((~held).sum()) ** 0.5
    slopes = torch.linalg.solve(kept.T @ kept + weight.diag(), kept.T @ found[~held].double())
    mean = found[~held].double().mean(dim=0)
    said, was = phi[held] @ slopes - mean, found[held].double() - mean
    assert fitted.alignment == pytest.approx(float((said * was).sum() / (said.norm() * was.norm())), abs=1e-6)


def test_the_ridge_finds_nothing_in_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    profiles, noise = torch.randn(2000, 6, generator=generator), torch.randn(2000, 3, generator=generator)
    features = Cosines(6).standardize(profiles)
    found = fit_ridge(features, 3, in_batches(profiles, noise))
    assert abs(found.alignment) < 0.1
    assert float((features(profiles) @ found.coefficients).var(dim=0).mean()) < 0.05


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
