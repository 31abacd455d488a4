"""One state of a release repository: its metadata, read, signed anew and written. TUF, by python-tuf (`tuf.api.metadata`).

    REPO/metadata/1.root.json, 2.root.json, …     root keys: who may sign what
    REPO/metadata/7.targets.json                  targets key: every file of every release, and keys.json
    REPO/metadata/9.rollout.json                  online key: who may have which release already
    REPO/metadata/12.snapshot.json                online key: which versions belong together
    REPO/metadata/timestamp.json                  online key: which snapshot is the newest

Everything is signed before the first file is written, so that a missing key changes nothing; everything is written under a new
name and `timestamp.json` last, whole: a reader sees the old edition or the new one, and after a kill in between the next
edition writes over what nobody was told of. What editions say is `ossia.service.repository`.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ossia.adaptation.releases import ROLE, ROLLOUT, Rollout
from ossia.errors import ArtifactError, UsageError
from ossia.files import write_whole
from ossia.service.release_keys import SHOWN, Keyring

if TYPE_CHECKING:
    from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

LOCK = ".lock"
LIVES_DAYS = {"root": 365.0, "targets": 180.0, ROLE: 30.0, "snapshot": 30.0, "timestamp": 3.0}
"""How long each role's metadata is believed; the timestamp's is how long somebody in between can hide what is new."""


@dataclass(frozen=True, eq=False)
class Edition:
    """What a repository says at one moment: python-tuf's own objects, copied before they are changed."""

    root: "Root"
    targets: "Targets"
    delegated: "Targets"
    snapshot: "Snapshot"
    timestamp: "Timestamp"

    @property
    def rollout(self) -> Rollout:
        """Who may have what."""
        return msgspec.convert(self.delegated.targets[ROLLOUT].custom, Rollout)

    @property
    def releases(self) -> tuple[int, ...]:
        """Releases that devices can get, oldest first."""
        paths = (path.split("/") for path in self.targets.targets)
        return tuple(sorted({int(parts[1]) for parts in paths if parts[0] == "releases"}))


def read_edition(repo: Path) -> Edition:
    """Read what a repository says.

    Args:
        repo: its folder.

    Returns:
        the newest edition.

    Raises:
        ArtifactError: there is none, or it is damaged.
    """
    timestamp = _read(repo, "timestamp")
    snapshot = _read(repo, f"{timestamp.snapshot_meta.version}.snapshot")
    versions = {role: snapshot.meta[f"{role}.json"].version for role in ("targets", ROLE)}
    newest = max((int(path.name.split(".")[0]) for path in (repo / "metadata").glob("*.root.json")), default=0)
    targets, delegated = (_read(repo, f"{version}.{role}") for role, version in versions.items())
    return Edition(_read(repo, f"{newest}.root"), targets, delegated, snapshot, timestamp)


@contextmanager
def editing(repo: Path) -> Iterator[Edition]:
    """Read an edition to publish the next: one at a time, or a service that halts and an operator who advances undo each other.

    Args:
        repo: the repository.

    Yields:
        the newest edition; nobody else edits until the block ends.

    Raises:
        ArtifactError: there is no repository.
    """
    if not (repo / "metadata").is_dir():
        raise ArtifactError(f"{repo}: expected a repository, found none; `ossia release init` makes one")
    with (repo / LOCK).open("w") as lock:  # the system takes the lock back when its holder is killed
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield read_edition(repo)


def publish_edition(
    repo: Path, edition: Edition, changed: set[str], keys: Keyring, now: int, *, first: bool = False
) -> Edition:
    """Sign what changed, with a snapshot and a timestamp; then write it.

    Args:
        repo: the repository.
        edition: what to say; it is copied.
        changed: of `root`, `targets` and `rollout`, those that are to have a new version.
        keys: at hand.
        now: seconds since 1970.
        first: versions begin at one.

    Returns:
        the edition that is now there.

    Raises:
        UsageError: a key is missing; nothing was written.
    """
    from tuf.api.metadata import MetaFile

    made = deepcopy(edition)
    signed = {"root": made.root, "targets": made.targets, ROLE: made.delegated}
    files: dict[str, bytes] = {}
    for role, metadata in signed.items():
        if role not in changed:
            continue
        data = _sign(role, metadata, _delegators(role, made, edition, repo, first), keys, now, grow=not first)
        files[f"{metadata.version}.{role}.json"] = data
        if role != "root":
            made.snapshot.meta[f"{role}.json"] = MetaFile.from_data(metadata.version, data, ["sha256"])
    data = _sign("snapshot", made.snapshot, [made.root], keys, now, grow=not first)
    files[f"{made.snapshot.version}.snapshot.json"] = data
    made.timestamp.snapshot_meta = MetaFile.from_data(made.snapshot.version, data, ["sha256"])
    files["timestamp.json"] = _sign("timestamp", made.timestamp, [made.root], keys, now, grow=not first)
    for name, content in files.items():
        write_whole(repo / "metadata" / name, content)
    return made


def after(now: int, days: float) -> datetime:
    """Say when something that lives for days ends.

    Args:
        now: seconds since 1970.
        days: how long it lives.

    Returns:
        the end.
    """
    return datetime.fromtimestamp(now, UTC) + timedelta(days=days)


def _delegators(role: str, made: Edition, old: Edition, repo: Path, first: bool) -> "list[Root | Targets]":
    """List whose word a role's signatures must satisfy: for a new root, the one before as well."""
    if role == ROLE:
        return [made.targets]
    if role == "root" and not first:
        return [_read(repo, f"{old.root.version}.root"), made.root]
    return [made.root]


def _sign(role: str, metadata: Any, delegators: "list[Root | Targets]", keys: Keyring, now: int, *, grow: bool) -> bytes:
    """Sign one role's metadata with all keys at hand that count for it."""
    from tuf.api.metadata import Metadata

    metadata.version += int(grow)
    metadata.expires = after(now, LIVES_DAYS[role])
    whole = Metadata(metadata)
    for delegator in delegators:
        for key in delegator.get_delegated_role(role).keyids:
            if key in keys.signers and key not in whole.signatures:
                whole.sign(keys.signers[key], append=True)
    for delegator in delegators:
        found = delegator.get_verification_result(role, whole.signed_bytes, whole.signatures)
        if not found:
            wanted = ", ".join(key[:SHOWN] for key in found.unsigned)
            raise UsageError(f"{role}: expected {found.missing} more of the keys {wanted}; name the folder where they are")
    return bytes(whole.to_bytes())


def _read(repo: Path, name: str) -> Any:
    """Read metadata of our own."""
    from tuf.api.metadata import Metadata

    path = repo / "metadata" / f"{name}.json"
    try:
        return Metadata.from_bytes(path.read_bytes()).signed
    except OSError as error:
        raise ArtifactError(f"{path}: expected metadata, got: {error.strerror or error}") from error
    except Exception as error:  # python-tuf wraps whatever its constructors raise
        raise ArtifactError(f"{path}: expected metadata, got: {error}") from error
