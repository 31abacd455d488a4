"""From a log to data: the command `prepare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ossia.cli.options import JsonOption
from ossia.cli.output import answer, count, say
from ossia.errors import UsageError

if TYPE_CHECKING:
    import ossia.data


def prepare(
    logs: Annotated[
        list[str],
        typer.Argument(
            metavar="LOG...",
            help="CSV, TSV, RecBole (maybe gzipped), Parquet or Arrow; several with the same columns; or ml-100k, ml-1m.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DATA", help="The folder to make.")],
    user: Annotated[str | None, typer.Option("--user", metavar="COLUMN", help="Recognized if left out.")] = None,
    item: Annotated[str | None, typer.Option("--item", metavar="COLUMN", help="Recognized if left out.")] = None,
    time: Annotated[str | None, typer.Option("--time", metavar="COLUMN", help="Recognized if left out.")] = None,
    value: Annotated[
        str | None, typer.Option("--value", metavar="COLUMN", help="Of ratings; recognized if left out. For --min-value.")
    ] = None,
    log_format: Annotated[
        str, typer.Option("--format", help="auto, csv, tsv, recbole, parquet, arrow, pairs or sequences.")
    ] = "auto",
    titles: Annotated[Path | None, typer.Option("--titles", metavar="FILE", help="Item ids with titles.")] = None,
    min_user: Annotated[int, typer.Option("--min-user", min=1, help="Fewest events of a user who is kept.")] = 5,
    min_item: Annotated[int, typer.Option("--min-item", min=1, help="Fewest events of an item that is kept.")] = 5,
    min_value: Annotated[
        float | None, typer.Option("--min-value", metavar="R", help="Drop events with a lower value, such as a rating below 4.")
    ] = None,
    repeats: Annotated[
        Literal["keep", "first", "last"], typer.Option("--repeats", help="What stays of a user's events with one item.")
    ] = "keep",
    ties: Annotated[
        Literal["file", "hash"], typer.Option("--ties", help="The order of equal times: the file's, or shuffled.")
    ] = "file",
    seed: Annotated[int, typer.Option("--seed", help="Of the shuffle of ties.")] = 0,
    split: Annotated[
        Literal["leave-one-out", "global-time"],
        typer.Option("--split", help="What is held out: each user's last two events, or what is later than a moment."),
    ] = "leave-one-out",
    held_out: Annotated[
        float, typer.Option("--held-out", metavar="SHARE", help="With global-time: of events, for test and for validation.")
    ] = 0.1,
    replace: Annotated[bool, typer.Option("--replace", help="Swap out a folder that is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Read a log of who met what and when; filter it, number it, and write it as one folder.

    Example: ossia prepare ratings.csv --user userId --item movieId --time timestamp --titles movies.csv --out data

    Example: ossia prepare 2023.parquet 2024.parquet --min-value 4 --repeats first --out data
    """
    from ossia.data import RECOGNIZED, read_log, read_titles
    from ossia.data import prepare as make_dataset

    paths, title_file, source = _locate(logs, titles)
    say(f"prepare: reading {', '.join(map(str, paths))}")
    rated = value or (None if min_value is None else RECOGNIZED)
    events = read_log(paths, format=log_format, user=user, item=item, time=time, value=rated)
    names = None if title_file is None else read_titles(title_file)
    dataset = make_dataset(
        events,
        min_user=min_user,
        min_item=min_item,
        min_value=min_value,
        repeats=repeats,
        ties=ties,
        seed=seed,
        split=split,
        held_out=held_out,
        titles=names,
        source=source,
    )
    dataset.save(out, replace=replace)
    answer({"data": out, "info": dataset.info}, _tell(out, dataset), as_json=as_json)


def _locate(logs: list[str], titles: Path | None) -> tuple[list[Path], Path | None, dict[str, str]]:
    """Find the files of a log: paths, or the name of one data set; a path that exists wins."""
    from ossia.data import DATASETS, fetch
    from ossia.errors import DataError
    from ossia.files import sha256_file

    paths = [Path(log) for log in logs]
    missing = [log for log, path in zip(logs, paths, strict=True) if not path.is_file()]
    if not missing:
        return paths, titles, {"path": ", ".join(logs), "sha256": ", ".join(map(sha256_file, paths))}
    if missing[0] not in DATASETS:
        raise DataError(f"{missing[0]}: expected a file or one of {', '.join(DATASETS)}, found neither")
    if len(logs) > 1:
        raise UsageError(f"{missing[0]}: expected a data set's name alone, got it beside other logs")
    folder, known = fetch(missing[0], progress=say), DATASETS[missing[0]]
    found = titles or (folder / known.titles if known.titles else None)
    return [folder / known.log], found, {"name": missing[0], "sha256": known.files[known.log], "terms": known.terms}


def _tell(out: Path, dataset: "ossia.data.Dataset") -> list[str]:
    """Say what was kept, and what there is to know before one trusts it."""
    info = dataset.info
    kept, read = info.after, info.before
    return [
        f"{out}: {count(kept.users, 'user')}, {count(kept.items, 'item')}, {count(kept.events, 'event')}",
        f"  read     {count(read.users, 'user')}, {count(read.items, 'item')}, {count(read.events, 'event')}"
        f" ({_dropped(info)} dropped)",
        f"  ties     {_percent(info.tie_share)} of neighboring events have equal times, ordered by {info.ties}",
        f"  repeats  {_percent(info.repeat_share)} of events are items that the user had met before",
        f"  split    {_split(dataset)}",
        f"  hash     {info.hash}",
    ]


def _dropped(info: "ossia.data.DataInfo") -> str:
    """Say what was dropped before users and items were counted."""
    parts = [count(info.duplicates, "duplicate")]
    parts += [] if info.min_value is None else [f"{count(info.below_value, 'event')} of value below {info.min_value:g}"]
    parts += [] if info.repeats == "keep" else [count(info.repeats_dropped, "repeat")]
    return ", ".join(parts)


def _split(dataset: "ossia.data.Dataset") -> str:
    """Say what is held out, and how much of it no training could know."""
    from ossia.data import item_counts
    from ossia.data.times import to_date

    split, cuts = dataset.split(), dataset.info.cuts
    cold = float((item_counts(split.train, dataset.items)[split.test.targets] == 0).mean()) if len(split.test) else 0.0
    moments = "" if cuts is None else " at " + " and ".join(to_date(cut) or str(cut) for cut in (cuts.validation, cuts.test))
    asked = f"{count(len(split.validation), 'question')} for validation, {len(split.test):,} for test"
    return f"{dataset.info.split}{moments}: {asked} ({_percent(cold)} of them after items that training never met)"


def _percent(share: float | None) -> str:
    """Write a share; a dash for a log that does not say."""
    return "–" if share is None else f"{share:.1%}"
