"""A prepared log: numbered histories, the ids behind the numbers, and how they came to be.

`prepare` makes a `Dataset` once; everything after it (training, publishing, evaluation) starts from its folder:

    DATA/
      info.json                what was read, what was filtered, tie and repeat shares, versions; the digests of the others
      ids.json                 user and item ids in row order, titles
      histories.safetensors    items int32, offsets int64; times int64 or float64, if the log has them

Item row 0 is the most popular item of the training part, row 1 the next: the order that every table keeps.
What is training and what is asked for is settled here too (`Dataset.split`), since the numbering of items depends on it.
The data's identity is the SHA-256 of its arrays and ids, and of times and cuts where the split goes by time (`Dataset.hash`);
a run stores it, so that nobody evaluates a model on other data, or another split, by accident. Folders are written whole; a
byte that changed afterwards is an `ArtifactError`. Format 1 had no times and knew leave-one-out only; it is still read.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from jaxtyping import Shaped
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from ossia.data.global_time import Cuts, check_no_leak, global_time
from ossia.data.histories import Histories
from ossia.data.splits import Split, leave_one_out
from ossia.errors import ArtifactError, DataError
from ossia.files import folder_whole

FORMAT = 2
READABLE = (1, 2)
INFO, IDS, HISTORIES = "info.json", "ids.json", "histories.safetensors"


class Counts(msgspec.Struct, frozen=True):
    """How large a log is."""

    users: int
    items: int
    events: int


class DataInfo(msgspec.Struct, frozen=True, kw_only=True):
    """How a dataset came to be.

    Attributes:
        source: where the log came from, in the caller's words: path, name, SHA-256.
        before: the log as read.
        after: what was kept.
        duplicates: events dropped because user, item and time repeated an earlier one exactly.
        min_user: the k-core's fewest events per user.
        min_item: the k-core's fewest events per item.
        ties: the rule for events of one user at one time, `file` or `hash`.
        seed: the seed of the rule `hash`.
        tie_share: of neighboring events of a user, the share with equal time; None for a log without times.
        repeat_share: of all events, the share whose item the user had met before.
        titled: items with a title; None without titles.
        versions: of everything that could change the result.
        hash: the data's identity, 64 hexadecimal digits.
        min_value: the least value of an event that was kept; None: values did not count.
        below_value: events dropped because of it.
        repeats: what stayed of a user's events with one item: `keep` (all), `first` or `last`.
        repeats_dropped: events dropped because of it.
        split: `leave-one-out` or `global-time`.
        cuts: of global time; None for leave-one-out.
    """

    source: dict[str, str]
    before: Counts
    after: Counts
    duplicates: int
    min_user: int
    min_item: int
    ties: str
    seed: int
    tie_share: float | None
    repeat_share: float
    titled: int | None
    versions: dict[str, str]
    hash: str
    min_value: float | None = None
    below_value: int = 0
    repeats: str = "keep"
    repeats_dropped: int = 0
    split: str = "leave-one-out"
    cuts: Cuts | None = None


@dataclass(frozen=True, eq=False)
class Dataset:
    """Histories with the ids behind their numbers.

    Attributes:
        histories: one per user, oldest event first, item rows.
        user_ids: the log's own id of each user row.
        item_ids: the log's own id of each item row; row 0 is the most popular in training.
        titles: a name to show for each item row, its id where it has none; None if no titles were given.
        info: how this came to be.
        times: of each event, in the order of `histories.items`; None for a log without times.
    """

    histories: Histories
    user_ids: list[str]
    item_ids: list[str]
    titles: list[str] | None
    info: DataInfo
    times: Shaped[np.ndarray, " events"] | None = None

    @property
    def users(self) -> int:
        """How many users there are."""
        return len(self.user_ids)

    @property
    def items(self) -> int:
        """How many items there are: the rows of the item table."""
        return len(self.item_ids)

    @property
    def hash(self) -> str:
        """The data's identity: SHA-256 of its arrays and ids, as 64 hexadecimal digits."""
        return self.info.hash

    def split(self) -> Split:
        """Cut the log as was settled when it was prepared.

        Returns:
            train, validation and test; those of global time have been checked for leaks.

        Raises:
            DataError: something in training is later than the cut, or the dataset lacks the times for it.
        """
        if self.info.cuts is None:
            return leave_one_out(self.histories)
        if self.times is None:
            raise DataError("data: expected times to split by, got a dataset without")
        split = global_time(self.histories, self.times, self.info.cuts)
        check_no_leak(split, self.histories, self.times, self.info.cuts)
        return split

    def save(self, path: Path | str, *, replace: bool = False) -> None:
        """Write the dataset as a folder, whole or not at all.

        Args:
            path: the folder to make.
            replace: swap out a folder that is already there.

        Raises:
            UsageError: `path` exists, is not empty, and `replace` is false.
        """
        files = {
            IDS: msgspec.json.encode(_Ids(self.user_ids, self.item_ids, self.titles)),
            HISTORIES: save_tensors(_tensors(self.histories, self.times)),
        }
        with folder_whole(Path(path), replace=replace) as folder:
            for name, data in files.items():
                (folder / name).write_bytes(data)
            (folder / INFO).write_bytes(_sealed(self.info, {name: _digest(data) for name, data in files.items()}))

    @classmethod
    def load(cls, path: Path | str) -> "Dataset":
        """Read a folder that `save` wrote.

        Args:
            path: the folder.

        Returns:
            the dataset.

        Raises:
            ArtifactError: it is not such a folder, a file is missing, or a byte changed; names the file.
        """
        stored = _unsealed(Path(path) / INFO)
        data = {name: _intact(Path(path) / name, digest) for name, digest in stored.files.items()}
        ids = _decoded(Path(path) / IDS, data[IDS], _Ids)
        histories, times = _histories(Path(path) / HISTORIES, data[HISTORIES])
        return cls(histories, ids.users, ids.items, ids.titles, stored.info, times)


def data_hash(
    histories: Histories,
    user_ids: list[str],
    item_ids: list[str],
    times: Shaped[np.ndarray, " events"] | None = None,
    cuts: Cuts | None = None,
) -> str:
    """Compute the data's identity; titles, sources and versions are no part of it, nor are times that split nothing.

    Args:
        histories: the events.
        user_ids: in row order.
        item_ids: in row order.
        times: of each event.
        cuts: of global time; None: leave-one-out, and times are no part of the identity.

    Returns:
        SHA-256 over the SHA-256 of each part (little-endian arrays, JSON ids), 64 hexadecimal digits.
    """
    arrays = (histories.items.astype("<i4").tobytes(), histories.offsets.astype("<i8").tobytes())
    parts: tuple[bytes, ...] = (*arrays, msgspec.json.encode(user_ids), msgspec.json.encode(item_ids))
    if cuts is not None and times is not None:
        parts += (times.astype(times.dtype.newbyteorder("<")).tobytes(), msgspec.json.encode(cuts))
    return _digest(b"".join(hashlib.sha256(part).digest() for part in parts))


class _Ids(msgspec.Struct, frozen=True):
    """The file ids.json."""

    users: list[str]
    items: list[str]
    titles: list[str] | None


class _Stored(msgspec.Struct, frozen=True):
    """The file info.json; `seal` is the digest of the same file with an empty seal."""

    format: int
    info: DataInfo
    files: dict[str, str]
    seal: str = ""


_Struct = TypeVar("_Struct", bound=msgspec.Struct)


def _sealed(info: DataInfo, files: dict[str, str]) -> bytes:
    """Encode info.json, with its own digest inside: it is the one file that no other file vouches for."""
    stored = _Stored(FORMAT, info, files)
    return _encoded(msgspec.structs.replace(stored, seal=_digest(_encoded(stored))))


def _unsealed(path: Path) -> _Stored:
    """Read info.json and check its own digest."""
    raw = _bytes(path)
    version = _decoded(path, raw, _Version)
    if version.format not in READABLE:
        raise ArtifactError(f"{path}: expected dataset format {' or '.join(map(str, READABLE))}, got {version.format}")
    stored = _decoded(path, raw, _Stored)
    # On the bytes, not on what was understood of them: an older format has fewer fields, and is sealed all the same.
    unsealed = raw.replace(b'"seal": "%s"' % stored.seal.encode(), b'"seal": ""')
    if not stored.seal or _digest(unsealed) != stored.seal or set(stored.files) != {IDS, HISTORIES}:
        raise ArtifactError(f"{path}: expected the bytes that were written, got others (the seal does not fit)")
    return stored


class _Version(msgspec.Struct, frozen=True):
    """As much of info.json as every format has."""

    format: int


def _tensors(histories: Histories, times: Shaped[np.ndarray, " events"] | None) -> dict[str, np.ndarray]:
    """Name the arrays of histories.safetensors."""
    return {"items": histories.items, "offsets": histories.offsets} | ({} if times is None else {"times": times})


def _histories(path: Path, data: bytes) -> tuple[Histories, Shaped[np.ndarray, " events"] | None]:
    """Decode histories.safetensors."""
    try:
        tensors = load_tensors(data)
        histories = Histories(np.asarray(tensors["items"]), np.asarray(tensors["offsets"]))
    except (SafetensorError, KeyError) as error:
        raise ArtifactError(f"{path}: expected the tensors items and offsets, got {error}") from error
    times = tensors.get("times")
    if times is not None and len(times) != len(histories.items):
        raise ArtifactError(f"{path}: expected a time for each of {len(histories.items):,} events, got {len(times):,}")
    return histories, times


def _intact(path: Path, digest: str) -> bytes:
    """Read a file whose digest is known."""
    data = _bytes(path)
    if _digest(data) != digest:
        raise ArtifactError(f"{path}: expected SHA-256 {digest}, got {_digest(data)}")
    return data


def _bytes(path: Path) -> bytes:
    """Read a file of the folder."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: expected a file of a dataset folder, got: {error.strerror}") from error


def _decoded(path: Path, data: bytes, kind: type[_Struct]) -> _Struct:
    """Decode JSON into a struct."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: expected what `prepare` writes, got: {error}") from error


def _encoded(stored: _Stored) -> bytes:
    """Encode info.json for people to read, always to the same bytes."""
    return msgspec.json.format(msgspec.json.encode(stored), indent=2) + b"\n"


def _digest(data: bytes) -> str:
    """SHA-256 as hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
