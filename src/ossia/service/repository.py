"""What a repository of releases says, and how that changes: forward, in stages. `ossia.service.edition` signs and writes it.

    publish     a base as the next release, for a first share of devices
    advance     … for more of them; at 100 % it is settled
    halt        nobody takes it any more; the way on is the next release, never back
    refresh     nothing new, but a timestamp that lives on
    replace     new keys for a role, by a new root

    REPO/targets/releases/3/base/SHA256.plane2.safetensors      beside REPO/metadata: any web server can hand it out

Releases before the settled one are dropped. Which devices are in a stage is theirs to know (`ossia.adaptation.releases`).
"""

import hashlib
import shutil
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ossia.adaptation.base import Base
from ossia.adaptation.keys import read_keys
from ossia.adaptation.manifests import TableManifest, read_files, read_manifest
from ossia.adaptation.personalizer_manifest import PersonalizerManifest
from ossia.adaptation.releases import KEYS, ROLE, ROLLOUT, STAGES, Rollout, folder_of
from ossia.errors import ArtifactError, UsageError
from ossia.files import write_whole
from ossia.service.edition import LIVES_DAYS, Edition, after, editing, publish_edition
from ossia.service.release_keys import Keyring, make_release_key

if TYPE_CHECKING:
    from tuf.api.metadata import Root, Targets

ONLINE = ("snapshot", "timestamp")


def create(repo: Path, keys: Keyring, now: int, *, threshold: int = 1) -> Edition:
    """Make a repository without a release.

    Args:
        repo: its folder, without one yet.
        keys: at least one of each role.
        now: seconds since 1970.
        threshold: how many root keys must sign a root.

    Returns:
        its first edition. `metadata/1.root.json` is what devices must come with.

    Raises:
        UsageError: there is a repository already, or a key is missing.
    """
    from tuf.api.metadata import DelegatedRole, Delegations, Root, Snapshot, Targets, Timestamp

    if (repo / "metadata").exists():
        raise UsageError(f"{repo}: expected a folder without a repository, found one")
    root = Root(version=1, consistent_snapshot=True)
    for role, made_for in (("root", "root"), ("targets", "targets"), *((each, "online") for each in ONLINE)):
        for signer in _needed(keys, made_for, threshold if role == "root" else 1):
            root.add_key(signer.public_key, role)
    root.roles["root"].threshold = threshold
    online = {signer.public_key.keyid: signer.public_key for signer in keys.of("online")}
    delegation = DelegatedRole(ROLE, list(online), 1, terminating=True, paths=[ROLLOUT])
    targets = Targets(delegations=Delegations(dict(online), {ROLE: delegation}))
    first = Edition(root, targets, _told(Targets(), Rollout()), Snapshot(), Timestamp())
    return publish_edition(repo, first, {"root", "targets", ROLE}, keys, now, first=True)


def publish_release(repo: Path, keys: Keyring, base: Path, now: int, *, percent: int = STAGES[0]) -> Edition:
    """Publish a base, its table and its personalizers as the next release.

    Args:
        repo: the repository.
        keys: of targets, and online.
        base: a published base; one with a longer table is a release of new items.
        now: seconds since 1970.
        percent: the share of devices that may have it.

    Returns:
        the new edition.

    Raises:
        ArtifactError: no base, or a damaged one.
        UsageError: another release is on its way, or a key is missing.
    """
    with editing(repo) as edition:
        rollout = edition.rollout
        if rollout.next not in (rollout.settled, *rollout.halted):
            raise UsageError(f"{repo}: expected release {rollout.next} at 100 % or halted, found it at {rollout.percent} %")
        number, content = rollout.next + 1, _content_of(base)
        targets = deepcopy(edition.targets)
        dropped = [old for old in edition.releases if old < rollout.settled]
        for path in [path for path in targets.targets if any(path.startswith(folder_of(old)) for old in dropped)]:
            del targets.targets[path]
        for name, data in content.items():
            _add_target(repo, targets, folder_of(number) + name, data)
        halted = tuple(each for each in rollout.halted if each > rollout.settled)
        published = _tell(
            repo, edition, _staged(Rollout(rollout.settled, number, 0, halted), percent), keys, now, targets=targets
        )
        for old in dropped:
            shutil.rmtree(repo / "targets" / folder_of(old), ignore_errors=True)
        return published


def publish_keys(repo: Path, keys: Keyring, listed: Path, now: int) -> Edition:
    """Publish the list of keys that sign payloads: after each rotation, and at once after a revocation.

    Args:
        repo: the repository.
        keys: of targets, and online.
        listed: `keys.json` of `ossia.service.keychain`.
        now: seconds since 1970.

    Returns:
        the new edition.

    Raises:
        ArtifactError: no list of keys.
        UsageError: a key is missing.
    """
    read_keys(listed)
    with editing(repo) as edition:
        targets = deepcopy(edition.targets)
        _add_target(repo, targets, KEYS, listed.read_bytes())
        return publish_edition(repo, replace(edition, targets=targets), {"targets"}, keys, now)


def advance(repo: Path, keys: Keyring, now: int, *, percent: int | None = None) -> Edition:
    """Give the next release to more devices.

    Args:
        repo: the repository.
        keys: online.
        now: seconds since 1970.
        percent: the share; None: the next stage.

    Returns:
        the new edition.

    Raises:
        UsageError: nothing is on its way, it was halted, the share would not grow, or a key is missing.
    """
    with editing(repo) as edition:
        rollout = edition.rollout
        if rollout.next == rollout.settled:
            raise UsageError(f"{repo}: expected a release on its way, found {rollout.settled} settled")
        if rollout.next in rollout.halted:
            raise UsageError(f"{repo}: expected a release on its way, but {rollout.next} is halted; publish the next")
        share = next((stage for stage in STAGES if stage > rollout.percent), 100) if percent is None else percent
        if not rollout.percent < share <= 100:
            raise UsageError(f"stage: expected more than {rollout.percent} %, at most 100 %, got {share} %")
        return _tell(repo, edition, _staged(rollout, share), keys, now)


def halt(repo: Path, keys: Keyring, now: int) -> Edition:
    """Let nobody take the next release any more; who has it keeps it until there is another.

    Args:
        repo: the repository.
        keys: online.
        now: seconds since 1970.

    Returns:
        the new edition, or the present one if it is halted already.

    Raises:
        UsageError: nothing is on its way, or a key is missing.
    """
    with editing(repo) as edition:
        rollout = edition.rollout
        if rollout.next == rollout.settled:
            raise UsageError(
                f"{repo}: expected a release on its way, found {rollout.settled} settled; publish the next instead"
            )
        if rollout.next in rollout.halted:
            return edition
        halted = msgspec.structs.replace(rollout, halted=(*rollout.halted, rollout.next), percent=0)
        return _tell(repo, edition, halted, keys, now)


def refresh(repo: Path, keys: Keyring, now: int) -> Edition:
    """Renew what lives for days: run it daily, or let the service do it.

    Args:
        repo: the repository.
        keys: online.
        now: seconds since 1970.

    Returns:
        the new edition.

    Raises:
        UsageError: a key is missing.
    """
    with editing(repo) as edition:
        half = after(now, LIVES_DAYS[ROLE] / 2)
        return publish_edition(repo, edition, {ROLE} if edition.delegated.expires < half else set(), keys, now)


def replace_keys(repo: Path, keys: Keyring, folder: Path, role: str, now: int, *, only: str | None = None) -> Edition:
    """Replace a role's keys by new ones, with a new root: devices believe the old ones no more.

    Args:
        repo: the repository.
        keys: of root; of targets too where the online keys change; the old ones of root where root's change.
        folder: where the new keys go.
        role: `root`, `targets` or `online`.
        now: seconds since 1970.
        only: the first digits of one key's id; None: all keys of the role.

    Returns:
        the new edition. The old private halves, if at hand, are deleted.

    Raises:
        UsageError: no such key, or one that must sign is missing.
    """
    with editing(repo) as edition:
        root, targets = deepcopy(edition.root), deepcopy(edition.targets)
        inside = ONLINE if role == "online" else (role,)
        old = [key for key in root.roles[inside[0]].keyids if key.startswith(only or "")]
        if not old or (only is not None and len(old) > 1):
            raise UsageError(f"key: expected the first digits of one key of role {role}, got {only!r}")
        fresh = [make_release_key(folder, role) for _ in old]
        new = {signer.public_key.keyid: signer.public_key for signer in fresh}
        for each in inside:
            _swap(root, each, old, new)
        changed = {"root"} | ({"targets", ROLE} if role == "online" else {"targets"} if role == "targets" else set())
        if role == "online":
            _swap(targets, ROLE, old, new)
        ring = Keyring(
            {**keys.signers, **dict(zip(new, fresh, strict=True))},
            keys.files,
            {**keys.roles, **dict.fromkeys(new, role)},
        )
        published = publish_edition(repo, replace(edition, root=root, targets=targets), changed, ring, now)
        for key in old:
            if key in keys.files:
                keys.files[key].unlink(missing_ok=True)
        return published


def _swap(delegator: "Root | Targets", role: str, old: list[str], new: Mapping[str, Any]) -> None:
    """Change the keys of a role in a copy of metadata."""
    for key in new.values():
        delegator.add_key(key, role)
    for gone in old:
        delegator.revoke_key(gone, role)


def _staged(rollout: Rollout, percent: int) -> Rollout:
    """Give a release to a share; at 100 % it is settled."""
    settled = rollout.next if percent == 100 else rollout.settled
    return msgspec.structs.replace(rollout, percent=percent, settled=settled)


def _tell(
    repo: Path, edition: Edition, rollout: Rollout, keys: Keyring, now: int, *, targets: "Targets | None" = None
) -> Edition:
    """Publish a rollout, with new targets or the present ones."""
    delegated = _told(deepcopy(edition.delegated), rollout)
    document = msgspec.json.encode(rollout)
    write_whole(repo / "targets" / f"{hashlib.sha256(document).hexdigest()}.{ROLLOUT}", document)
    changed = {ROLE} if targets is None else {ROLE, "targets"}
    renewed = replace(edition, targets=targets or edition.targets, delegated=delegated)
    return publish_edition(repo, renewed, changed, keys, now)


def _told(delegated: "Targets", rollout: Rollout) -> "Targets":
    """Put a rollout into the delegated role's metadata: as its target, and as what is known of that target."""
    from tuf.api.metadata import TargetFile

    target = TargetFile.from_data(ROLLOUT, msgspec.json.encode(rollout), ["sha256"])
    target.unrecognized_fields["custom"] = msgspec.to_builtins(rollout)
    delegated.targets[ROLLOUT] = target
    return delegated


def _needed(keys: Keyring, role: str, least: int) -> list[Any]:
    """List a role's keys, of which there must be some."""
    found = keys.of(role)
    if len(found) < least:
        raise UsageError(f"keys: expected at least {least} of role {role}, got {len(found)}; `ossia keys make --role {role}`")
    return found


def _content_of(base: Path) -> dict[str, bytes]:
    """Read a base's files, its table's and its personalizers', each held to its digest."""
    loaded = Base.load(base)
    names = ["manifest.json", *loaded.manifest.files]
    manifest = read_manifest(base / "table" / "manifest.json", TableManifest)[1]
    names += ["table/manifest.json", *(f"table/{name}" for name in manifest.files)]
    for folder in sorted((base / "personalizers").glob("*/manifest.json")):
        _, personalizer = read_manifest(folder, PersonalizerManifest)
        if personalizer.base != loaded.id.hex():
            raise ArtifactError(f"{folder}: expected a personalizer of base {loaded.id.hex()[:12]}…, got another's")
        read_files(folder.parent, personalizer.files)
        within = folder.parent.relative_to(base).as_posix()
        names += [f"{within}/manifest.json", *(f"{within}/{name}" for name in personalizer.files)]
    return {name: (base / name).read_bytes() for name in names}


def _add_target(repo: Path, targets: "Targets", path: str, data: bytes) -> None:
    """Put a file where devices find it, and say so in (not yet signed) targets."""
    from tuf.api.metadata import TargetFile

    target: TargetFile = TargetFile.from_data(path, data, ["sha256"])
    parent, slash, name = path.rpartition("/")
    write_whole(repo / "targets" / f"{parent}{slash}{target.hashes['sha256']}.{name}", data)
    targets.targets[path] = target
