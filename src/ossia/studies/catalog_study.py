"""The catalog study, run by run: what is judged already is not judged again.

FOLDER/RUN/catalog.npz         ranks of every holding (`catalog.py`)
FOLDER/RUN/mixed.npz           ranks of own rows at mixed widths, and splits.json: how the bytes are split (`catalog_mixed.py`)
FOLDER/RUN/refreshes.json      what a refresh sends (`catalog_refresh.py`)
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from ossia.data import Dataset
from ossia.files import write_whole
from ossia.studies.catalog import judge, write_holdings
from ossia.studies.catalog_mixed import choose_splits, judge_mixed
from ossia.studies.catalog_refresh import refreshes
from ossia.studies.catalog_room import CASES, Room
from ossia.studies.runs import names_of

HOLDINGS, MIXTURES, SPLITS, REFRESHES = "catalog.npz", "mixed.npz", "splits.json", "refreshes.json"


def study(data: Dataset, runs: Sequence[Path], folder: Path, cases: int = CASES) -> Iterator[str]:
    """Judge what has not been judged of every run; iterate to watch.

    Args:
        data: the prepared log.
        runs: trained on it; the seeds of the study.
        folder: where everything goes.
        cases: how many test cases are read of each run, at the most; the same throughout a folder.

    Yields:
        the name of each file that is through.

    Raises:
        UsageError: two runs of one name, or none.
    """
    for name, run in zip(names_of(runs), runs, strict=True):
        place = folder / name
        missing = [part for part in PARTS if not (place / part).exists()]
        if not missing:
            continue
        room = Room.prepare(data, run, place, cases=cases)
        for part in missing:
            PARTS[part](room, place)
            yield f"{name}, {part}"


def _judge_holdings(room: Room, place: Path) -> None:
    """Judge every kind of holding."""
    write_holdings(place / HOLDINGS, judge(room, room.material.backbone.items.weight.detach()))


def _judge_mixtures(room: Room, place: Path) -> None:
    """Choose how bytes are split among widths, and judge that."""
    splits = choose_splits(room)
    write_whole(place / SPLITS, msgspec.json.encode(sorted(splits.items())))
    write_holdings(place / MIXTURES, judge_mixed(room, splits))


def _judge_refreshes(room: Room, place: Path) -> None:
    """Judge every rule of refreshing."""
    write_whole(place / REFRESHES, msgspec.json.encode(list(refreshes(room))))


PARTS: dict[str, Callable[[Room, Path], None]] = {
    HOLDINGS: _judge_holdings,
    MIXTURES: _judge_mixtures,
    REFRESHES: _judge_refreshes,
}
"""What is judged of a run, by the file that says that it is through."""
