"""A run on data split by time: the future changes nothing in it, and it is refused on another split."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ossia.data import Dataset, prepare
from ossia.errors import ArtifactError
from ossia.training import BackboneRecipe, load_run, publish, train_backbone

TINY = BackboneRecipe(
    dim=8, length=6, blocks=1, heads=2, hidden=16, batch=128, epochs=1, lr=0.01, loss="sampled_softmax", negatives=16
)
EVENTS, CUT = 600, 540  # the second cut: a tenth of the events comes after it


def walk(split: str = "global-time", *, future: int = 0, past: int = 0) -> Dataset:
    """20 users in the first half, 20 others in the second; `future` and `past` shift items on that side of the second cut."""
    time = np.arange(EVENTS)
    items = (time * 7 + time // 40 + np.where(time >= CUT, future, past * (time % 3 == 0))) % 20
    log = pl.DataFrame(
        {"user": [f"u{n}" for n in time % 20 + time // 300 * 20], "item": [f"i{n}" for n in items], "time": time}
    )
    return prepare(log, min_user=1, min_item=1, split=split)


def weights(data: Dataset, path: Path) -> bytes:
    list(train_backbone(data, TINY, path))
    return (path / "best.safetensors").read_bytes()


def test_what_happens_after_the_cuts_changes_no_weight(tmp_path: Path) -> None:
    now, other = walk(), walk(future=3)
    assert now.split().test.targets.tolist() != other.split().test.targets.tolist()
    assert weights(now, tmp_path / "NOW") == weights(other, tmp_path / "OTHER")


def test_what_happens_before_them_does_and_so_does_leave_one_out(tmp_path: Path) -> None:
    assert weights(walk(), tmp_path / "NOW") != weights(walk(past=3), tmp_path / "PAST")
    one, other = walk("leave-one-out"), walk("leave-one-out", future=3)
    assert weights(one, tmp_path / "ONE") != weights(other, tmp_path / "LEAK")  # that is what leaving one out leaks


def test_a_run_on_one_split_is_refused_on_the_other(tmp_path: Path) -> None:
    list(train_backbone(walk(), TINY, tmp_path / "RUN"))
    assert load_run(tmp_path / "RUN").data_hash == walk().hash
    with pytest.raises(ArtifactError, match="expected a run on data"):
        publish(tmp_path / "RUN", walk("leave-one-out"), tmp_path / "BASE")
    assert len(publish(tmp_path / "RUN", walk(), tmp_path / "BASE").table) == 20
