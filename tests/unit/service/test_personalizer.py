"""The service's half: a graph in onnxruntime, rows by retrieval, widths by the allocator; one answer for every request."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from ossia.adaptation import Base, Device, costs, encode_payload, make_profile
from ossia.adaptation.held_rows import missing_rows
from ossia.adaptation.prices import CostTable
from ossia.errors import ArtifactError, BudgetError, UsageError
from ossia.personalizers import Chord
from ossia.service.keychain import load_signer, make_keys
from ossia.service.personalizer import Personalizer
from ossia.types import Budget, Profile

USERS = 64


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


def draw_held(base: Base) -> list[np.ndarray]:
    """What devices may hold: a third of the rows, at any width."""
    return list(np.random.default_rng(1).choice(4, (USERS, len(base.table)), p=(0.7, 0.1, 0.1, 0.1)).astype(np.uint8))


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


@pytest.mark.parametrize("budget", ["weights", "both", "both, with rows held"])
def test_a_users_signed_payload_has_the_same_bytes_in_every_batch_from_1_to_64(
    published: Base, personalizer: Personalizer, tmp_path: Path, budget: str
) -> None:
    profiles, limits = draw_profiles(published), binding(published)
    limits = Budget(weight_bytes=limits.weight_bytes) if budget == "weights" else limits
    held = draw_held(published) if "held" in budget else [None] * USERS
    make_keys(tmp_path, 2**32 - 1)
    signer = load_signer(tmp_path, 0)

    def payloads(users: int) -> list[bytes]:
        adaptations = personalizer.allocate_many(
            profiles[:users], [personalizer.plan(limits, signed=True)] * users, held[:users]
        )
        assert len(adaptations) == users
        spell = partial(encode_payload, published, issued=1, expiry=2, key_id=signer.key_id, sign=signer.sign)
        return [spell(each) for each in adaptations]

    whole = payloads(USERS)
    assert len(set(whole)) > USERS // 2
    for users in (1, 2, 3, 7, 16, 63):
        assert payloads(users) == whole[:users]


def test_rows_that_stay_are_worth_it_and_never_break_a_budget(published: Base, personalizer: Personalizer) -> None:
    loose, profiles, held = binding(published), draw_profiles(published), draw_held(published)
    alone = personalizer.personalize_many(profiles, [loose] * USERS)
    tight = replace(loose, download_bytes=float(np.median([costs(published, each).download_bytes for each in alone])))
    for limits in (loose, tight):
        alone = personalizer.personalize_many(profiles, [limits] * USERS)
        staying = personalizer.allocate_many(profiles, [personalizer.plan(limits)] * USERS, held)
        sent = [
            sum(len(missing_rows(published.table, each.rows, there)) for each, there in zip(answers, held, strict=True))
            for answers in (alone, staying)
        ]
        assert sent[1] < sent[0]
        for found in (costs(published, each) for each in staying):
            assert found.weight_bytes <= limits.weight_bytes
            assert found.table_bytes <= limits.table_bytes
            assert limits is loose or found.download_bytes <= limits.download_bytes


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
