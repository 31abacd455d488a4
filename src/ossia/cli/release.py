"""Releases on the command line: release init, publish, advance, guard, halt, keys, refresh, status; and fetch."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from ossia.adaptation.releases import STAGES
from ossia.cli.options import BaseArgument, JsonOption
from ossia.cli.output import answer, say
from ossia.errors import ReleaseError

if TYPE_CHECKING:
    from ossia.service.edition import Edition
    from ossia.service.release_keys import Keyring

RepoArgument: TypeAlias = Annotated[Path, typer.Argument(metavar="REPO", help="The repository: a folder for a web server.")]
KeysOption: TypeAlias = Annotated[
    list[Path], typer.Option("--keys", metavar="FOLDER", help="Where private keys are, from `keys make --role …`; repeat it.")
]
PercentOption: TypeAlias = Annotated[
    int, typer.Option("--percent", min=0, max=100, help="The share of devices that may have it.")
]

release = typer.Typer(
    name="release", help="Publish bases in stages, signed by offline keys, and fetch them.", no_args_is_help=True
)


@release.command()
def init(
    repo: RepoArgument,
    keys: KeysOption,
    threshold: Annotated[int, typer.Option("--threshold", min=1, help="How many root keys must sign a root.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Make a repository; devices come with its metadata/1.root.json.

    Example: ossia release init repo --keys offline --keys online
    """
    from ossia.service.repository import create

    _tell(repo, create(repo, _ring(keys), _now(), threshold=threshold), as_json)


@release.command()
def publish(
    repo: RepoArgument, base: BaseArgument, keys: KeysOption, percent: PercentOption = STAGES[0], as_json: JsonOption = False
) -> None:
    """Publish a base as the next release, for a first share of devices. Needs the targets key and the online key.

    Example: ossia release publish repo base --percent 1 --keys offline --keys online
    """
    from ossia.service.repository import publish_release

    _tell(repo, publish_release(repo, _ring(keys), base, _now(), percent=percent), as_json)


@release.command()
def advance(
    repo: RepoArgument,
    keys: KeysOption,
    percent: Annotated[int | None, typer.Option("--percent", min=1, max=100, help="Left out: 1, 10, 100.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Give the release on its way to more devices; at 100 % it is settled. Needs the online key.

    Example: ossia release advance repo --keys online
    """
    from ossia.service import repository

    _tell(repo, repository.advance(repo, _ring(keys), _now(), percent=percent), as_json)


@release.command()
def halt(repo: RepoArgument, keys: KeysOption, as_json: JsonOption = False) -> None:
    """Let nobody take the release on its way; the way on is to publish the next. Needs the online key.

    Example: ossia release halt repo --keys online
    """
    from ossia.service import repository

    _tell(repo, repository.halt(repo, _ring(keys), _now()), as_json)


@release.command()
def guard(
    repo: RepoArgument,
    keys: KeysOption,
    reports: Annotated[int, typer.Option("--reports", min=0, help="Devices with the release on its way that told.")],
    worse: Annotated[int, typer.Option("--worse", min=0, help="Of these, those for which it ranks worse, or fails.")],
    most: Annotated[float, typer.Option("--most", min=0, max=1, help="The share that is borne.")] = 0.05,
    as_json: JsonOption = False,
) -> None:
    """Halt the release on its way if a guard metric of your own says so; `serve --releases` does it by devices' reports.

    Example: ossia release guard repo --reports 1000 --worse 70 --keys online
    """
    from ossia.adaptation.releases import must_halt
    from ossia.service import repository
    from ossia.service.edition import read_edition

    if must_halt(reports, worse, most=most):
        say(f"ossia: {worse:,} of {reports:,} devices complain, which is surely more than {most:.1%}: halted")
        _tell(repo, repository.halt(repo, _ring(keys), _now()), as_json)
    else:
        _tell(repo, read_edition(repo), as_json)


@release.command("keys")
def publish_keys(
    repo: RepoArgument,
    listed: Annotated[Path, typer.Argument(metavar="KEYS.JSON", help="Whose payloads count, from `keys make`.")],
    keys: KeysOption,
    as_json: JsonOption = False,
) -> None:
    """Publish the list of keys that sign payloads: after each rotation, at once after a revocation.

    Example: ossia release keys repo service/keys/keys.json --keys offline --keys online
    """
    from ossia.service import repository

    _tell(repo, repository.publish_keys(repo, _ring(keys), listed, _now()), as_json)


@release.command()
def refresh(repo: RepoArgument, keys: KeysOption, as_json: JsonOption = False) -> None:
    """Renew the timestamp, which lives for three days. Needs the online key; `serve --releases` does it too.

    Example: ossia release refresh repo --keys online
    """
    from ossia.service import repository

    _tell(repo, repository.refresh(repo, _ring(keys), _now()), as_json)


@release.command()
def status(repo: RepoArgument, as_json: JsonOption = False) -> None:
    """Say what a repository offers, and until when it is believed.

    Example: ossia release status repo
    """
    from ossia.service.edition import read_edition

    _tell(repo, read_edition(repo), as_json)


@release.command()
def fetch(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The device's own: state, keys, releases.")],
    mirrors: Annotated[list[str], typer.Option("--from", metavar="MIRROR", help="A folder or an http address; repeat it.")],
    root: Annotated[Path | None, typer.Option("--root", help="The root that is trusted; at the first time only.")] = None,
    personalizers: Annotated[bool, typer.Option("--personalizers", help="Take these too: for a server.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring a device, or a server, up to date; whatever is refused, it keeps what it had.

    Example: ossia release fetch device --from https://example.org/repo --root 1.root.json
    """
    from ossia.device.mirrors import open_mirror
    from ossia.device.update import STATE, begin, release_folder, update

    if root is not None and not (folder / STATE).exists():
        begin(folder, root.read_bytes())
    done = update(folder, [open_mirror(each) for each in mirrors], _now(), personalizers=personalizers)
    for each in done.refused:
        say(f"ossia: {mirrors[each.mirror]}: {each.refusal}: {each.reason}")
    result = {"release": done.release, "changed": done.changed, "base": release_folder(folder, done.release)}
    refused = [{"mirror": mirrors[each.mirror], "refusal": each.refusal, "reason": each.reason} for each in done.refused]
    line = f"release {done.release}: {result['base']}" if done.release else "no release yet"
    answer(result | {"refused": refused}, [line], as_json=as_json)
    if len(done.refused) == len(mirrors):
        raise ReleaseError("no mirror gave what can be believed; everything is as it was", done.refused[-1].refusal)


def _ring(folders: list[Path]) -> "Keyring":
    """Read the keys at hand."""
    from ossia.service.release_keys import load_keyring

    return load_keyring(folders)


def _tell(repo: Path, edition: "Edition", as_json: bool) -> None:
    """Print what a repository says."""
    rollout = edition.rollout
    ends = {
        role: signed.expires
        for role, signed in (
            ("root", edition.root), ("targets", edition.targets),
            ("rollout", edition.delegated), ("timestamp", edition.timestamp),
        )
    }  # fmt: skip
    result = {"repository": repo, "releases": edition.releases, "settled": rollout.settled, "next": rollout.next}
    result |= {"percent": rollout.percent, "halted": rollout.halted}
    result |= {"ends": {role: f"{end:%Y-%m-%d}" for role, end in ends.items()}}
    state = "halted" if rollout.next in rollout.halted else f"at {rollout.percent} %"
    on_its_way = "" if rollout.next == rollout.settled else f", release {rollout.next} {state}"
    lines = [f"{repo}: release {rollout.settled or 'none'} for everybody{on_its_way}"]
    answer(result, [*lines, *(f"  {role:9} believed until {end:%Y-%m-%d}" for role, end in ends.items())], as_json=as_json)


def _now() -> int:
    """Say the time."""
    return int(time.time())
