import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save

from ossia.data.dataset import Dataset, data_hash
from ossia.data.histories import Histories
from ossia.data.synthetic import synthetic
from ossia.errors import ArtifactError, UsageError

GOLDEN = "15b524b7c8c8abeca973abff38af8038c063a7309296e656bfa80e6656b9a5c6"  # computed apart
FILES = ["info.json", "ids.json", "histories.safetensors"]


@pytest.fixture
def data() -> Dataset:
    return synthetic(12, 8, 6, predictability=0.5, seed=1)


@pytest.fixture
def folder(data: Dataset, tmp_path: Path) -> Path:
    data.save(tmp_path / "DATA")
    return tmp_path / "DATA"


def test_what_was_saved_is_loaded(data: Dataset, folder: Path) -> None:
    loaded = Dataset.load(folder)
    assert np.array_equal(loaded.histories.items, data.histories.items)
    assert np.array_equal(loaded.histories.offsets, data.histories.offsets)
    assert (loaded.user_ids, loaded.item_ids, loaded.titles) == (data.user_ids, data.item_ids, data.titles)
    assert loaded.info == data.info
    assert (loaded.users, loaded.items, loaded.hash) == (12, len(data.item_ids), data.hash)


def test_equal_data_is_equal_bytes(data: Dataset, folder: Path, tmp_path: Path) -> None:
    synthetic(12, 8, 6, predictability=0.5, seed=1).save(tmp_path / "AGAIN")
    assert all((folder / name).read_bytes() == (tmp_path / "AGAIN" / name).read_bytes() for name in FILES)


def test_a_folder_that_is_there_is_swapped_only_if_asked(data: Dataset, folder: Path) -> None:
    with pytest.raises(UsageError, match="expected a new or empty folder"):
        data.save(folder)
    other = synthetic(9, 8, 6, predictability=0.5, seed=1)
    other.save(folder, replace=True)
    assert Dataset.load(folder).hash == other.hash


@pytest.mark.parametrize("name", FILES)
def test_every_byte_that_changes_is_noticed_and_its_file_named(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    for place in range(len(whole)):
        (folder / name).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ArtifactError, match=f"{folder / name}: expected"):
            Dataset.load(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("cut", [lambda whole: whole[:-1], lambda whole: whole + b"\n", lambda whole: b""])
def test_a_file_cut_or_grown_is_noticed(folder: Path, name: str, cut: Callable[[bytes], bytes]) -> None:
    (folder / name).write_bytes(cut((folder / name).read_bytes()))
    with pytest.raises(ArtifactError, match=name):
        Dataset.load(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name}: expected a file of a dataset folder, got: No such file"):
        Dataset.load(folder)


def test_no_folder_or_another_folder_is_no_dataset(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ArtifactError, match=r"info\.json: expected a file of a dataset folder"):
            Dataset.load(path)


def test_a_later_format_is_refused_by_number(folder: Path) -> None:
    info = json.loads((folder / "info.json").read_text())
    (folder / "info.json").write_text(json.dumps({**info, "format": 3}))
    with pytest.raises(ArtifactError, match=r"info\.json: expected dataset format 1 or 2, got 3"):
        Dataset.load(folder)


def test_the_hash_is_of_events_and_ids_only(data: Dataset) -> None:
    assert data.hash == data_hash(data.histories, data.user_ids, data.item_ids)
    assert data.hash != data_hash(data.histories, data.user_ids, data.item_ids[::-1])
    assert data.hash != data_hash(data.histories, data.user_ids[::-1], data.item_ids)
    cut = Histories(data.histories.items, np.append(data.histories.offsets[:-2], data.histories.offsets[-1:]))
    assert data.hash != data_hash(cut, data.user_ids, data.item_ids)


def test_the_hash_is_this_one_on_every_machine() -> None:
    assert data_hash(Histories.from_lists([[0, 1], [1]]), ["a", "é"], ["x", "y"]) == GOLDEN


def test_a_dataset_of_format_1_is_still_read(data: Dataset, folder: Path) -> None:
    info = json.loads((folder / "info.json").read_text())
    arrays = {"items": data.histories.items, "offsets": data.histories.offsets}
    (folder / "histories.safetensors").write_bytes(save(arrays))
    new = ("min_value", "below_value", "repeats", "repeats_dropped", "split", "cuts")
    files = {**info["files"], "histories.safetensors": hashlib.sha256(save(arrays)).hexdigest()}
    old = {"format": 1, "info": {k: v for k, v in info["info"].items() if k not in new}, "files": files, "seal": ""}
    unsealed = msgspec.json.format(msgspec.json.encode(old), indent=2) + b"\n"
    seal = b'"seal": "%s"' % hashlib.sha256(unsealed).hexdigest().encode()
    (folder / "info.json").write_bytes(unsealed.replace(b'"seal": ""', seal))
    loaded = Dataset.load(folder)
    assert (loaded.hash, loaded.times, loaded.info.split) == (data.hash, None, "leave-one-out")
    assert np.array_equal(loaded.split().train.items, data.split().train.items)


def test_times_are_stored_beside_the_events(data: Dataset, folder: Path) -> None:
    times = Dataset.load(folder).times
    assert times is not None
    assert np.array_equal(times, np.tile(np.arange(6), 12))
    bare = Dataset(data.histories, data.user_ids, data.item_ids, None, data.info, times[:-1])
    bare.save(folder, replace=True)
    with pytest.raises(ArtifactError, match=r"histories.safetensors: expected a time for each of 72 events, got 71"):
        Dataset.load(folder)
