"""What `ossia evaluate` is asked to rank: the catalog, drawn items, or candidates of many users in one file.

    u1  i7 i3 i12          a line for each user: the user's id, then item ids, best first; apart by tabs, or else by spaces
    {"u1": ["i7", "i3"]}   or one JSON object

A user who is not in the file is not judged; a user or item that the data does not know is left out and reported.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from ossia.cli.ids import name_some
from ossia.cli.output import count, say
from ossia.errors import DataError, UsageError

if TYPE_CHECKING:  # the command line is here on devices too, and they have no polars
    import ossia.data


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for.

    Attributes:
        candidates: a file of lists; None: no lists are given.
        sampled_negatives: items to draw for each case; None: nothing is drawn.
        keep_seen: offer what is in the history again.
        most: judge this many cases at most; None: all.
        seed: of draws.
    """

    candidates: Path | None
    sampled_negatives: int | None
    keep_seen: bool
    most: int | None
    seed: int


@dataclass(frozen=True, eq=False)
class Task:
    """What is judged, and among what.

    Attributes:
        cases: histories and what came next.
        lists: each case's own candidates; None: the whole catalog.
        protocol: its name.
    """

    cases: "ossia.data.Cases"
    lists: "ossia.data.Histories | None"
    protocol: str


def make_task(cases: "ossia.data.Cases", dataset: "ossia.data.Dataset", wanted: Wanted) -> Task:
    """Choose the cases, and their lists where there are some; says what of a file can't be used.

    Args:
        cases: what could be judged.
        dataset: knows the ids.
        wanted: what was asked for.

    Returns:
        what will be judged.

    Raises:
        UsageError: several protocols at once, or more negatives than items.
        DataError: the file of candidates is no such file.
    """
    from ossia.evaluation.lists import GIVEN, draw_lists, sampled_protocol
    from ossia.evaluation.protocol import FULL
    from ossia.service.contenders import draw_cases

    if (wanted.candidates is not None) + (wanted.sampled_negatives is not None) + wanted.keep_seen > 1:
        raise UsageError("evaluate: expected one of --candidates, --sampled-negatives and --keep-seen, got several")
    if wanted.candidates is not None:
        listing = read_listing(wanted.candidates, dataset, cases)
        _tell(wanted.candidates, listing, cases)
        drawn = draw_cases(listing.cases, wanted.most, seed=wanted.seed)
        return Task(drawn, read_listing(wanted.candidates, dataset, drawn).lists, GIVEN)
    cases = draw_cases(cases, wanted.most, seed=wanted.seed)
    if wanted.sampled_negatives is None:
        return Task(cases, None, FULL)
    lists = draw_lists(cases, dataset.items, wanted.sampled_negatives, seed=wanted.seed)
    return Task(cases, lists, sampled_protocol(wanted.sampled_negatives))


def remark(task: Task, wanted: Wanted) -> str:
    """Say below the table what its figures can't be more than, or must not be taken for.

    Args:
        task: what was judged.
        wanted: what was asked for.

    Returns:
        a sentence.
    """
    from ossia.evaluation.lists import GIVEN, candidate_recall
    from ossia.evaluation.protocol import repeat_share

    if task.lists is not None and task.protocol == GIVEN:
        lengths = task.lists.lengths.mean()
        recall = f"{candidate_recall(task.cases, task.lists):.1%} of the targets are in their list"
        return f"candidate recall: {recall} ({lengths:,.1f} items on average); the others are misses for everybody"
    if task.lists is not None:
        return f"ranked among {task.protocol}: not to be compared with a full ranking"
    rule = "offered like all others" if wanted.keep_seen else "never offered: a miss for everybody"
    return f"targets that repeat an item of the history: {repeat_share(task.cases):.1%}, {rule}"


def _tell(path: Path, listing: "Listing", cases: "ossia.data.Cases") -> None:
    """Say what of a file is not used, and who is not judged."""
    if listing.unknown_users:
        users = count(len(listing.unknown_users), "user")
        say(f"{path}: {users} without a held-out event: {name_some(listing.unknown_users)}")
    if listing.unknown_items:
        say(f"{path}: left out {listing.unknown_items:,} entries that name items which the data does not know")
    if len(listing.cases) < len(cases):
        say(f"{path}: {count(len(cases) - len(listing.cases), 'user')} without a list, not judged")


@dataclass(frozen=True, eq=False)
class Listing:
    """The cases that have a list, and their lists.

    Attributes:
        cases: in the order of the data.
        lists: row c belongs to case c.
        unknown_users: ids in the file that the data does not know, or of which no event is held out.
        unknown_items: how many entries name items that the data does not know.
    """

    cases: "ossia.data.Cases"
    lists: "ossia.data.Histories"
    unknown_users: list[str]
    unknown_items: int


def read_listing(path: Path, dataset: "ossia.data.Dataset", cases: "ossia.data.Cases") -> Listing:
    """Read candidates for the users of some cases.

    Args:
        path: the file.
        dataset: knows the ids.
        cases: what could be judged.

    Returns:
        what can be judged.

    Raises:
        DataError: the file can't be read, names a user twice, or no user of the cases.
    """
    from ossia.data import Histories

    try:
        named = parse_listing(path.read_bytes(), str(path))
    except OSError as error:
        raise DataError(f"{path}: expected a file with candidates, got: {error.strerror or error}") from error
    row_of = {item: row for row, item in enumerate(dataset.item_ids)}
    case_of = {dataset.user_ids[user]: number for number, user in enumerate(cases.users.tolist())}
    chosen = sorted((case_of[user], user) for user in named if user in case_of)
    if not chosen:
        raise DataError(f"{path}: expected candidates for users of the data, got none; a line is a user's id, then item ids")
    rows = [[row_of[item] for item in named[user] if item in row_of] for _, user in chosen]
    unknown_items = sum(len(named[user]) for _, user in chosen) - sum(map(len, rows))
    return Listing(
        choose([number for number, _ in chosen], cases),
        Histories.from_lists(rows),
        [user for user in named if user not in case_of],
        unknown_items,
    )


def choose(numbers: list[int], cases: "ossia.data.Cases") -> "ossia.data.Cases":
    """Keep some cases.

    Args:
        numbers: which, in order.
        cases: all of them.

    Returns:
        the cases.
    """
    from ossia.data import Cases, Histories

    kept = np.array(numbers, np.int64)
    histories = Histories.from_lists([cases.histories[number].tolist() for number in numbers])
    return Cases(histories, cases.targets[kept], cases.users[kept])


def parse_listing(data: bytes, place: str) -> dict[str, list[str]]:
    r"""Read lists of candidates by user.

    Args:
        data: UTF-8.
        place: where it came from, for messages.

    Returns:
        item ids by user id, in the order given.

    Raises:
        DataError: not UTF-8, JSON that is not an object of lists, or a user named twice; says where.

    Example:
        >>> parse_listing(b"u1 i7 i3\nu2\tThe Third Man\tM\n", "c.txt"), parse_listing(b'{"u1": ["i7", 3]}', "c.json")
        ({'u1': ['i7', 'i3'], 'u2': ['The Third Man', 'M']}, {'u1': ['i7', '3']})
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: expected UTF-8, got byte {data[error.start]:#04x} at {error.start:,}") from error
    if text.lstrip().startswith("{"):
        try:
            named = msgspec.json.decode(text, type=dict[str, list[str | int]])
        except msgspec.MsgspecError as error:
            raise DataError(f"{place}: expected a JSON object of lists of item ids, got: {error}") from error
        return {user: [str(item) for item in items] for user, items in named.items()}
    lists: dict[str, list[str]] = {}
    for number, user, items in _lines(text):
        if user in lists:
            raise DataError(f"{place}: expected each user once, got {user!r} again in line {number:,}")
        lists[user] = items
    return lists


def _lines(text: str) -> Iterator[tuple[int, str, list[str]]]:
    """Cut lines into a user and items; empty lines are none."""
    for number, line in enumerate(text.splitlines(), start=1):
        words = [word.strip() for word in line.split("\t")] if "\t" in line else line.split()
        if words and words[0]:
            yield number, words[0], [word for word in words[1:] if word]
