import json
import shutil

import numpy as np
import pytest

from ossia.adaptation import Adaptation, Base, decode_payload, encode_payload
from ossia.adaptation.table import load_table, write_table
from ossia.errors import ArtifactError, UsageError


@pytest.fixture
def copy(base, tmp_path):
    return shutil.copytree(base.path, tmp_path / "BASE")


def test_a_base_that_is_loaded_twice_is_the_same(base):
    again = Base.load(base.path)
    assert again.id == base.id and again.table.id == base.table.id
    assert all(np.array_equal(again.grids[name].q, base.grids[name].q) for name in base.grids)
    assert list(again.grids) == [slot.name for slot in again.manifest.slots]


def test_equal_weights_give_an_equal_id_and_other_weights_another(make_base, base):
    assert make_base().id == base.id
    assert make_base(seed=1).id != base.id


@pytest.mark.parametrize(
    "name",
    [
        "base/plane2.safetensors",
        "base/plane8.safetensors",
        "base/floats.safetensors",
        "table/items.json",
        "table/scales.safetensors",
    ],
)
def test_one_changed_byte_anywhere_is_named(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=name):
        Base.load(copy)


def test_a_missing_file_and_a_missing_base_are_named(copy, tmp_path):
    (copy / "base/plane4.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"plane4.safetensors.*No such file"):
        Base.load(copy)
    with pytest.raises(ArtifactError, match=r"nowhere/manifest.json"):
        Base.load(tmp_path / "nowhere")


def test_a_table_of_another_base_is_refused(copy, make_base):
    shutil.rmtree(copy / "table")
    shutil.copytree(make_base(seed=1).path / "table", copy / "table")
    with pytest.raises(ArtifactError, match="expected table"):
        Base.load(copy)


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [("version", 2, "version"), ("kind", "ossia-table", "kind"), ("extra", 1, "extra"), ("gates", None, "gates")],
)
def test_a_manifest_of_another_kind_says_which_field(copy, field, value, complaint):
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {field: value}))
    with pytest.raises(ArtifactError, match=complaint):
        Base.load(copy)


def test_a_manifest_can_not_reach_outside_its_folder(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["../secret"] = {"bytes": 1, "sha256": "0" * 64}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="inside the folder"):
        Base.load(copy)


def extend(base, folder):
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((len(base.table) + 3, 8)).astype(np.float32)
    ids = [*base.table.ids, "new-a", "new-b", "new-c"]
    write_table(folder, vectors, ids, np.ones(len(ids), np.float32), extends=base.table)
    return load_table(folder)


def test_a_table_released_alone_keeps_the_old_rows_and_their_payloads(copy, base, tmp_path):
    rows = np.zeros(len(base.table), np.uint8)
    rows[[1, 4, 30]] = [1, 2, 3]
    payload = encode_payload(base, Adaptation(rows=rows), issued=1, expiry=2)
    newer = extend(base, tmp_path / "table")
    assert np.array_equal(newer.grid.q[:40], base.table.grid.q) and newer.id != base.table.id
    shutil.rmtree(copy / "table")
    shutil.copytree(tmp_path / "table", copy / "table")
    decoded = decode_payload(Base.load(copy), payload, allow_unsigned=True)
    assert np.array_equal(decoded.adaptation.rows, rows)


def test_a_newer_table_must_keep_the_old_ids_in_front(base, tmp_path):
    ids = ["another", *base.table.ids[1:]]
    with pytest.raises(UsageError, match="40 ids of the older table first"):
        write_table(tmp_path / "t", np.ones((40, 8), np.float32), ids, np.ones(40, np.float32), extends=base.table)


def test_repeated_ids_are_refused(tmp_path):
    with pytest.raises(UsageError, match="without repeats"):
        write_table(tmp_path / "t", np.ones((2, 4), np.float32), ["a", "a"], np.ones(2, np.float32))
