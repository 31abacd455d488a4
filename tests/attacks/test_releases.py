"""The attacks of the TUF specification on releases: each is refused by its own name, and changes nothing on the device.

The payload's channel has its own diary (`test_trust.py`); here it is the list of keys that is attacked.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest
from taking_out import without

from ossia.adaptation import Base
from ossia.adaptation.keys import TrustedKeys
from ossia.adaptation.releases import Rollout
from ossia.device import source, trust, update
from ossia.device.mirrors import open_mirror
from ossia.device.source import Mirror, Source
from ossia.device.update import Updated, begin, read_state
from ossia.errors import ReleaseRefusal
from ossia.service import repository
from ossia.service.edition import Edition, publish_edition, read_edition
from ossia.service.keychain import make_keys, rotate_keys
from ossia.service.release_keys import Keyring, load_keyring, make_release_key

pytest.importorskip("tuf")
from tuf.api.metadata import Metadata, MetaFile, TargetFile

NOW, DAY = 1_800_000_000, 86_400
STAMP = "metadata/timestamp.json"
PLANE, TABLE = "base/plane2.safetensors", "table/plane8.safetensors"


@dataclass(frozen=True)
class Scene:
    """A repository in two editions, a device that has the first, and everything an attacker may have got hold of."""

    folder: Path
    keys: Keyring
    stranger: Keyring

    @property
    def repo(self) -> Path:
        return self.folder / "repo"

    def path(self, name: str) -> str:
        """Where the second release's file lies."""
        target = read_edition(self.repo).targets.targets[f"releases/2/{name}" if name != "keys.json" else name]
        parent, slash, last = target.path.rpartition("/")
        return f"targets/{parent}{slash}{target.hashes['sha256']}.{last}"


@pytest.fixture(scope="module")
def scene(make_base, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("releases")
    for role, where in (("root", "off"), ("root", "off"), ("targets", "off"), ("online", "on")):
        make_release_key(folder / where, role)
        make_release_key(folder / "theirs", role)
    keys, stranger = load_keyring([folder / "off", folder / "on"]), load_keyring([folder / "theirs"])
    make_keys(folder / "payload", NOW + 30 * DAY)
    repository.create(folder / "repo", keys, NOW, threshold=2)
    repository.publish_keys(folder / "repo", keys, folder / "payload" / "keys.json", NOW)
    repository.publish_release(folder / "repo", keys, make_base(seed=1).path, NOW, percent=100)
    shutil.copytree(folder / "repo", folder / "first")
    begin(folder / "device", (folder / "repo" / "metadata" / "1.root.json").read_bytes())
    assert update.update(folder / "device", [open_mirror(str(folder / "repo"))], NOW) == Updated(1, True)
    rotate_keys(folder / "payload", NOW + 90 * DAY)
    repository.publish_keys(folder / "repo", keys, folder / "payload" / "keys.json", NOW)
    repository.publish_release(folder / "repo", keys, make_base(seed=2).path, NOW, percent=100)
    shutil.copytree(folder / "device", folder / "newer")
    assert update.update(folder / "newer", [open_mirror(str(folder / "repo"))], NOW) == Updated(2, True)
    return Scene(folder, keys, stranger)


def lying(it: Scene, lies: dict[str, Callable[[], Iterator[bytes]] | bytes]) -> Mirror:
    """The honest mirror, but for some files."""
    honest = open_mirror(str(it.repo))

    def mirror(path: str, start: int = 0) -> Iterator[bytes]:
        lie = lies.get(path)
        return honest(path, start) if lie is None else iter([lie]) if isinstance(lie, bytes) else lie()

    return mirror


def altered(it: Scene, change: Callable[[Edition], set[str]], keys: Keyring | None = None) -> Mirror:
    """What somebody with keys could publish: the repository, changed and signed anew, by whoever's keys."""
    folder = Path(shutil.copytree(it.repo, it.folder / "altered", dirs_exist_ok=True))
    edition = read_edition(folder)
    changed = change(edition)
    publish_edition(folder, edition, changed, keys or it.keys, NOW)
    return open_mirror(str(folder))


def forged(it: Scene, role: str, keys: list, **changes: object) -> bytes:
    """Metadata of the repository, changed, and signed by just these keys."""
    name = {"timestamp": "timestamp.json"}.get(role) or f"{getattr(read_edition(it.repo), role).version}.{role}.json"
    metadata = Metadata.from_bytes((it.repo / "metadata" / name).read_bytes())
    metadata.signatures.clear()
    for field, value in changes.items():
        setattr(metadata.signed, field, value)
    for signer in keys:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()


def flipped(it: Scene, path: str) -> Mirror:
    data = (it.repo / path).read_bytes()
    return lying(it, {path: data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]})


def endless() -> Iterator[bytes]:
    for _ in range(200):  # twice what anything may have: a device that reads to the end is not to hang the test
        yield b" " * 65_536


def hanging() -> Iterator[bytes]:
    raise TimeoutError("nothing for ten seconds")
    yield b""


def dripping() -> Iterator[bytes]:
    for _ in range(20):
        yield b" "


def gone() -> Iterator[bytes]:
    raise FileNotFoundError
    yield b""


def _current(it: Scene, path: str) -> bytes:
    return (it.repo / path).read_bytes()


def _version(it: Scene, role: str) -> str:
    edition = read_edition(it.repo)
    return f"metadata/{getattr(edition, 'delegated' if role == 'rollout' else role).version}.{role}.json"


def _tear(edition: Edition) -> set[str]:
    """A release of the second base's manifest and the first one's plane."""
    files = edition.targets.targets
    files[f"releases/2/{PLANE}"].hashes = {"sha256": "0" * 64}
    return {"targets"}


def _add(path: str) -> Callable[[Edition], set[str]]:
    def change(edition: Edition) -> set[str]:
        edition.targets.targets[path] = edition.targets.targets[f"releases/2/{PLANE}"]
        return {"targets"}

    return change


def _drop(name: str) -> Callable[[Edition], set[str]]:
    def change(edition: Edition) -> set[str]:
        del edition.targets.targets[f"releases/2/{name}"]
        return {"targets"}

    return change


def _roll_out(number: int) -> Callable[[Edition], set[str]]:
    def change(edition: Edition) -> set[str]:
        repository._told(edition.delegated, Rollout(number, number, 100))
        return {"rollout"}

    return change


def _custom(edition: Edition) -> set[str]:
    edition.delegated.targets["rollout.json"].unrecognized_fields["custom"] = {"settled": -1}
    return {"rollout"}


def _older_targets(edition: Edition) -> set[str]:
    """A thief of the online key brings back targets that were signed once."""
    edition.snapshot.meta["targets.json"] = MetaFile(2)
    return set()


def _rubbish(edition: Edition) -> set[str]:
    """An operator signs a file that is no base."""
    target = TargetFile.from_data("releases/2/manifest.json", b"{}", ["sha256"])
    edition.targets.targets["releases/2/manifest.json"] = target
    return {"targets"}


def _with_rubbish(it: Scene) -> Mirror:
    mirror = altered(it, _rubbish)
    name = TargetFile.from_data("", b"{}", ["sha256"]).hashes["sha256"]
    return lambda path, start=0: iter([b"{}"]) if path == f"targets/releases/2/{name}.manifest.json" else mirror(path, start)


def _stranger(it: Scene) -> Mirror:
    """A whole repository, right in everything but whose it is."""
    shutil.rmtree(it.folder / "strange", ignore_errors=True)
    repository.create(it.folder / "strange", it.stranger, NOW + DAY, threshold=2)
    return lambda path, start=0: gone() if path.endswith("root.json") else open_mirror(str(it.folder / "strange"))(path, start)


def _one_root_key(it: Scene) -> Mirror:
    """Half of the root keys are stolen: enough for nothing."""
    root = Metadata.from_bytes(_current(it, "metadata/1.root.json"))
    root.signed.version = 2
    root.signed.roles["root"].threshold = 1
    root.sign(it.keys.of("root")[0])
    return lying(it, {"metadata/2.root.json": root.to_bytes()})


def _skipped_root(it: Scene) -> Mirror:
    """A root that was signed as it should, but not as the next one."""
    return lying(it, {"metadata/2.root.json": forged(it, "root", it.keys.of("root"), version=9)})


@dataclass(frozen=True)
class Attack:
    refusal: ReleaseRefusal
    mirror: Callable[[Scene], Mirror]
    device: str = "device"
    now: int = NOW
    step: float = 0.0  # seconds that pass with each look at the clock


OLD = lambda it: open_mirror(str(it.folder / "first"))  # noqa: E731
ONLINE = lambda it: it.keys.of("online")  # noqa: E731

ATTACKS: dict[str, Attack] = {
    "arbitrary software: a repository of a stranger": Attack("forged", _stranger),
    "arbitrary software: a file of the base changed": Attack("other_bytes", lambda it: flipped(it, it.path(PLANE))),
    "arbitrary software: a file of the table changed": Attack("other_bytes", lambda it: flipped(it, it.path(TABLE))),
    "arbitrary software: the list of payload keys changed": Attack("other_bytes", lambda it: flipped(it, it.path("keys.json"))),
    "arbitrary software: a signature changed": Attack("forged", lambda it: lying(it, {STAMP: forged(it, "timestamp", [])})),
    "arbitrary software: no metadata at all": Attack("malformed", lambda it: lying(it, {STAMP: b"<html>"})),
    "arbitrary software: a rollout of another form": Attack("malformed", lambda it: altered(it, _custom)),
    "rollback: all metadata of yesterday": Attack("rollback", OLD, "newer"),
    "rollback: yesterday's targets, by a thief of the online key": Attack(
        "rollback", lambda it: altered(it, _older_targets), "newer"
    ),
    "rollback: a root out of turn": Attack("rollback", _skipped_root),
    "freeze: nothing new for four days": Attack("frozen", lambda it: open_mirror(str(it.repo)), now=NOW + 4 * DAY),
    "freeze: nothing new for a year and more": Attack("frozen", lambda it: open_mirror(str(it.repo)), now=NOW + 400 * DAY),
    "endless data: a timestamp": Attack("oversized", lambda it: lying(it, {STAMP: endless})),
    "endless data: a snapshot": Attack("oversized", lambda it: lying(it, {_version(it, "snapshot"): endless})),
    "endless data: a file of the base": Attack("oversized", lambda it: lying(it, {it.path(PLANE): endless})),
    "slow retrieval: a byte every five seconds": Attack("too_slow", lambda it: lying(it, {STAMP: dripping}), step=5.0),
    "slow retrieval: nothing at all": Attack("too_slow", lambda it: lying(it, {it.path(PLANE): hanging})),
    "withheld: a file of the table": Attack("missing", lambda it: lying(it, {it.path(TABLE): gone})),
    "extraneous: a file that nothing names": Attack("extraneous", lambda it: altered(it, _add("releases/2/base/more.so"))),
    "extraneous: a path out of the folder": Attack("extraneous", lambda it: altered(it, _add("releases/2/../../more.so"))),
    "mix and match: a snapshot of another edition": Attack(
        "mixed", lambda it: lying(it, {_version(it, "snapshot"): forged(it, "snapshot", ONLINE(it), version=1)})
    ),
    "mix and match: targets of another edition": Attack(
        "mixed", lambda it: lying(it, {_version(it, "targets"): forged(it, "targets", it.keys.of("targets"), version=1)})
    ),
    "mix and match: a base and another one's plane": Attack("mixed", lambda it: altered(it, _tear)),
    "mix and match: a base without its table": Attack("mixed", lambda it: altered(it, _drop(TABLE))),
    "mix and match: a rollout of a release that was never signed": Attack("mixed", lambda it: altered(it, _roll_out(9))),
    "wrong software: the table's plane as the base's": Attack(
        "other_bytes", lambda it: lying(it, {it.path(PLANE): _current(it, it.path("base/plane4.safetensors"))})
    ),
    "wrong software: a snapshot as timestamp": Attack(
        "another_role", lambda it: lying(it, {STAMP: forged(it, "snapshot", ONLINE(it))})
    ),
    "wrong software: what is no base": Attack("not_a_base", _with_rubbish),
    "key compromise: one of two root keys": Attack("forged", _one_root_key),
    "key compromise: targets signed with the online key": Attack("forged", lambda it: _signed_by_online(it)),
}


def _signed_by_online(it: Scene) -> Mirror:
    """A thief of the online key signs targets of his own, and a snapshot and a timestamp that fit."""
    targets = forged(it, "targets", ONLINE(it))
    version = read_edition(it.repo).targets.version

    def change(edition: Edition) -> set[str]:
        edition.snapshot.meta["targets.json"] = MetaFile.from_data(version, targets, ["sha256"])
        return set()

    mirror = altered(it, change)
    return lambda path, start=0: iter([targets]) if path == f"metadata/{version}.targets.json" else mirror(path, start)


def tree(folder: Path) -> dict[str, bytes]:
    """All that counts on a device: everything but the files of a download that goes on."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.parts[len(folder.parts)] != "files")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def clock_of(step: float) -> Callable[[], float]:
    now = iter(range(10**9))
    return lambda: step * next(now)


def outcome(it: Scene, attack: Attack, folder: Path) -> ReleaseRefusal | None:
    """Let a device meet an attack."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(it.folder / attack.device, folder)
    done = update.update(folder, [attack.mirror(it)], attack.now, clock=clock_of(attack.step))
    return done.refused[0].refusal if done.refused else None


@pytest.mark.parametrize("name", ATTACKS)
def test_each_attack_is_refused_by_name_and_the_base_stays_as_it_was(scene: Scene, tmp_path: Path, name: str) -> None:
    attack = ATTACKS[name]
    shutil.copytree(scene.folder / attack.device, tmp_path / "before")
    assert outcome(scene, attack, tmp_path / "device") == attack.refusal
    before, after = tree(tmp_path / "before"), tree(tmp_path / "device")
    assert read_state(tmp_path / "device").release == read_state(tmp_path / "before").release
    believed = {"state.json", "keys.json"} if attack.refusal in FILES else set()  # metadata that was right is kept
    assert {path for path in before | after if before.get(path) != after.get(path)} <= believed


FILES = ("other_bytes", "oversized", "too_slow", "missing", "extraneous", "mixed", "not_a_base")


def test_what_is_attacked_is_a_release_that_would_be_taken(scene: Scene, tmp_path: Path) -> None:
    assert outcome(scene, Attack("forged", lambda it: open_mirror(str(it.repo))), tmp_path / "device") is None
    assert read_state(tmp_path / "device").release == 2
    assert Base.load(tmp_path / "device" / "releases" / "2").id
    assert (
        TrustedKeys.load(tmp_path / "device" / "keys.json").keys.keys()
        == TrustedKeys.load(scene.folder / "payload" / "keys.json").keys.keys()
    )


def test_every_refusal_has_an_attack() -> None:
    assert {attack.refusal for attack in ATTACKS.values()} == set(get_args(ReleaseRefusal))


CHECKED_IN = (
    trust.next_root,
    trust.read_rollout,
    trust.named_in,
    trust._parse,
    trust._check_signed,
    trust._check_forward,
    trust._check_in_force,
    trust._check_named,
    trust._check_version,
    Source._stream,
    source._check_bytes,
    source.digest_of,
    update._install,
    update._check_listing,
    update._check_path,
)


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_is_refused_by_its_name_when_its_check_is_taken_out(scene: Scene, tmp_path: Path, name: str) -> None:
    attack = ATTACKS[name]
    with without(attack.refusal, CHECKED_IN):
        try:
            found = outcome(scene, attack, tmp_path / "device")
        except Exception as error:  # a device without the check may fail in any way
            found = error
    assert found != attack.refusal
    assert outcome(scene, attack, tmp_path / "device") == attack.refusal


def test_malicious_mirrors_do_not_keep_a_device_from_the_honest_one(scene: Scene, tmp_path: Path) -> None:
    evil = [attack for attack in ATTACKS.values() if attack.device == "device" and attack.now == NOW and not attack.step]
    shutil.copytree(scene.folder / "device", tmp_path / "device")
    mirrors = [_stranger(scene), flipped(scene, scene.path(PLANE)), lying(scene, {STAMP: b""}), OLD(scene)]
    done = update.update(tmp_path / "device", [*mirrors, open_mirror(str(scene.repo))], NOW)
    assert (done.release, done.changed) == (2, True)
    assert [each.refusal for each in done.refused][:2] == ["forged", "other_bytes"]
    assert len(evil) > 20
