"""Kill −9 in the middle of publishing releases, of fetching them and of committing sequences, and look at what is left.

    python tests/attacks/kills.py --kills 1000

    torn    a device can't read the repository, or has no base to rank with, or the store does not open and check
    lost    what the child had acknowledged is not there any more, or a sequence is given out twice

Each runs twice: as it is, and as one would write it without thinking (`path.write_bytes`; a count in a file), as a control
that must tear, or this program could not see a tear. Prints one line of JSON for each. Needs os.fork.
"""

import argparse
import json
import os
import select
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

NOW = 1_800_000_000
LONGEST_S = {"follow": 0.3, "follow, written naively": 0.3}  # a release takes longer than a write
ME = bytes(16)

Child = Callable[[Path], Iterator[int]]
"""Works in a folder for ever, and yields a number that grows with whatever is on the disk by then."""
Look = Callable[[Path], int]
"""Reads what a child left: the number that is there; raises whatever it likes where it is torn."""


def publish(folder: Path) -> Iterator[int]:
    """Publish edition after edition of a repository."""
    from ossia.service.edition import read_edition
    from ossia.service.release_keys import load_keyring
    from ossia.service.repository import publish_keys, refresh

    keys, listed = load_keyring([folder / "keys"]), folder / "payload" / "keys.json"
    yield read_edition(folder / "repo").timestamp.version
    while True:
        yield refresh(folder / "repo", keys, NOW).timestamp.version
        yield publish_keys(folder / "repo", keys, listed, NOW).timestamp.version


def publish_naively(folder: Path) -> Iterator[int]:
    """Publish the same, each file written in place."""
    from ossia.service import edition, repository

    def write(path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    edition.write_whole = repository.write_whole = write  # type: ignore[assignment]
    yield from publish(folder)


def fetch(folder: Path) -> int:
    """Be a device that never saw the repository, and one that saw all of it: both must believe what is there."""
    from ossia.device.mirrors import open_mirror
    from ossia.device.trust import still_signed
    from ossia.device.update import begin, read_state, update

    mirror = open_mirror(str(folder / "repo"))
    with tempfile.TemporaryDirectory() as fresh:
        begin(Path(fresh), (folder / "repo" / "metadata" / "1.root.json").read_bytes())
        for device in (Path(fresh), folder / "device"):
            refused = update(device, [mirror], NOW).refused
            if refused:
                raise ValueError(refused[0].reason)
        from ossia.device.trust import first_root

        state = read_state(Path(fresh))
        return int(still_signed(first_root(state.content["root"]), "timestamp", state.content["timestamp"]).version)


def make_repository(folder: Path) -> None:
    """Make a repository with a list of keys, and a device that knows it."""
    from ossia.device.update import begin
    from ossia.service.keychain import make_keys
    from ossia.service.release_keys import ROLES, load_keyring, make_release_key
    from ossia.service.repository import create, publish_keys

    for role in ROLES:
        make_release_key(folder / "keys", role)
    make_keys(folder / "payload", NOW + 90 * 86_400)
    create(folder / "repo", load_keyring([folder / "keys"]), NOW)
    publish_keys(folder / "repo", load_keyring([folder / "keys"]), folder / "payload" / "keys.json", NOW)
    begin(folder / "device", (folder / "repo" / "metadata" / "1.root.json").read_bytes())


def make_follower(folder: Path) -> None:
    """Make a repository with two releases, and a device that has the first."""
    from ossia.device.mirrors import open_mirror
    from ossia.device.update import update
    from ossia.service.release_keys import load_keyring
    from ossia.service.repository import publish_release
    from ossia.simulation.stand_in import make_base

    make_repository(folder)
    for items in (40, 44):
        made = make_base(folder / f"base{items}", items)
        publish_release(folder / "repo", load_keyring([folder / "keys"]), made.path, NOW, percent=100)
        if items == 40:
            update(folder / "device", [open_mirror(str(folder / "repo"))], NOW)


def follow(folder: Path) -> Iterator[int]:
    """Fetch the newest release, and publish and fetch the one after it."""
    from ossia.device.fetcher import Fetcher
    from ossia.device.mirrors import open_mirror
    from ossia.service.release_keys import load_keyring
    from ossia.service.repository import publish_release

    fetcher = Fetcher(folder / "device", [open_mirror(str(folder / "repo"))], print, lambda: NOW)
    number = ranking(folder)
    yield number
    while True:
        number = fetcher.look(number).release
        yield number
        base = folder / f"base{44 if number % 2 else 40}"
        publish_release(folder / "repo", load_keyring([folder / "keys"]), base, NOW, percent=100)


def follow_naively(folder: Path) -> Iterator[int]:
    """Do the same, but name a release before it is there."""
    import msgspec

    from ossia.device import update

    install = update._install

    def name_first(where: Path, source: object, trusted: object, held: int, number: int, more: bool) -> None:
        update._write(where, msgspec.structs.replace(update.read_state(where), release=number))
        install(where, source, trusted, held, number, more)  # type: ignore[arg-type]

    update._install = name_first
    yield from follow(folder)


def ranking(folder: Path) -> int:
    """Start a device without any network: it must have a base to rank with."""
    from ossia.device.fetcher import load_release

    number, base = load_release(folder / "device")
    if base is None:
        raise ValueError(f"release {number} is in force, and there is none")
    return number


def commit(folder: Path) -> Iterator[int]:
    """Take sequence after sequence."""
    from ossia.service.store import Store

    store = Store(folder)
    store.enroll(ME, bytes(32), NOW).result()
    while True:
        [sequence] = store.advance([ME]).result()
        yield int(sequence or 0)


def read_commit(folder: Path) -> int:
    """Open the store, check it, and say the highest sequence."""
    import apsw

    from ossia.service.database import FILE

    connection = apsw.Connection(str(folder / FILE))
    [(sound,)] = connection.execute("PRAGMA integrity_check").fetchall()
    found = connection.execute("SELECT sequence FROM device").fetchall()
    connection.close()
    assert sound == "ok", sound
    return int(found[0][0]) if found else 0


def commit_stateless(folder: Path) -> Iterator[int]:
    """Take number after number from the count of all."""
    from ossia.service.stateless import Stateless

    store = Stateless(folder)
    while True:
        [number] = store.advance([ME]).result()
        yield int(number or 0)


def read_lease(folder: Path) -> int:
    """Say below which number nothing will be given out any more."""
    from ossia.service.stateless import LEASE, Stateless

    store = Stateless(folder)
    lease = int.from_bytes(store.get(LEASE) or b"", "little")
    store.close()
    return lease


def commit_naively(folder: Path) -> Iterator[int]:
    """Count in a file of JSON."""
    count = read_count(folder) if (folder / "count.json").exists() else 0
    while True:
        count += 1
        (folder / "count.json").write_text(json.dumps({"sequence": count, "device": ME.hex() * 4_000}))
        yield count


def read_count(folder: Path) -> int:
    """Read the count."""
    return int(json.loads((folder / "count.json").read_text())["sequence"])


def nothing(_folder: Path) -> None:
    """Prepare nothing."""


SCENES: dict[str, tuple[Callable[[Path], None], Child, Look]] = {
    "publish": (make_repository, publish, fetch),
    "publish, written naively": (make_repository, publish_naively, fetch),
    "follow": (make_follower, follow, ranking),
    "follow, written naively": (make_follower, follow_naively, ranking),
    "commit": (nothing, commit, read_commit),
    "commit, stateless": (nothing, commit_stateless, read_lease),
    "commit, written naively": (nothing, commit_naively, read_count),
}


def kill_often(scene: str, kills: int, seed: int = 0) -> dict[str, object]:
    """Kill a scene's child so often, and count what is torn or lost."""
    prepare, child, look = SCENES[scene]
    random, torn, lost, highest = Random(seed), 0, 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for _ in range(kills):
            if not any(folder.iterdir()):
                prepare(folder)
            acknowledged = kill_one(folder, child, random.uniform(0, LONGEST_S.get(scene, 0.03)))
            try:
                found = look(folder)
            except Exception:  # any way of not being readable is a tear; what tore it is begun anew
                torn, highest = torn + 1, 0
                _empty(folder)
                continue
            lost += acknowledged is not None and (found < acknowledged or acknowledged < highest)
            highest = found
    return {"what": scene, "kills": kills, "torn": torn, "lost": lost}


def kill_one(folder: Path, child: Child, after_s: float) -> int | None:
    """Let a child work, kill it some time after its first acknowledgment, and say its last."""
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        for number in child(folder):
            os.write(writing, number.to_bytes(8, "little"))
        os._exit(0)
    os.close(writing)
    first = os.read(reading, 8)
    select.select([], [], [], after_s)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    with os.fdopen(reading, "rb") as pipe:
        told = first + pipe.read()
    return int.from_bytes(told[-8:], "little") if told else None


def _empty(folder: Path) -> None:
    """Delete all of a folder."""
    import shutil

    for each in folder.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()


def main() -> int:
    """Read the command line and kill."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--scene", choices=SCENES, action="append")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    bad = False
    for scene in options.scene or SCENES:
        counted = kill_often(scene, options.kills, options.seed)
        print(json.dumps(counted), flush=True)
        harmed = bool(counted["torn"] or counted["lost"])
        bad |= harmed is not scene.endswith("naively")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
