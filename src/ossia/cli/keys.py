"""The keys that sign payloads, on the command line: keys make, rotate, revoke, list."""

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

keys = typer.Typer(
    name="keys", help="The keys that sign payloads; devices trust KEYS/keys.json and nothing else of it.", no_args_is_help=True
)


@keys.command()
def make(folder: KeysArgument, days: DaysOption = 90, as_json: JsonOption = False) -> None:
    """Make a folder with one key.

    Example: ossia keys make keys --days 90
    """
    _tell(folder, make_keys(folder, _expiry(days)), as_json)


@keys.command()
def rotate(folder: KeysArgument, days: DaysOption = 90, as_json: JsonOption = False) -> None:
    """Add a key that signs from now on; the older ones are trusted until they expire.

    Example: ossia keys rotate keys
    """
    _tell(folder, rotate_keys(folder, _expiry(days)), as_json)


@keys.command()
def revoke(
    folder: KeysArgument,
    key: Annotated[str, typer.Argument(metavar="ID", help="Eight hexadecimal digits, as `list` shows them.")],
    as_json: JsonOption = False,
) -> None:
    """Take a key back for good: devices that have the new list refuse whatever it ever signed.

    Example: ossia keys revoke keys 1a2b3c4d
    """
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
