"""The ridge finds a law that is there and none that is not, and says how nearly it points where events do."""

import pytest
import torch

from ossia.personalizers.ridge import Cosines
from ossia.training.ridge_fit import fit_ridge


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
