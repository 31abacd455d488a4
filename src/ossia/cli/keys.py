"""Keys on the command line: keys make, rotate, revoke, list. Those that sign payloads, and with --role those behind releases.

ossia keys make KEYS                                          signs payloads: an online list, `KEYS/keys.json`
ossia keys make OFFLINE --role root                           one more private key, which counts once a root says so
ossia keys rotate OFFLINE --role root --repository REPO       new keys for the role, by a new root; the old are void
ossia keys revoke OFFLINE 1a2b3c4d --role root --repository REPO     the same for one of them
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from ossia.adaptation.keys import KeyList, TrustedKey, read_keys
from ossia.cli.options import JsonOption
from ossia.cli.output import answer
from ossia.errors import UsageError
from ossia.service.keychain import LATEST, LIST, make_keys, revoke_key, rotate_keys

DAY_S = 24 * 60 * 60

KeysArgument: TypeAlias = Annotated[Path, typer.Argument(metavar="KEYS", help="A folder of keys.")]
DaysOption: TypeAlias = Annotated[
    float, typer.Option("--days", min=0.01, max=10_000, help="How long the key lives; no payload of it lives longer.")
]

RoleOption: TypeAlias = Annotated[str, typer.Option("--role", help="payload, or one behind releases: root, targets, online.")]
RepositoryOption: TypeAlias = Annotated[
    Path | None, typer.Option("--repository", metavar="REPO", help="With --role: where the new keys are published.")
]
MoreKeysOption: TypeAlias = Annotated[
    list[Path] | None, typer.Option("--keys", metavar="FOLDER", help="With --role: more folders of keys that must sign.")
]

keys = typer.Typer(name="keys", help="Keys that sign payloads, and keys behind releases.", no_args_is_help=True)


@keys.command()
def make(folder: KeysArgument, days: DaysOption = 90, role: RoleOption = "payload", as_json: JsonOption = False) -> None:
    """Make a folder with one key that signs payloads; or with --role one more key behind releases.

    Example: ossia keys make keys --days 90
    """
    if role == "payload":
        _tell(folder, make_keys(folder, _expiry(days)), as_json)
        return
    from ossia.service.release_keys import make_release_key

    made = make_release_key(folder, role).public_key.keyid
    answer({"role": role, "id": made}, [f"{made[:16]}  {role}"], as_json=as_json)


@keys.command()
def rotate(
    folder: KeysArgument,
    days: DaysOption = 90,
    role: RoleOption = "payload",
    repository: RepositoryOption = None,
    more: MoreKeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a key that signs payloads from now on; or with --role replace all keys of the role by a new root.

    Example: ossia keys rotate keys
    """
    if role == "payload":
        _tell(folder, rotate_keys(folder, _expiry(days)), as_json)
    else:
        _replace(folder, role, repository, more, None, as_json)


@keys.command()
def revoke(
    folder: KeysArgument,
    key: Annotated[str, typer.Argument(metavar="ID", help="The hexadecimal digits that `list` or `make` shows.")],
    role: RoleOption = "payload",
    repository: RepositoryOption = None,
    more: MoreKeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a key back for good: whatever it ever signed is refused. With --role a new key takes its place.

    Example: ossia keys revoke keys 1a2b3c4d
    """
    if role != "payload":
        _replace(folder, role, repository, more, key, as_json)
        return
    try:
        number = int(key, 16)
    except ValueError:
        raise UsageError(f"key: expected eight hexadecimal digits, got {key!r}") from None
    _tell(folder, revoke_key(folder, number), as_json)


@keys.command("list")
def list_keys(folder: KeysArgument, as_json: JsonOption = False) -> None:
    """List the keys, oldest first.

    Example: ossia keys list keys
    """
    _tell(folder, read_keys(folder / LIST), as_json)


def _replace(folder: Path, role: str, repo: Path | None, more: list[Path] | None, only: str | None, as_json: bool) -> None:
    """Replace keys behind releases."""
    from ossia.service.release_keys import ROLES, load_keyring
    from ossia.service.repository import replace_keys

    if repo is None or role not in ROLES:
        raise UsageError(f"keys: expected --repository, and a role of payload, {', '.join(ROLES)}, got {repo} and {role!r}")
    edition = replace_keys(repo, load_keyring([folder, *(more or [])]), folder, role, int(time.time()), only=only)
    ids = edition.root.roles["timestamp" if role == "online" else role].keyids
    answer({"role": role, "root": edition.root.version, "ids": ids}, [f"{key[:16]}  {role}" for key in ids], as_json=as_json)


def _expiry(days: float) -> int:
    """Say when a key made now expires."""
    return min(int(time.time() + days * DAY_S), LATEST)


def _tell(folder: Path, listed: KeyList, as_json: bool) -> None:
    """Print the list."""
    states = dict(_states(listed, int(time.time())))
    rows = [{"id": f"{key.id:08x}", "state": states[key], "expiry": key.expiry} for key in listed.keys]
    lines = (f"{row['id']}  {row['state']:8}  until {_day(row['expiry'])}" for row in rows)
    answer({"trust": folder / LIST, "keys": rows}, lines, as_json=as_json)


def _states(listed: KeyList, now: int) -> Iterator[tuple[TrustedKey, str]]:
    """Say of each key what it is good for: the newest in force signs, the others in force are trusted."""
    in_force = [key for key in listed.keys if not key.revoked and key.expiry > now]
    for key in listed.keys:
        if key in in_force:
            yield key, "signs" if key is in_force[-1] else "trusted"
        else:
            yield key, "revoked" if key.revoked else "expired"


def _day(seconds: object) -> str:
    """Write a time for people."""
    assert isinstance(seconds, int), "an expiry is a number of seconds"
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
