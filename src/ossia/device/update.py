"""How a device gets a release: whatever a mirror says, it ends with a whole and newer base, or with what it had.

    FOLDER/state.json          metadata that was believed, the release in force, the device's secret for stages
    FOLDER/keys.json           whose payloads may be believed: `TrustedKeys.load`
    FOLDER/releases/7/         a base, whole: `Base.load`
    FOLDER/files/SHA256        files of the next release, until all are there; `.part` while one is on its way

Mirrors and how they are read are `ossia.device.source`. Nothing that one gives is believed before `ossia.device.trust` has
judged it, or before it has the length and digest that signed metadata give. A broken download goes on at its next byte.

    metadata     believed as a whole or not at all, then written in one step
    keys.json    next, so that a mirror without the release's files can't keep a revocation from us
    release      fetched file by file, put together in a folder of its own, loaded, and only then named in state.json

Files that the present release has are not fetched again: new items cost a table. What is refused has a name
(`ossia.errors.ReleaseRefusal`); beside those of the metadata:

    oversized · too_slow · missing     more bytes than signed, or slower than a modem, or none
    other_bytes                        not the bytes that were signed
    extraneous · mixed                 files that no manifest names, or manifests and targets that name different ones
    not_a_base                         signed, but nothing that can be loaded: the fault of whoever published it
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

import msgspec

from ossia.adaptation.base import Base
from ossia.adaptation.manifests import BaseManifest, FileEntry, TableManifest, read_manifest
from ossia.adaptation.personalizer_manifest import PersonalizerManifest
from ossia.adaptation.releases import KEYS, ROLE, folder_of
from ossia.device.source import Mirror, Source, digest_of
from ossia.device.trust import (
    Trusted,
    check_snapshot,
    check_targets,
    check_timestamp,
    first_root,
    named_in,
    next_root,
    read_rollout,
    still_signed,
)
from ossia.errors import ArtifactError, ReleaseError, ReleaseRefusal, UsageError
from ossia.files import folder_whole, sha256_file, write_whole

if TYPE_CHECKING:
    from tuf.api.metadata import Root, TargetFile

STATE = "state.json"
ROOT_BYTES, TIMESTAMP_BYTES = 64 * 1024, 16 * 1024
MOST_ROOTS = 256  # in one update, or a thief of root keys could keep a device busy for ever
PERSONALIZERS = "personalizers/"


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`state.json`.

    Attributes:
        secret: 32 bytes that decide in which stage the device takes a release; they never leave it.
        content: metadata that was believed, as it came, by role; at least `root`.
        release: number of the release in force; 0 before the first.
    """

    secret: bytes
    content: dict[str, bytes]
    release: int = 0
    kind: Literal["ossia-releases"] = "ossia-releases"
    version: Literal[1] = 1


@dataclass(frozen=True)
class Refused:
    """What a mirror gave, and why it was not taken.

    Attributes:
        mirror: its place in the list.
        refusal: why, in a word.
        reason: why, in a sentence.
        release: the release that was wanted by then; 0: it did not come so far.
    """

    mirror: int
    refusal: ReleaseRefusal
    reason: str
    release: int = 0


@dataclass(frozen=True)
class Updated:
    """What became of an update.

    Attributes:
        release: the release in force now; 0 before the first.
        changed: whether it is another one than before.
        refused: what mirrors gave that was not taken; with none left to ask, everything is as it was.
        received: bytes that came from mirrors.
    """

    release: int
    changed: bool
    refused: tuple[Refused, ...] = ()
    received: int = field(default=0, compare=False)


def begin(folder: Path, root: bytes) -> State:
    """Make a device's folder, with the root that came with the app.

    Args:
        folder: new, or without a state.
        root: bytes of a root's metadata.

    Returns:
        the state.

    Raises:
        UsageError: there is a state already; a root is trusted once.
        ReleaseError: no root.
    """
    if (folder / STATE).exists():
        raise UsageError(f"{folder}: expected a folder without {STATE}, found one")
    first_root(root)
    return _write(folder, State(os.urandom(32), {"root": root}))


def read_state(folder: Path) -> State:
    """Read a device's state.

    Args:
        folder: as `begin` made it.

    Returns:
        the state.

    Raises:
        ArtifactError: none there, or damaged.
    """
    return read_manifest(folder / STATE, State)[1]


def release_folder(folder: Path, number: int) -> Path:
    """Say where a release lies.

    Args:
        folder: the device's.
        number: the release's.

    Returns:
        a base's folder.
    """
    return folder / "releases" / str(number)


def update(
    folder: Path,
    mirrors: Sequence[Mirror],
    now: int,
    *,
    personalizers: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Updated:
    """Bring a device up to date, by the first mirror that gives what can be believed.

    Args:
        folder: as `begin` made it.
        mirrors: asked in order; a lie from one is no reason to believe the next less.
        now: seconds since 1970.
        personalizers: take these too; for a server, not for a device.
        clock: for patience.

    Returns:
        the release in force, and what was refused.

    Raises:
        ArtifactError: the folder has no state.
        OSError: the disk refused.
    """
    refused: list[Refused] = []
    received = 0
    for index, mirror in enumerate(mirrors):
        source, number = Source(mirror, clock), 0
        try:
            state, trusted = _believe(folder, source, now)
            _take_keys(folder, source, trusted)
            number = trusted.rollout.wanted(state.secret, state.release)
            if number and not (number == state.release and release_folder(folder, number).is_dir()):
                _install(folder, source, trusted, state.release, number, personalizers)
                _write(folder, msgspec.structs.replace(state, release=number))
                _tidy(folder, {number, state.release})
            return Updated(number, number > state.release, tuple(refused), received + source.received)
        except ReleaseError as error:
            refused.append(Refused(index, error.refusal, str(error), number))
            received += source.received
    return Updated(read_state(folder).release, False, tuple(refused), received)


def refresh(state: State, source: Source, now: int) -> Trusted:
    """Fetch what is new of the metadata, and judge it.

    Args:
        state: what is trusted.
        source: a mirror.
        now: seconds since 1970.

    Returns:
        metadata of one moment, none older than what is trusted.

    Raises:
        ReleaseError: something can't be believed.
    """
    content = dict(state.content)
    root, content["root"] = _newest_root(content["root"], source)
    old = still_signed(root, "timestamp", content.get("timestamp")), still_signed(root, "snapshot", content.get("snapshot"))
    content["timestamp"] = source.read("metadata/timestamp.json", TIMESTAMP_BYTES)
    timestamp = check_timestamp(root, content["timestamp"], old[0], now)
    content["snapshot"] = source.metadata("snapshot", timestamp.snapshot_meta.version, timestamp.snapshot_meta.length)
    snapshot = check_snapshot(root, timestamp, content["snapshot"], old[1], now)
    for role in ("targets", ROLE):
        meta = named_in(snapshot, role)
        content[role] = source.metadata(role, meta.version, meta.length)
    targets = check_targets(root, "targets", snapshot, content["targets"], now)
    delegated = check_targets(targets, ROLE, snapshot, content[ROLE], now)
    return Trusted(root, timestamp, snapshot, targets, read_rollout(targets, delegated), content)


def _believe(folder: Path, source: Source, now: int) -> tuple[State, Trusted]:
    """Refresh the metadata and keep it."""
    state = read_state(folder)
    trusted = refresh(state, source, now)
    if trusted.content != state.content:
        state = _write(folder, msgspec.structs.replace(state, content=dict(trusted.content)))
    return state, trusted


def _newest_root(data: bytes, source: Source) -> "tuple[Root, bytes]":
    """Follow the chain of roots to its end."""
    root = first_root(data)
    for _ in range(MOST_ROOTS):
        try:
            successor = source.read(f"metadata/{root.version + 1}.root.json", ROOT_BYTES)
        except ReleaseError as error:
            if error.refusal == "missing":  # the end of the chain, or a mirror that hides the rest: then time will tell
                break
            raise
        root, data = next_root(root, successor), successor
    return root, data


def _take_keys(folder: Path, source: Source, trusted: Trusted) -> None:
    """Fetch the list of keys where the device has another one."""
    if trusted.keys is None or _has(folder / KEYS, trusted.keys):
        return
    write_whole(folder / KEYS, source.target(KEYS, trusted.keys))


def _install(folder: Path, source: Source, trusted: Trusted, held: int, number: int, personalizers: bool) -> None:
    """Fetch a release and put it together, whole."""
    listed = trusted.files_below(folder_of(number))
    wanted = {path: target for path, target in listed.items() if personalizers or not path.startswith(PERSONALIZERS)}
    for path in wanted:
        _check_path(path)
    for manifests in (True, False):  # these first: they say what else there may be
        for path in (each for each in wanted if each.endswith("manifest.json") is manifests):
            _fetch(folder, source, folder_of(number) + path, wanted[path], release_folder(folder, held) / path)
        _check_listing(folder, wanted)
    try:
        with folder_whole(release_folder(folder, number), replace=True) as fresh:
            for path, target in wanted.items():
                write_whole(fresh / path, (folder / "files" / digest_of(target)).read_bytes())
            Base.load(fresh)
    except ArtifactError as error:
        raise ReleaseError(f"release {number}: expected a base, got: {error}", "not_a_base") from error
    shutil.rmtree(folder / "files", ignore_errors=True)


def _fetch(folder: Path, source: Source, path: str, target: "TargetFile", held: Path) -> None:
    """Put a file of the next release into `files/`, from the release at hand if it has it."""
    kept = folder / "files" / digest_of(target)
    if _has(kept, target):
        return
    if _has(held, target):
        write_whole(kept, held.read_bytes())
    else:
        source.download(path, target, kept)


def _check_listing(folder: Path, listed: "dict[str, TargetFile]") -> None:
    """Raise ReleaseError unless the signed files are those that the manifests name, with the same digests."""
    expected = {}
    for path, document in _manifests(listed):
        if path not in listed:
            raise ReleaseError(f"{path}: expected it in the release, got none", "mixed")
        expected[path] = digest_of(listed[path])
        try:
            _, manifest = read_manifest(folder / "files" / digest_of(listed[path]), document)
        except ArtifactError as error:
            raise ReleaseError(f"{path}: expected a manifest, got: {error}", "not_a_base") from error
        files: dict[str, FileEntry] = manifest.files  # type: ignore[attr-defined]
        expected |= {path.removesuffix("manifest.json") + name: file.sha256 for name, file in files.items()}
    for path in listed.keys() - expected.keys():
        raise ReleaseError(f"{path}: expected only files that a manifest names, got this one", "extraneous")
    for path, digest in expected.items():
        if path not in listed or digest_of(listed[path]) != digest:
            raise ReleaseError(f"{path}: expected one file in manifest and targets, got two", "mixed")


def _manifests(listed: "dict[str, TargetFile]") -> Iterator[tuple[str, type[msgspec.Struct]]]:
    """List the manifests that a release must have, and those that it may."""
    yield "manifest.json", BaseManifest
    yield "table/manifest.json", TableManifest
    for path in listed:
        if path.startswith(PERSONALIZERS) and path.endswith("/manifest.json"):
            yield path, PersonalizerManifest


def _check_path(path: str) -> None:
    """Raise ReleaseError for a path that would leave the release's folder."""
    parts = PurePosixPath(path).parts
    if PurePosixPath(path).is_absolute() or ".." in parts or "/".join(parts) != path or "\\" in path or ":" in path:
        raise ReleaseError(f"{path!r}: expected a plain path inside the release", "extraneous")


def _has(path: Path, target: "TargetFile") -> bool:
    """Tell whether a file is there with the bytes that were signed."""
    return path.is_file() and path.stat().st_size == target.length and sha256_file(path) == digest_of(target)


def _write(folder: Path, state: State) -> State:
    """Write the state in one step."""
    write_whole(folder / STATE, msgspec.json.encode(state), mode=0o600)
    return state


def _tidy(folder: Path, keep: set[int]) -> None:
    """Delete releases that nobody runs any more; the one before is kept for sessions that still read it."""
    for each in (folder / "releases").iterdir():
        if each.name not in {str(number) for number in keep}:
            shutil.rmtree(each, ignore_errors=True)
