"""From a log to data: the command `prepare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ossia.cli.options import JsonOption
from ossia.cli.output import answer, count, say

if TYPE_CHECKING:
    import ossia.data


def prepare(
    log: Annotated[str, typer.Argument(metavar="LOG", help="CSV, TSV, Parquet or RecBole file, maybe gzipped; or ml-100k.")],
    out: Annotated[Path, typer.Option("--out", metavar="DATA", help="The folder to make.")],
    user: Annotated[str | None, typer.Option("--user", metavar="COLUMN", help="Recognized if left out.")] = None,
    item: Annotated[str | None, typer.Option("--item", metavar="COLUMN", help="Recognized if left out.")] = None,
    time: Annotated[str | None, typer.Option("--time", metavar="COLUMN", help="Recognized if left out.")] = None,
    log_format: Annotated[str, typer.Option("--format", help="auto, csv, tsv, parquet, inter or sequences.")] = "auto",
    titles: Annotated[Path | None, typer.Option("--titles", metavar="FILE", help="Item ids with titles.")] = None,
    min_user: Annotated[int, typer.Option("--min-user", min=1, help="Fewest events of a user who is kept.")] = 5,
    min_item: Annotated[int, typer.Option("--min-item", min=1, help="Fewest events of an item that is kept.")] = 5,
    ties: Annotated[
        Literal["file", "hash"], typer.Option("--ties", help="The order of equal times: the file's, or shuffled.")
    ] = "file",
    seed: Annotated[int, typer.Option("--seed", help="Of the shuffle of ties.")] = 0,
    replace: Annotated[bool, typer.Option("--replace", help="Swap out a folder that is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Read a log of who met what and when; filter it, number it, and write it as one folder.

    Example: ossia prepare ratings.csv --user userId --item movieId --time timestamp --titles movies.csv --out data
    """
    from ossia.data import prepare as make_dataset
    from ossia.data import read_log, read_titles

    path, title_file, source = _locate(log, titles)
    say(f"prepare: reading {path}")
    events = read_log(path, format=log_format, user=user, item=item, time=time)
    names = None if title_file is None else read_titles(title_file)
    dataset = make_dataset(events, min_user=min_user, min_item=min_item, ties=ties, seed=seed, titles=names, source=source)
    dataset.save(out, replace=replace)
    answer({"data": out, "info": dataset.info}, _tell(out, dataset.info), as_json=as_json)


def _locate(log: str, titles: Path | None) -> tuple[Path, Path | None, dict[str, str]]:
    """Find the files of a log, which is a path or the name of a data set; a path that exists wins."""
    from ossia.data import DATASETS, fetch
    from ossia.errors import DataError
    from ossia.files import sha256_file

    if Path(log).is_file():
        return Path(log), titles, {"path": log, "sha256": sha256_file(Path(log))}
    if log not in DATASETS:
        raise DataError(f"{log}: expected a file or one of {', '.join(DATASETS)}, found neither")
    folder, known = fetch(log, progress=say), DATASETS[log]
    found = titles or (folder / known.titles if known.titles else None)
    return folder / known.log, found, {"name": log, "sha256": known.files[known.log], "terms": known.terms}


def _tell(out: Path, info: "ossia.data.DataInfo") -> list[str]:
    """Say what was kept, and what there is to know before one trusts it."""
    kept, read = info.after, info.before
    return [
        f"{out}: {count(kept.users, 'user')}, {count(kept.items, 'item')}, {count(kept.events, 'event')}",
        f"  read     {count(read.users, 'user')}, {count(read.items, 'item')}, {count(read.events, 'event')}"
        f" ({count(info.duplicates, 'duplicate')} dropped)",
        f"  ties     {_percent(info.tie_share)} of neighboring events have equal times, ordered by {info.ties}",
        f"  repeats  {_percent(info.repeat_share)} of events are items that the user had met before",
        f"  hash     {info.hash}",
    ]


def _percent(share: float | None) -> str:
    """Write a share; a dash for a log that does not say."""
    return "–" if share is None else f"{share:.1%}"
