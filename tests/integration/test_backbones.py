"""Caser, GRU4Rec and a SASRec with valves by the command line, from data to a ranking without torch."""

from collections.abc import Callable
from pathlib import Path

import pytest

KINDS = {
    "caser": ("length=3", "vertical=2", "horizontal=4"),
    "gru4rec": ("length=6", "hidden=8"),
    "sasrec": ("length=6", "hidden=8", "valves=1"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_backbone_by_name_trains_publishes_and_ranks(house, cli: Callable, tmp_path: Path, kind: str) -> None:
    settings = [part for setting in ("dim=8", *KINDS[kind]) for part in ("--set", setting)]
    words = (house.data, "--backbone", kind, "--out", tmp_path / "run", "--epochs", 1, *settings)
    trained = cli("train", *words, "--json")
    assert trained.code == 0, trained.err
    published = cli("publish", tmp_path / "run", "--out", tmp_path / "base", "--json")
    assert published.code == 0, published.err
    looked_at = cli("inspect", tmp_path / "base", "--json")
    assert looked_at.code == 0
    assert kind in looked_at.out
    for runtime in ("default", "numpy", "numpy_int8"):
        ranked = cli("rerank", tmp_path / "base", "--history", house.history, "--top", 3, "--runtime", runtime, "--json")
        assert ranked.code == 0, ranked.err
        assert len(ranked.result["ranking"]) == 3


def test_a_size_of_another_backbone_is_refused_before_anything_is_made(house, cli: Callable, tmp_path: Path) -> None:
    refused = cli("train", house.data, "--backbone", "caser", "--out", tmp_path / "run", "--set", "heads=2")
    assert refused.code == 2
    assert "expected a size that caser has (dim, length, vertical, horizontal), got heads" in refused.err
    assert not (tmp_path / "run").exists()
