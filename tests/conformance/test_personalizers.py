"""What every personalizer keeps: its tensors are its own, learn and last; and it is personal only where there is a person.

Traps that are known: generators kept in plain Python lists never train and never save (public DUET); a claim without a
control on users who are random (everybody's).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hidden_tensors import hidden_tensors
from safetensors.torch import load, save
from torch import nn

from ossia.adaptation import Adaptation, Base, Importance, allocate, costs
from ossia.adaptation.personalizer_manifest import PersonalizerManifest
from ossia.data import Dataset, leave_one_out, synthetic
from ossia.device.runtimes import RUNTIMES
from ossia.evaluation import ndcg_at_k, target_ranks
from ossia.personalizers import PERSONALIZERS, relaxed_slot, weights_at
from ossia.personalizers.relaxed import soften, within_budget
from ossia.service.personalizer import Personalizer
from ossia.service.rankers import make_profiles
from ossia.training import BackboneRecipe, publish, train_backbone
from ossia.training.frozen import FrozenBase
from ossia.training.personalizer import PersonalizerRecipe, make_personalizer
from ossia.training.row_prior import choose_beta
from ossia.types import Budget

ALPHABETS = [(2, 4, 8), (0, 2, 4, 8)]


@pytest.fixture(scope="module", params=["sasrec", "sasrec with valves"])
def base(request: pytest.FixtureRequest, base_of: Callable[..., Base]) -> Base:
    """Blocks of both kinds: what a personalizer knows of either are its slots."""
    return base_of(request.param)


@pytest.fixture(params=[(name, alphabet) for name in PERSONALIZERS for alphabet in ALPHABETS], ids=str)
def recipe(request: pytest.FixtureRequest) -> PersonalizerRecipe:
    name, alphabet = request.param
    return PersonalizerRecipe(personalizer=name, alphabet=alphabet, hidden=16).resolve()


def make(base: Base, recipe: PersonalizerRecipe, *, seed: int = 0) -> Any:
    """Make a personalizer that has left its start, where heads may be zero on purpose."""
    widest = {name: stacked[-1] for name, stacked in weights_at(base, recipe.alphabet).items()}
    made = make_personalizer(base, recipe, widest)
    generator = torch.Generator().manual_seed(seed)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return made.eval()


def draw_profiles(base: Base, users: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(users, base.manifest.shape["dim"], generator=torch.Generator().manual_seed(seed))


def next_item_loss(base: Base, recipe: PersonalizerRecipe, made: Any) -> torch.Tensor:
    """What the personalizer is trained on: the next item's likelihood at its widths."""
    frozen = FrozenBase.load(base, recipe.alphabet, torch.device("cpu"))
    rng = np.random.default_rng(0)
    histories, targets = torch.from_numpy(rng.integers(0, 40, (16, 6))), torch.from_numpy(rng.integers(0, 40, 16))
    steps = made.relax(draw_profiles(base, 16), torch.full((16,), 3.0), 0.5)
    return nn.functional.cross_entropy(frozen.logits(frozen.states(histories, steps)), targets)


def test_every_tensor_is_registered(base: Base, recipe: PersonalizerRecipe) -> None:
    assert list(hidden_tensors(make(base, recipe))) == []


def test_the_search_for_hidden_tensors_finds_a_generator_in_a_list() -> None:
    class Forgetful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.generators = [nn.Linear(2, 2)]

    assert len(list(hidden_tensors(Forgetful()))) == 2


def test_every_parameter_gets_a_gradient_and_moves_in_a_step(base: Base, recipe: PersonalizerRecipe) -> None:
    made = make(base, recipe)
    before = {name: parameter.detach().clone() for name, parameter in made.named_parameters()}
    next_item_loss(base, recipe, made).backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name
    torch.optim.Adam(made.parameters(), lr=1e-2).step()
    for name, parameter in made.named_parameters():
        assert (parameter != before[name]).any(), name


def test_all_that_shapes_the_output_survives_save_and_load(base: Base, recipe: PersonalizerRecipe) -> None:
    first, second = make(base, recipe, seed=0), make(base, recipe, seed=1)
    profiles = draw_profiles(base, 9)
    assert (first.importance(profiles) != second.importance(profiles)).any()
    second.load_state_dict(load(save(first.state_dict())))
    assert torch.equal(first.importance(profiles), second.importance(profiles))


def test_relaxed_masks_become_the_discrete_ones_as_the_temperature_falls(base: Base, recipe: PersonalizerRecipe) -> None:
    made = make(base, recipe)
    value, spend = made._offer(made.importance(draw_profiles(base, 5)), torch.full((5,), 3.0))
    hard, threshold = within_budget(value, made.step_bits, spend)
    assert torch.equal((soften(value, threshold, 1e-9) > 0.5), hard)
    apart = (value.log() - threshold.log()[:, None, None]).abs() > 1e-4
    torch.testing.assert_close(soften(value, threshold, 1e-6)[apart], hard.float()[apart])
    assert (soften(value, threshold, 1.0) - hard.float()).abs().max() > 0.1


def test_the_base_is_frozen(base: Base, recipe: PersonalizerRecipe) -> None:
    backbone = FrozenBase.load(base, recipe.alphabet, torch.device("cpu")).backbone
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not any(name.startswith("magnitude") for name, _ in make(base, recipe).named_parameters())


def test_importance_suits_the_allocator_and_the_relaxed_forward(base: Base, recipe: PersonalizerRecipe) -> None:
    made, profiles = make(base, recipe), draw_profiles(base, 5)
    importance = made.importance(profiles)
    assert importance.shape == (5, base.channels)
    assert torch.isfinite(importance).all()
    assert (importance > 0).all()
    whole = costs(base, Adaptation()).weight_bytes
    for user in importance.detach().numpy():
        adaptation = allocate(base, Importance(user), Budget(weight_bytes=0.85 * whole), alphabet=recipe.alphabet)
        assert costs(base, adaptation).weight_bytes <= 0.85 * whole
    steps = made.relax(profiles, torch.full((5,), 3.0), 0.5)
    assert set(steps.unique().tolist()) <= {0.0, 1.0}
    joint = relaxed_slot(weights_at(base, recipe.alphabet), steps)
    linear = nn.Linear(8, 8)
    assert joint("blocks.0.query", linear, torch.zeros(5, 3, 8)).shape == (5, 3, 8)


def test_a_users_importance_does_not_depend_on_the_batch(base: Base, recipe: PersonalizerRecipe) -> None:
    made, profiles = make(base, recipe), draw_profiles(base, 7)
    together = made.importance(profiles)
    alone = torch.cat([made.importance(profiles[user : user + 1]) for user in range(7)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


# --- Where there is a person, and where there is none -----------------------------------------------------------------------


def train_on_synthetic(folder: Path, predictability: float) -> tuple[Dataset, Base]:
    data = synthetic(300, 120, 12, predictability=predictability, seed=1, rules=2)
    recipe = BackboneRecipe(
        dim=16, length=8, blocks=1, heads=2, hidden=32, dropout=0.0, batch=256, epochs=10, patience=10, lr=0.01
    )
    for _ in train_backbone(data, recipe, folder / "run"):
        pass
    return data, publish(folder / "run", data, folder / "base")


def gain_over_popular_rows(data: Dataset, base: Base) -> tuple[float, float]:
    """NDCG@10 on test of a device that holds its user's rows, less that of one that holds popular rows; and the latter."""
    split = leave_one_out(data.histories)
    frozen = FrozenBase.load(base, (2, 4, 8), torch.device("cpu"))
    prior = choose_beta(frozen, split.validation, seed=0)
    manifest = PersonalizerManifest(
        method="rows", base="", profile_dim=16, channels=base.channels, alphabet=(2, 4, 8), beta=prior.beta,
        temperature=1.0, recipe={}, data="", versions={}, validation={}, files={},
    )  # fmt: skip
    personalizer = Personalizer(base, manifest, Importance(), None)
    budget = Budget(table_bytes=0.2 * costs(base, Adaptation()).table_bytes)
    wanted = [personalizer.row_importance(profile) for profile in make_profiles(base, split.test.histories)]
    own = [allocate(base, Importance(rows=rows), budget) for rows in wanted]
    popular = allocate(base, Importance(rows=base.table.counts + np.float32(0.5)), budget)
    rank = RUNTIMES["numpy"]
    own_ranks = target_ranks(lambda case: rank(base, own[case]), split.test, data.items)
    popular_ranks = target_ranks(rank(base, popular), split.test, data.items)
    return ndcg_at_k(own_ranks, 10) - ndcg_at_k(popular_ranks, 10), ndcg_at_k(popular_ranks, 10)


def test_the_personal_catalog_beats_popular_rows_where_users_are_predictable(tmp_path: Path) -> None:
    gain, popular = gain_over_popular_rows(*train_on_synthetic(tmp_path, predictability=0.9))
    assert gain > 0.3
    assert gain > popular


def test_and_does_not_where_they_are_random(tmp_path: Path) -> None:
    gain, _ = gain_over_popular_rows(*train_on_synthetic(tmp_path, predictability=0.0))
    assert gain < 0.03
