"""Publishing a run: the base on disk computes what the run's backbone computes, up to eight bits."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ossia.adaptation import Adaptation, apply, make_profile
from ossia.adaptation.cost import costs
from ossia.backbones.published import from_weights
from ossia.backbones.ranker import encode
from ossia.data import Dataset, item_counts, leave_one_out, synthetic
from ossia.device import RUNTIMES
from ossia.errors import ArtifactError, UsageError
from ossia.training import BackboneRecipe, load_run, publish, train_backbone
from ossia.training.publish import profile_clip, user_states
from ossia.types import Candidates

TINY = BackboneRecipe(dim=16, length=6, blocks=2, heads=2, hidden=32, batch=64, epochs=3, lr=0.01)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic(60, 20, 8, predictability=0.9, seed=0)


@pytest.fixture(scope="module")
def run(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "RUN"
    list(train_backbone(data, TINY, path))
    return path


def test_the_base_says_what_the_backbone_is(run: Path, data: Dataset, tmp_path: Path) -> None:
    base, backbone = publish(run, data, tmp_path / "BASE"), load_run(run).backbone
    assert base.manifest.backbone == "sasrec"
    assert base.manifest.shape == backbone.shape
    assert base.manifest.slots == backbone.slots()
    assert base.manifest.gates == backbone.gates()
    assert list(base.table.ids) == data.item_ids
    assert base.table.counts.tolist() == item_counts(leave_one_out(data.histories).train, data.items).tolist()
    assert set(base.floats) == set(backbone.state_dict()) - {f"{slot.name}.weight" for slot in backbone.slots()} - {
        "items.weight"
    }


def test_the_published_states_are_the_trained_ones_up_to_eight_bits(run: Path, data: Dataset, tmp_path: Path) -> None:
    base = publish(run, data, tmp_path / "BASE")
    histories = list(leave_one_out(data.histories).train)
    trained = encode(load_run(run).backbone, histories)
    published = encode(from_weights(apply(base, Adaptation())), histories)
    assert (published - trained).abs().max() < 0.05 * trained.abs().max()
    assert not torch.equal(published, trained)


def test_the_clip_keeps_999_of_1000_values(run: Path, data: Dataset, tmp_path: Path) -> None:
    backbone, train = load_run(run).backbone, leave_one_out(data.histories).train
    states = encode(backbone, list(train)).numpy()
    clip = profile_clip(user_states(backbone, train))
    assert 0.998 <= np.mean(np.abs(states) <= clip) <= 0.9999
    assert publish(run, data, tmp_path / "BASE").manifest.profile_clip == clip
    assert np.abs(make_profile(states[0], clip).state - np.clip(states[0], -clip, clip)).max() <= clip / 127


def test_a_tail_ranks_what_is_not_held_much_as_the_rows_do(run: Path, data: Dataset, tmp_path: Path) -> None:
    base = publish(run, data, tmp_path / "BASE", tail=4)
    nothing, every = Adaptation(rows=np.zeros(len(base.table), np.uint8)), Candidates(np.arange(len(base.table)))
    coarse, whole = (RUNTIMES["numpy"](base, adaptation) for adaptation in (nothing, Adaptation()))
    histories = list(leave_one_out(data.histories).train)[:20]
    alike = [np.corrcoef(coarse.scores(each, every), whole.scores(each, every))[0, 1] for each in histories]
    assert min(alike) > 0.95
    assert costs(base, nothing).table_bytes > base.table.tail.nbytes


def test_publishing_twice_gives_the_same_base(run: Path, data: Dataset, tmp_path: Path) -> None:
    assert publish(run, data, tmp_path / "A").id == publish(run, data, tmp_path / "B").id


def test_other_data_are_refused_before_anything_is_written(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="expected a run on data"):
        publish(run, synthetic(60, 20, 8, predictability=0.9, seed=1), tmp_path / "BASE")
    assert not (tmp_path / "BASE").exists()


def test_a_folder_in_use_is_left_alone(run: Path, data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(UsageError, match="new or empty"):
        publish(run, data, tmp_path)
