"""The service's half: a graph in onnxruntime, rows by retrieval, widths by the allocator; one answer for every request."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from ossia.adaptation import Base, Device, costs, make_profile
from ossia.adaptation.allocate_codes import GAIN
from ossia.adaptation.manifests import tensor_bytes, write_files, write_manifest
from ossia.adaptation.personalizer_manifest import PersonalizerManifest, personalizer_folder
from ossia.adaptation.prices import CostTable
from ossia.errors import ArtifactError, BudgetError, UsageError
from ossia.personalizers import Chord, weights_at
from ossia.service.personalizer import Personalizer
from ossia.training.export import export_onnx
from ossia.types import WIDTHS, Budget, Profile

USERS = 64


@pytest.fixture(scope="module")
def chord(make_base) -> Chord:
    """Hypernetworks that no longer are at their start, on the base that `published` is."""
    base = make_base(seed=7)
    weights = {name: stacked[-1] for name, stacked in weights_at(base, (8,)).items()}
    torch.manual_seed(0)
    made = Chord(base.manifest.slots, weights, 8, gains=dict(zip(WIDTHS[1:], GAIN[1:], strict=True)), hidden=16)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made.eval()


@pytest.fixture(scope="module")
def published(make_base, chord: Chord) -> Base:
    """A base with a personalizer beside it, as `ossia.training.release` writes it."""
    base = make_base(seed=7)
    folder = personalizer_folder(base.path, "chord")
    rng = np.random.default_rng(0)
    shares = {"channels": rng.random(base.channels, np.float32), "rows": rng.random(len(base.table), np.float32)}
    content = {"model.onnx": export_onnx(chord, 8), "constant.safetensors": tensor_bytes(shares), "history.jsonl": b"{}\n"}
    manifest = PersonalizerManifest(
        method="chord",
        base=base.id.hex(),
        profile_dim=8,
        channels=base.channels,
        alphabet=(2, 4, 8),
        beta=0.5,
        temperature=1.5,
        recipe={},
        data="",
        versions={},
        validation={},
        files=write_files(folder, content),
    )
    write_manifest(folder / "manifest.json", manifest)
    return base


@pytest.fixture(scope="module")
def personalizer(published: Base) -> Personalizer:
    return Personalizer.load(published, "chord")


def draw_profiles(base: Base, users: int = USERS, seed: int = 0) -> list[Profile]:
    states = np.random.default_rng(seed).standard_normal((users, base.manifest.shape["dim"]), np.float32)
    return [make_profile(state, base.manifest.profile_clip) for state in states]


def binding(base: Base) -> Budget:
    """A budget whose every byte limit binds."""
    whole = costs(base, Personalizer.load(base, "chord").personalize(draw_profiles(base, 1)[0], Budget()))
    return Budget(weight_bytes=0.8 * whole.weight_bytes, table_bytes=0.6 * whole.table_bytes)


@pytest.mark.parametrize("users", [1, 3, 64])
def test_onnx_answers_as_torch_does(published: Base, personalizer: Personalizer, chord: Chord, users: int) -> None:
    profiles = draw_profiles(published, users)
    with torch.no_grad():
        expected = chord(torch.from_numpy(np.stack([profile.state for profile in profiles]))).numpy()
    np.testing.assert_allclose(personalizer.channel_importance(profiles), expected, rtol=1e-5, atol=1e-6)


def test_an_answer_does_not_depend_on_who_else_asks(published: Base, personalizer: Personalizer) -> None:
    profiles, budget = draw_profiles(published, 12), binding(published)
    together = personalizer.personalize_many(profiles, [budget] * 12)
    alone = [personalizer.personalize(profile, budget) for profile in profiles]
    backwards = personalizer.personalize_many(profiles[::-1], [budget] * 12)[::-1]
    for many, one, other in zip(together, alone, backwards, strict=True):
        assert many.codes.tobytes() == one.codes.tobytes() == other.codes.tobytes()
        assert many.rows.tobytes() == one.rows.tobytes() == other.rows.tobytes()


def test_importance_rows_are_equal_to_the_last_bit_in_every_batch_from_1_to_64(
    published: Base, personalizer: Personalizer
) -> None:
    profiles = draw_profiles(published)
    whole = personalizer.channel_importance(profiles)
    for size in range(1, USERS):
        assert personalizer.channel_importance(profiles[:size]).tobytes() == whole[:size].tobytes()


def test_different_users_get_different_codes(published: Base, personalizer: Personalizer) -> None:
    first, second = personalizer.personalize_many(draw_profiles(published, 2), [binding(published)] * 2)
    assert (first.codes != second.codes).any()
    assert (first.rows != second.rows).any()


def test_a_term_that_no_limit_touches_is_left_as_the_base_has_it(published: Base, personalizer: Personalizer) -> None:
    profile, tight = draw_profiles(published, 1)[0], binding(published)
    nothing = personalizer.personalize(profile, Budget())
    assert nothing.codes is None
    assert nothing.rows is None
    encoder = personalizer.personalize(profile, Budget(weight_bytes=tight.weight_bytes))
    assert encoder.codes is not None
    assert encoder.rows is None
    table = personalizer.personalize(profile, Budget(table_bytes=tight.table_bytes))
    assert table.codes is None
    assert table.rows is not None


def test_row_importance_is_the_calibrated_softmax_of_score_and_popularity(published: Base, personalizer: Personalizer) -> None:
    profile = draw_profiles(published, 1)[0]
    beta, temperature = personalizer.manifest.beta, personalizer.manifest.temperature
    z = published.table.whole.dequantize().astype(np.float64) @ profile.state + beta * np.log1p(published.table.counts)
    expected = np.exp(z / temperature) / np.exp(z / temperature).sum()
    np.testing.assert_allclose(personalizer.row_importance(profile), expected, rtol=1e-4)


def test_a_user_without_history_holds_what_is_popular(published: Base, personalizer: Personalizer) -> None:
    nobody = Profile(np.zeros(published.manifest.shape["dim"], np.int8), np.float32(0))
    importance = personalizer.row_importance(nobody)
    assert np.isfinite(importance).all()
    assert (np.diff(importance[published.table.popularity]) <= 0).all()
    assert np.isfinite(personalizer.channel_importance([nobody])).all()


def test_the_answer_for_nobody_is_within_the_budget_and_the_same_for_all(published: Base, personalizer: Personalizer) -> None:
    budget = binding(published)
    constant = personalizer.personalize_nobody(budget)
    found = costs(published, constant)
    assert found.weight_bytes <= budget.weight_bytes
    assert found.table_bytes <= budget.table_bytes
    assert (constant.codes != personalizer.personalize(draw_profiles(published, 1)[0], budget).codes).any()


def test_latency_needs_the_devices_cost_table(published: Base, personalizer: Personalizer) -> None:
    profile = draw_profiles(published, 1)[0]
    with pytest.raises(UsageError, match="cost table"):
        personalizer.personalize(profile, Budget(latency_us=100.0))
    gates = dict.fromkeys(published.manifest.gates, 1.0)
    table = CostTable("a test", "numpy", 1.0, gates, row_us=1.0)
    adaptation = personalizer.personalize(profile, Budget(latency_us=25.0), device=Device(cost_table=table))
    assert costs(published, adaptation, cost_table=table).latency_us <= 25.0


def test_a_budget_below_the_floor_names_it(published: Base, personalizer: Personalizer) -> None:
    with pytest.raises(BudgetError, match="weight_bytes: expected at least"):
        personalizer.personalize(draw_profiles(published, 1)[0], Budget(weight_bytes=1))


def test_a_profile_of_another_length_is_refused(personalizer: Personalizer) -> None:
    with pytest.raises(UsageError, match="profile: expected 8 values"):
        personalizer.personalize(Profile(np.zeros(3, np.int8), np.float32(0)), Budget())


def test_lists_of_different_lengths_are_refused(published: Base, personalizer: Personalizer) -> None:
    with pytest.raises(UsageError, match="as many budgets"):
        personalizer.personalize_many(draw_profiles(published, 2), [Budget()])


def test_nobody_asks_and_nobody_is_answered(personalizer: Personalizer) -> None:
    assert personalizer.personalize_many([], []) == []


@pytest.fixture
def copied(published: Base, tmp_path: Path) -> Base:
    """The published base in a folder of its own, to be damaged."""
    shutil.copytree(published.path, tmp_path / "BASE")
    return Base.load(tmp_path / "BASE")


def edit_manifest(where: Base, **changes: object) -> None:
    path = where.path / "personalizers" / "chord" / "manifest.json"
    path.write_bytes(msgspec.json.encode(msgspec.json.decode(path.read_bytes()) | changes))


def test_an_unknown_name_is_answered_with_those_that_are_there(copied: Base) -> None:
    with pytest.raises(UsageError, match=r"personalizers \(chord\), got 'duet'"):
        Personalizer.load(copied, "duet")


@pytest.mark.parametrize("name", ["model.onnx", "constant.safetensors", "history.jsonl"])
def test_a_file_with_a_changed_byte_is_refused_by_name(copied: Base, name: str) -> None:
    path = copied.path / "personalizers" / "chord" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=name):
        Personalizer.load(copied, "chord")


def test_a_personalizer_of_another_base_is_refused(copied: Base) -> None:
    edit_manifest(copied, base="00" * 32)
    with pytest.raises(ArtifactError, match="expected one trained on base"):
        Personalizer.load(copied, "chord")


def test_a_graph_of_another_shape_is_refused(copied: Base) -> None:
    edit_manifest(copied, profile_dim=9)
    with pytest.raises(ArtifactError, match="for any number of users"):
        Personalizer.load(copied, "chord")


def test_a_manifest_that_names_no_graph_is_refused(copied: Base) -> None:
    edit_manifest(copied, files={})
    with pytest.raises(ArtifactError, match=r"names constant.safetensors, model.onnx"):
        Personalizer.load(copied, "chord")


def test_a_path_that_climbs_out_of_the_folder_is_no_name(copied: Base) -> None:
    with pytest.raises(UsageError):
        Personalizer.load(copied, "../..")
