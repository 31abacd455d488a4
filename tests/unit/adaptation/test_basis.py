"""Deltas as coordinates in directions that the base carries: what they mean, what they cost, what is refused."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ossia.adaptation import (
    Adaptation,
    Base,
    Coordinates,
    LowRank,
    apply,
    costs,
    decode_payload,
    encode_payload,
    singular_basis,
)
from ossia.adaptation.delta_layout import DeltaLayout
from ossia.adaptation.manifests import FileEntry, read_manifest, read_tensors, tensor_bytes, write_files, write_manifest
from ossia.device import engine as native
from ossia.errors import ArtifactError, PayloadError

SLOT, RANK = "blocks.0.output", 5


@pytest.fixture(scope="module")
def base(base_of: Callable[..., Base]) -> Base:
    return base_of("sasrec with a basis")


@pytest.fixture(scope="module")
def plain(base_of: Callable[..., Base]) -> Base:
    return base_of("sasrec")


def coordinates(*weights: float) -> Coordinates:
    return Coordinates(SLOT, np.array(weights, np.float16))


def test_a_coordinate_of_minus_one_takes_a_direction_out() -> None:
    weight = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    delta = coordinates(-1, -1, -1, -1, 0.5).expand(singular_basis(weight, 5))  # four directions, and one of zeros
    np.testing.assert_allclose(delta, -weight, atol=5e-3)  # the directions are float16
    strongest = coordinates(1, 0, 0, 0, 0).expand(singular_basis(weight, 5))
    assert np.linalg.norm(strongest, 2) == pytest.approx(np.linalg.norm(weight, 2), rel=1e-3)


def test_coordinates_mean_the_same_as_the_low_rank_delta_that_they_spell_out(base: Base) -> None:
    theta, basis = np.array([0.5, -2, 0, 1, 4], np.float16), base.basis[SLOT]
    spelled = LowRank(SLOT, basis.left * theta, basis.right)  # powers of two: no rounding
    ours, theirs = (apply(base, Adaptation(deltas=(delta,))) for delta in (Coordinates(SLOT, theta), spelled))
    assert np.array_equal(ours.slots[SLOT].values, theirs.slots[SLOT].values)
    assert np.array_equal(ours.slots[SLOT].scale, theirs.slots[SLOT].scale)
    assert not np.array_equal(ours.slots[SLOT].values, apply(base, Adaptation()).slots[SLOT].values)


def test_on_the_wire_a_coordinate_is_two_bytes(base: Base) -> None:
    sent = Adaptation(deltas=(coordinates(1, 2, 3, 4, 5),))
    data = encode_payload(base, sent, issued=0, expiry=1)
    assert len(data) == 80 + 2 + 2 + 2 * RANK == costs(base, sent).payload_bytes
    (back,) = decode_payload(base, data, allow_unsigned=True).adaptation.deltas
    assert isinstance(back, Coordinates) and back.weights.tolist() == [1, 2, 3, 4, 5]


def test_a_base_without_a_basis_refuses_them(plain: Base) -> None:
    sent = Adaptation(deltas=(coordinates(1, 2, 3, 4, 5),))
    with pytest.raises(PayloadError, match="basis"):
        encode_payload(plain, sent, issued=0, expiry=1)
    low_rank = encode_payload(
        plain, Adaptation(deltas=(LowRank(SLOT, np.ones((8, 1), "f2"), np.ones((1, 8), "f2")),)), issued=0, expiry=1
    )
    with pytest.raises(PayloadError, match="basis"):
        decode_payload(plain, low_rank[:80] + bytes([3, 1]) + low_rank[82:], allow_unsigned=True)


def test_a_basis_is_counted_at_rest_and_by_who_has_nothing(base: Base, plain: Base) -> None:
    more = sum(2 * RANK * (slot.channels + slot.inputs) for slot in base.manifest.slots)
    assert costs(base, Adaptation()).weight_bytes - costs(plain, Adaptation()).weight_bytes == more
    fresh = [costs(each, Adaptation(), on_device=None).download_bytes for each in (base, plain)]
    assert fresh[0] - fresh[1] == more
    assert costs(base, Adaptation()).download_bytes == costs(plain, Adaptation()).download_bytes


def test_a_layout_of_coordinates_reads_as_many_numbers_as_there_are_directions(base: Base) -> None:
    layout = DeltaLayout.of(base.manifest.slots, [SLOT, "blocks.1.contract"], RANK, coordinates=True)
    assert layout.numbers == 2 * RANK
    numbers = np.arange(2 * RANK, dtype=np.float32)
    first, second = layout.read(numbers)
    assert isinstance(first, Coordinates) and first.weights.tolist() == [0, 1, 2, 3, 4]
    assert isinstance(second, Coordinates) and second.slot == "blocks.1.contract"
    assert len(layout.read(np.zeros(2 * RANK, np.float32))) == 0
    sent = encode_payload(base, Adaptation(deltas=(first, second)), issued=0, expiry=1)
    assert len(sent) == 80 + 2 + 2 + layout.bytes_of([slot.name for slot in layout.slots])


def test_bases_without_a_basis_are_published_as_ever(plain: Base) -> None:
    assert b"basis" not in (plain.path / "manifest.json").read_bytes()


@pytest.mark.parametrize("fault", ["missing", "float32", "too few", "infinite"])
def test_directions_that_do_not_fit_are_refused(base: Base, tmp_path: Path, fault: str) -> None:
    _, manifest = read_manifest(base.path / "manifest.json", type(base.manifest))
    floats = read_tensors(base.path, (base.path / "base/floats.safetensors").read_bytes())
    name = f"{SLOT}.left"
    changed = {
        "missing": {},
        "float32": {name: floats[name].astype(np.float32)},
        "too few": {name: floats[name][:, :-1]},
        "infinite": {name: np.full_like(floats[name], np.inf)},
    }[fault]
    kept = {key: value for key, value in floats.items() if key != name}
    folder = tmp_path / "BASE"
    for path in base.path.rglob("*"):
        if path.is_file():
            (folder / path.relative_to(base.path)).parent.mkdir(parents=True, exist_ok=True)
            (folder / path.relative_to(base.path)).write_bytes(path.read_bytes())
    entries: dict[str, FileEntry] = write_files(folder, {"base/floats.safetensors": tensor_bytes(kept | changed)})
    write_manifest(folder / "manifest.json", msgspec.structs.replace(manifest, files=manifest.files | entries))
    with pytest.raises(ArtifactError, match="expected the tensors that the manifest names"):
        Base.load(folder)
    if native.library() is not None:
        with pytest.raises(ArtifactError, match="tensors"):
            native.open_files(folder)
