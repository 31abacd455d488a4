"""Training a generator of weights: what it finds, what an interruption changes (nothing), and what is installed."""

from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ossia.adaptation import Adaptation, Base, Coordinates, costs, decode_payload, encode_payload
from ossia.adaptation.allocate import Device
from ossia.adaptation.personalizer_manifest import Generated
from ossia.adaptation.prices import CostTable
from ossia.data import Dataset, synthetic
from ossia.device.runtimes import RUNTIMES
from ossia.errors import ArtifactError, BudgetError, UsageError
from ossia.evaluation import target_ranks
from ossia.service.contenders import draw_cases, personal
from ossia.service.generator import Generator, load_personalizer
from ossia.service.personalizer import Personalizer
from ossia.service.rankers import make_profiles
from ossia.training import BackboneRecipe, publish, train_backbone
from ossia.training.personalizer import GeneratorRecipe, PersonalizerRecipe, train_personalizer
from ossia.training.personalizer_checkpoint import training_folder
from ossia.types import Budget

DUET = GeneratorRecipe(hidden=16, latent=8, epochs=2, batch=60, lr=0.01)
OFA = msgspec.structs.replace(DUET, personalizer="forward-ofa", slots=("blocks.0.output", "blocks.0.contract"))
COORDINATES = msgspec.structs.replace(OFA, name="coordinates", coordinates=True)
RIDGE = PersonalizerRecipe(personalizer="ridge", learn="sensitivities", batch=400)
PRICES = CostTable("imagined", "numpy", 10.0, {"blocks.0.attention": 30.0, "blocks.0.feed_forward": 20.0}, 0.01)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic(200, 40, 9, predictability=0.9, seed=0)


@pytest.fixture(scope="module")
def base(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """A base that is trained a little, with one personalizer of each kind."""
    folder = tmp_path_factory.mktemp("trained")
    recipe = BackboneRecipe(dim=8, length=6, blocks=1, heads=2, hidden=16, dropout=0.0, batch=200, epochs=4, lr=0.01)
    for _ in train_backbone(data, recipe, folder / "run"):
        pass
    made = publish(folder / "run", data, folder / "base", basis=5)
    for each in (DUET, OFA, RIDGE, COORDINATES):
        list(train_personalizer(data, made, each))
    return made


def test_an_interrupted_training_gives_the_same_bytes(data: Dataset, base: Base, tmp_path: Path) -> None:
    recipe, out = msgspec.structs.replace(DUET, epochs=3), tmp_path / "elsewhere"
    for name, stop in (("whole", 3), ("broken", 1)):
        each = msgspec.structs.replace(recipe, name=name)
        first = list(islice(train_personalizer(data, base, each, out), stop))
        rest = list(train_personalizer(data, base, each, out))
        assert [epoch.index for epoch in (*first, *rest)] == [0, 1, 2]
        assert not training_folder(out, name).exists()
    for file in ("model.onnx", "constant.safetensors"):
        assert (out / f"personalizers/whole/{file}").read_bytes() == (out / f"personalizers/broken/{file}").read_bytes()


def test_what_is_installed_says_what_it_generates(base: Base) -> None:
    duet, ofa = (Generator.load(base, name) for name in ("duet", "forward-ofa"))
    assert duet.manifest.generated == Generated(("blocks.0.expand", "blocks.0.contract"), 1, gates=False)
    assert ofa.manifest.generated == Generated(("blocks.0.output", "blocks.0.contract"), 1, gates=True)
    assert {"own_log_likelihood", "another_log_likelihood", "constant_log_likelihood"} <= duet.manifest.validation.keys()


def test_coordinates_come_from_training_to_a_ranking(data: Dataset, base: Base) -> None:
    served = Generator.load(base, "coordinates")
    assert served.manifest.generated == Generated(("blocks.0.output", "blocks.0.contract"), 5, gates=True, coordinates=True)
    profiles = make_profiles(base, data.split().test.histories)[:8]
    answers = served.personalize_many(profiles, [Budget()] * 8)
    sent = [encode_payload(base, each, issued=0, expiry=1) for each in answers]
    assert len({payload[80:] for payload in sent}) > 1  # users differ
    arrived = decode_payload(base, max(sent, key=len), allow_unsigned=True).adaptation
    assert all(isinstance(delta, Coordinates) for delta in arrived.deltas)
    assert len(max(sent, key=len)) <= 80 + 1 + 2 + 1 + 2 * 2 * 5
    history = data.split().test.histories[0]
    moved, plain = (RUNTIMES["numpy"](base, each).state(history) for each in (arrived, Adaptation()))
    assert np.abs(moved - plain).max() > 0


def test_coordinates_without_a_basis_are_refused(data: Dataset, base: Base, tmp_path: Path) -> None:
    plain = publish(base.path.parent / "run", data, tmp_path / "plain")
    with pytest.raises(UsageError, match="published with --basis"):
        list(train_personalizer(data, plain, COORDINATES))
    with pytest.raises(UsageError, match="expected 0 to 255 directions"):
        publish(base.path.parent / "run", data, tmp_path / "many", basis=256)


def test_another_setting_under_the_same_name_is_refused(data: Dataset, base: Base) -> None:
    with pytest.raises(UsageError, match="expected rank 1 as in the training so far, got 2"):
        train_personalizer(data, base, msgspec.structs.replace(DUET, rank=2))


def test_from_training_to_a_ranking_and_its_controls(data: Dataset, base: Base) -> None:
    cases = draw_cases(data.split().test, 25)
    found = {row.name: row for row in personal(base, load_personalizer(base, "duet"), cases, Budget())}
    assert list(found) == ["personal weights", "constant weights", "another user's weights"]
    assert found["personal weights"].delivery.payload_bytes == 80 + 2 + 1 + 2 * (2 * (16 + 8))
    ranks = {name: target_ranks(row.ranker, cases, data.items) for name, row in found.items()}
    assert (ranks["personal weights"] != ranks["another user's weights"]).any()


def test_both_runtimes_rank_alike_with_generated_weights(data: Dataset, base: Base) -> None:
    if "engine" not in RUNTIMES:
        pytest.skip("no compiler was there")
    history = data.split().test.histories[0]
    answer = Generator.load(base, "forward-ofa").personalize(make_profiles(base, [history])[0], Budget())
    sent = decode_payload(base, encode_payload(base, answer, issued=0, expiry=1), allow_unsigned=True).adaptation
    ours, theirs = (RUNTIMES[name](base, sent).state(history) for name in ("numpy_int8", "engine"))
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(ours).max())


def test_gates_codes_rows_and_deltas_share_a_payload_within_every_limit(data: Dataset, base: Base) -> None:
    both = load_personalizer(base, "forward-ofa+ridge")
    profiles = make_profiles(base, data.split().test.histories)[:20]
    whole = costs(base, Adaptation())
    device = Device(cost_table=PRICES)
    budget = Budget(
        latency_us=45.0, weight_bytes=0.75 * whole.weight_bytes, table_bytes=0.8 * whole.table_bytes, download_bytes=500
    )
    for answer in both.personalize_many(profiles, [budget] * 20, devices=[device] * 20):
        assert answer.codes is not None and answer.rows is not None and answer.gates is not None and answer.deltas
        assert {delta.slot.rpartition(".")[0] for delta in answer.deltas} <= {"blocks.0"}
        spent = costs(base, answer, cost_table=PRICES)
        for name in ("latency_us", "weight_bytes", "table_bytes", "download_bytes"):
            assert getattr(spent, name) <= getattr(budget, name), name
        sent = encode_payload(base, answer, issued=0, expiry=1)
        assert encode_payload(base, decode_payload(base, sent, allow_unsigned=True).adaptation, issued=0, expiry=1) == sent


def test_one_by_one_and_together_are_the_same_answers(data: Dataset, base: Base) -> None:
    profiles = make_profiles(base, data.split().test.histories)[:9]
    for name in ("duet", "forward-ofa"):
        answers = load_personalizer(base, name)
        together = answers.personalize_many(profiles, [Budget()] * 9)
        alone = [answers.personalize(profile, Budget()) for profile in profiles]
        for one, other in zip(together, alone, strict=True):
            assert encode_payload(base, one, issued=0, expiry=1) == encode_payload(base, other, issued=0, expiry=1)


def test_a_budget_below_the_floor_names_it(base: Base, data: Dataset) -> None:
    duet = Generator.load(base, "duet")
    (profile,) = make_profiles(base, data.split().test.histories)[:1]
    size = 80 + 2 + 1 + 96
    with pytest.raises(BudgetError) as caught:
        duet.personalize(profile, Budget(download_bytes=100))
    assert size <= caught.value.floor <= size + 1  # a byte of gates is counted, whether or not they are sent
    assert duet.personalize(profile, Budget(download_bytes=caught.value.floor)).deltas


def test_a_kind_is_not_taken_for_the_other(base: Base) -> None:
    assert isinstance(load_personalizer(base, "ridge"), Personalizer)
    assert isinstance(load_personalizer(base, "duet"), Generator)
    for wrong in ("ridge+duet", "ridge+ridge", "duet+duet"):
        with pytest.raises(ArtifactError):
            load_personalizer(base, wrong)
    with pytest.raises(UsageError, match="duet, forward-ofa, ridge"):
        load_personalizer(base, "forward-ofa+nobody")
