"""The catalog study, run by run: what is judged already is not judged again."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from ossia.data import Dataset
from ossia.files import write_whole
from ossia.studies.catalog import Room, judge, write_holdings
from ossia.studies.catalog_refresh import refreshes

HOLDINGS, REFRESHES = "catalog.npz", "refreshes.json"


def study(data: Dataset, runs: Sequence[Path], folder: Path) -> Iterator[str]:
    """Judge the holdings and the refreshes of every run that has not been judged; iterate to watch.

    Args:
        data: the prepared log.
        runs: trained on it; the seeds of the study.
        folder: where everything goes.

    Yields:
        the name of each run that is through.
    """
    for run in runs:
        place = folder / run.resolve().name
        missing = [name for name in (HOLDINGS, REFRESHES) if not (place / name).exists()]
        if not missing:
            continue
        room = Room.prepare(data, run, place)
        if HOLDINGS in missing:
            write_holdings(place / HOLDINGS, judge(room, room.material.backbone.items.weight.detach()))
        if REFRESHES in missing:
            write_whole(place / REFRESHES, msgspec.json.encode(list(refreshes(room))))
        yield place.name
