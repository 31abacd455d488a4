"""Which release metadata a device believes: the rules of TUF (The Update Framework, version 1.0), without any I/O.

    root        who may sign what; signed by offline keys, and the next root by the keys of this one too
    timestamp   which snapshot is the newest; short-lived, signed online
    snapshot    which versions of targets and rollout belong together
    targets     every file of every release by length and SHA-256, signed offline
    rollout     a delegated role: who may have which release already (`ossia.adaptation.releases`), signed online

Whoever steals the online keys can stop and start releases that offline keys have signed, and can make nobody take anything
else. Formats, canonical JSON and thresholds of signatures are python-tuf's (`tuf.api.metadata`, its stable half); the order
and the checks are section 5.3 of the specification, as functions of (what is trusted, bytes, now). Each refusal has a name:

    malformed      no TUF metadata of version 1, or no JSON
    another_role   metadata of one role where another's is expected
    forged         fewer signatures than the role's threshold, by the keys that the delegator names
    rollback       a version below one that was trusted
    frozen         metadata that ran out: somebody keeps the new ones from us
    mixed          versions, lengths or digests that were never published together

**Fast-forward.** A thief of online keys can publish the highest version there is, after which no right one would be higher. So
old metadata counts only while the *newest* root's keys have signed it: with new online keys, versions begin anew.

Values in, values out: a refused step leaves what was trusted as it was. `ossia.device.update` fetches and keeps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from ossia.adaptation.releases import KEYS, ROLLOUT, Rollout
from ossia.errors import ReleaseError

if TYPE_CHECKING:
    from tuf.api.metadata import MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp


@dataclass(frozen=True, eq=False)
class Trusted:
    """Metadata that was believed, all of one moment.

    Attributes:
        root: who may sign what.
        timestamp: which snapshot.
        snapshot: which targets and rollout.
        targets: which files.
        rollout: who may have which release.
        content: the bytes of each, as they came, by role.
    """

    root: "Root"
    timestamp: "Timestamp"
    snapshot: "Snapshot"
    targets: "Targets"
    rollout: Rollout
    content: Mapping[str, bytes]

    def files_below(self, folder: str) -> dict[str, "TargetFile"]:
        """List the targets of a folder.

        Args:
            folder: a path that ends in a slash.

        Returns:
            length and digest by path below the folder.
        """
        return {path.removeprefix(folder): target for path, target in self.targets.targets.items() if path.startswith(folder)}

    @property
    def keys(self) -> "TargetFile | None":
        """The target that says whose payloads may be believed."""
        return self.targets.targets.get(KEYS)


def first_root(data: bytes) -> "Root":
    """Take a root as given: with the app, or from a disk that we trust. It must be signed by itself.

    Args:
        data: its bytes.

    Returns:
        the root.

    Raises:
        ReleaseError: malformed, another role, or not signed by its own keys.
    """
    root, signed = _parse("root", data)
    _check_signed(root, "root", signed)
    return root


def next_root(root: "Root", data: bytes) -> "Root":
    """Judge the next root: signed by the keys of this one and by its own, one version later.

    Args:
        root: the one that is trusted.
        data: bytes that claim to be its successor.

    Returns:
        the successor. It may have run out: another may follow.

    Raises:
        ReleaseError: it is none.
    """
    successor, signed = _parse("root", data)
    _check_signed(root, "root", signed)
    _check_signed(successor, "root", signed)
    if successor.version != root.version + 1:
        raise ReleaseError(f"root: expected version {root.version + 1}, got {successor.version}", "rollback")
    return successor


def check_timestamp(root: "Root", data: bytes, old: "Timestamp | None", now: int) -> "Timestamp":
    """Judge a timestamp, and the root that is to vouch for it.

    Args:
        root: the newest.
        data: bytes that claim to be a timestamp.
        old: the one trusted so far, if this root's keys signed it.
        now: seconds since 1970.

    Returns:
        the timestamp.

    Raises:
        ReleaseError: malformed, another role, forged, rolled back, or run out.
    """
    _check_in_force(root, "root", now)
    timestamp, signed = _parse("timestamp", data)
    _check_signed(root, "timestamp", signed)
    if old is not None:
        _check_forward("timestamp", timestamp.version, old.version)
        _check_forward("snapshot", timestamp.snapshot_meta.version, old.snapshot_meta.version)
    _check_in_force(timestamp, "timestamp", now)
    return timestamp


def check_snapshot(root: "Root", timestamp: "Timestamp", data: bytes, old: "Snapshot | None", now: int) -> "Snapshot":
    """Judge a snapshot.

    Args:
        root: the newest.
        timestamp: it says which snapshot.
        data: bytes that claim to be it.
        old: the one trusted so far, if this root's keys signed it.
        now: seconds since 1970.

    Returns:
        the snapshot.

    Raises:
        ReleaseError: malformed, another role, forged, rolled back, run out, or not the one that the timestamp names.
    """
    _check_named("snapshot", timestamp.snapshot_meta, data)
    snapshot, signed = _parse("snapshot", data)
    _check_signed(root, "snapshot", signed)
    _check_version("snapshot", timestamp.snapshot_meta, snapshot.version)
    for name, meta in (old.meta if old is not None else {}).items():
        _check_forward(name, snapshot.meta[name].version if name in snapshot.meta else 0, meta.version)
    _check_in_force(snapshot, "snapshot", now)
    return snapshot


def check_targets(delegator: "Root | Targets", role: str, snapshot: "Snapshot", data: bytes, now: int) -> "Targets":
    """Judge targets, or the targets of the delegated role.

    Args:
        delegator: who names the role's keys.
        role: `targets` or `rollout`.
        snapshot: it says which version.
        data: bytes that claim to be it.
        now: seconds since 1970.

    Returns:
        the targets.

    Raises:
        ReleaseError: malformed, another role, forged, run out, or not the version that the snapshot names.
    """
    meta = named_in(snapshot, role)
    _check_named(role, meta, data)
    targets, signed = _parse("targets", data)
    _check_signed(delegator, role, signed)
    _check_version(role, meta, targets.version)
    _check_in_force(targets, role, now)
    return targets


def named_in(snapshot: "Snapshot", role: str) -> "MetaFile":
    """Say which version of a role's metadata belongs to a snapshot.

    Args:
        snapshot: the snapshot.
        role: `targets` or `rollout`.

    Returns:
        version, and length and digest where they are known.

    Raises:
        ReleaseError: the snapshot has none.
    """
    if f"{role}.json" not in snapshot.meta:
        raise ReleaseError(f"snapshot: expected a version of {role}, got none", "mixed")
    return snapshot.meta[f"{role}.json"]


def read_rollout(targets: "Targets", delegated: "Targets") -> Rollout:
    """Read the rollout, and hold it to what offline keys signed.

    It travels inside the delegated role's metadata, as the custom field of its one target: nothing more to fetch.

    Args:
        targets: what offline keys signed.
        delegated: what the role `rollout` signed.

    Returns:
        the rollout.

    Raises:
        ReleaseError: none, of another form, or of releases that offline keys never signed.
    """
    target = delegated.targets.get(ROLLOUT)
    try:
        rollout = msgspec.convert(target.custom if target is not None else None, Rollout)
    except msgspec.ValidationError as error:
        raise ReleaseError(f"{ROLLOUT}: expected a rollout, got: {error}", "malformed") from error
    for number in {rollout.settled, rollout.next} - {0}:
        if f"releases/{number}/manifest.json" not in targets.targets:
            raise ReleaseError(f"{ROLLOUT}: expected releases that were signed, got {number}", "mixed")
    return rollout


def still_signed(delegator: "Root", role: str, data: bytes | None) -> Any:
    """Read metadata that was trusted once, if the newest root's keys signed it: or else versions begin anew.

    Args:
        delegator: the newest root.
        role: `timestamp` or `snapshot`.
        data: what was kept; None for nothing.

    Returns:
        the metadata, or None.
    """
    if data is None:
        return None
    try:
        kept, signed = _parse(role, data)
        _check_signed(delegator, role, signed)
    except ReleaseError:
        return None
    return kept


def _parse(role: str, data: bytes) -> tuple[Any, Any]:
    """Read metadata of a role: what is signed, and the whole. Nothing is believed yet."""
    from tuf.api.metadata import Metadata

    try:
        metadata: Any = Metadata.from_bytes(data)
        metadata.signed_bytes  # noqa: B018 — canonical JSON has no fractions: what can't be written can't be verified
    except Exception as error:  # python-tuf wraps whatever its constructors raise, and its own parent is no RepositoryError
        raise ReleaseError(f"{role}: expected TUF metadata, got: {error}", "malformed") from error
    if metadata.signed.type != role:
        raise ReleaseError(f"{role}: expected metadata of this role, got {metadata.signed.type}", "another_role")
    return metadata.signed, metadata


def _check_signed(delegator: "Root | Targets", role: str, metadata: Any) -> None:
    """Raise ReleaseError unless a threshold of the role's keys signed."""
    try:
        held = delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
        missing = 0 if held else held.missing or 1
    except Exception as error:  # a key of a kind that is not known here, or a role that was never delegated
        raise ReleaseError(f"{role}: expected signatures that can be checked, got: {error}", "forged") from error
    if missing:
        raise ReleaseError(f"{role}: expected {missing} more signature(s) by this role's keys", "forged")


def _check_forward(name: str, found: int, trusted: int) -> None:
    """Raise ReleaseError for a version below one that was trusted."""
    if found < trusted:
        raise ReleaseError(f"{name}: expected version {trusted} or later, got {found}", "rollback")


def _check_in_force(signed: Any, role: str, now: int) -> None:
    """Raise ReleaseError for metadata that ran out."""
    if signed.is_expired(datetime.fromtimestamp(now, UTC)):
        ended = f"{signed.expires:%Y-%m-%d %H:%M}"
        raise ReleaseError(f"{role}: expected metadata in force, got one that ran out at {ended} UTC", "frozen")


def _check_named(role: str, meta: "MetaFile", data: bytes) -> None:
    """Raise ReleaseError for bytes that are not those that were published."""
    from tuf.api.exceptions import LengthOrHashMismatchError

    try:
        meta.verify_length_and_hashes(data)
    except LengthOrHashMismatchError as error:
        raise ReleaseError(f"{role}: expected the bytes of version {meta.version}, got others", "mixed") from error


def _check_version(role: str, meta: "MetaFile", found: int) -> None:
    """Raise ReleaseError for a version that was not published with the rest."""
    if found != meta.version:
        raise ReleaseError(f"{role}: expected version {meta.version}, got {found}", "mixed")
