"""A race against a stand-in for the peer: what is timed, what is kept, and what is refused."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ossia.data import Dataset, synthetic
from ossia.errors import UsageError
from ossia.studies.peer import Peer, VectorRanker
from ossia.studies.race import Lap, Settings, conclude, race, read_laps, time_to
from ossia.training import BackboneRecipe
from ossia.types import Candidates

RECIPE = BackboneRecipe(dim=8, length=6, blocks=1, heads=1, hidden=8, batch=256, epochs=3, patience=3, negatives=16)

STAND_IN = """
import json, sys
from pathlib import Path
import numpy as np
folder = Path(sys.argv[1])
settings, data, done = json.loads((folder / "settings.json").read_text()), np.load(folder / "data.npz"), folder / "done"
laps = json.loads(done.read_text()) if done.exists() else []
print(json.dumps({"laps": laps}), flush=True)
for line in sys.stdin:
    word = line.strip()
    if word == "epoch":
        if (folder / "die").exists():
            sys.exit("out of luck")
        laps.append({"seconds": 10.0, "loss": 1.0})
        done.write_text(json.dumps(laps))
        print(json.dumps(laps[-1]), flush=True)
    else:
        cases = len(data[word + "_offsets"]) - 1
        rng = np.random.default_rng(len(laps))
        states = rng.normal(size=(cases, 4)).astype(np.float32)
        vectors = rng.normal(size=(settings["items"], 4)).astype(np.float32)
        np.savez(folder / (word + ".npz"), states=states, vectors=vectors)
        print(json.dumps({"seconds": 0.0}), flush=True)
"""


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic(120, 40, 8, predictability=1.0, seed=0, rules=1)


@pytest.fixture
def open_peer(tmp_path: Path) -> Callable[[Path], Peer]:
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    return lambda folder: Peer([sys.executable, str(script), str(folder)], threads=1, log=folder / "log.txt")


def test_both_take_turns_and_what_is_concluded_is_what_was_written_down(data: Dataset, open_peer, tmp_path: Path) -> None:
    laps = list(race(data, Settings(RECIPE), tmp_path / "race", open_peer))
    assert [lap.who for lap in laps] == ["ossia", "rectools"] * 3
    assert sorted(map(str, read_laps(tmp_path / "race"))) == sorted(map(str, laps))
    assert [lap.total_seconds for lap in laps if lap.who == "rectools"] == [10.0, 20.0, 30.0]
    verdict = conclude(data, tmp_path / "race")
    theirs = [lap for lap in laps if lap.who == "rectools"]
    assert verdict.target == max(lap.validation_ndcg for lap in theirs)
    assert verdict.seconds["rectools"] == next(lap.total_seconds for lap in theirs if lap.validation_ndcg == verdict.target)
    assert [row.name for row in verdict.rows] == ["ossia", "rectools"]
    assert {row.cases for row in verdict.rows} == {120}
    out_of_reach = conclude(data, tmp_path / "race", target=1.1)
    assert (out_of_reach.seconds, out_of_reach.ratio) == ({"ossia": None, "rectools": None}, None)


def test_an_interrupted_race_goes_on_and_loses_no_lap(data: Dataset, open_peer, tmp_path: Path) -> None:
    whole = list(race(data, Settings(RECIPE), tmp_path / "whole", open_peer))
    steps = race(data, Settings(RECIPE), tmp_path / "cut", open_peer)
    first = [next(steps) for _ in range(3)]
    steps.close()  # type: ignore[attr-defined]
    rest = list(race(data, Settings(RECIPE), tmp_path / "cut", open_peer))
    again = [(lap.who, lap.index, lap.loss, lap.validation_ndcg) for lap in first + rest]
    assert sorted(again) == sorted((lap.who, lap.index, lap.loss, lap.validation_ndcg) for lap in whole)
    assert list(race(data, Settings(RECIPE), tmp_path / "cut", open_peer)) == []


def test_an_epoch_of_the_peer_that_was_not_written_down_is_found_again(data: Dataset, open_peer, tmp_path: Path) -> None:
    folder = tmp_path / "race"
    steps = race(data, Settings(RECIPE), folder, open_peer)
    laps = [next(steps) for _ in range(2)]
    steps.close()  # type: ignore[attr-defined]
    (folder / "laps.jsonl").write_text("")  # as if killed before the peer's lap was written
    found = next(race(data, Settings(RECIPE), folder, open_peer))
    assert (found.who, found.index, found.seconds) == ("rectools", 0, 10.0)
    assert found.validation_ndcg == laps[1].validation_ndcg


def test_another_races_folder_and_a_peer_that_dies_are_refused(data: Dataset, open_peer, tmp_path: Path) -> None:
    folder = tmp_path / "race"
    next(race(data, Settings(RECIPE), folder, open_peer))
    with pytest.raises(UsageError, match="the settings and the data of the race so far"):
        next(race(data, Settings(RECIPE, peer_lr=0.1), folder, open_peer))
    (folder / "rectools" / "die").touch()
    with pytest.raises(UsageError, match=r"ended with code 1; see .*log\.txt"):
        list(race(data, Settings(RECIPE), folder, open_peer))
    assert "out of luck" in (folder / "rectools" / "log.txt").read_text()
    with pytest.raises(UsageError, match="laps of both, got none of rectools"):
        conclude(data, folder)


def test_the_time_to_a_target_is_that_of_the_first_lap_that_reaches_it() -> None:
    laps = [Lap("ossia", place, 2.0, 2.0 * place + 2, 1.0, ndcg) for place, ndcg in enumerate((0.1, 0.3, 0.2, 0.3))]
    assert time_to(0.3, laps) == 4.0
    assert time_to(0.0, laps) == 2.0
    assert time_to(0.31, laps) is None


def test_an_item_without_a_vector_is_never_recommended() -> None:
    vectors = np.array([[1.0], [np.nan], [2.0]], np.float32)
    ranker = VectorRanker(np.array([[-1.0], [1.0]], np.float32), vectors).of(1)
    assert ranker.scores(np.array([0]), Candidates(np.array([2, 1, 0]))).tolist() == [2.0, -np.inf, 1.0]
