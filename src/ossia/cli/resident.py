"""A small real device on the command line: device run, device egress, device erase."""

import os
import queue
import socketserver
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from ossia.adaptation.base import Base
from ossia.adaptation.keys import TrustedKeys
from ossia.cli.options import BudgetOption, JsonOption, RuntimeOption, TrustOption
from ossia.cli.output import answer, count, say
from ossia.errors import ArtifactError, UsageError
from ossia.types import Budget

if TYPE_CHECKING:
    from ossia.device.home import Home, Keeper
    from ossia.device.kept import Exchange
    from ossia.device.run import Device, Ranked
    from ossia.device.settings import Settings

device = typer.Typer(
    help="A small real device: it keeps a session in a folder, ranks, and asks a service.", no_args_is_help=True
)

FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="The device's own folder.")]
UrlOption = Annotated[str, typer.Option("--url", metavar="URL", help="The service's address.")]


@device.command()
def run(
    folder: FolderArgument,
    base: Annotated[
        Path | None, typer.Option("--base", metavar="BASE", help="A published base; with --releases: until the first release.")
    ] = None,
    url: Annotated[
        str, typer.Option("--url", metavar="URL", help="The service's address; left out: the device stays offline.")
    ] = "",
    trust: TrustOption = None,
    releases: Annotated[
        list[str] | None,
        typer.Option("--releases", metavar="MIRROR", help="Look for releases there: a folder or an http address; repeat it."),
    ] = None,
    root: Annotated[Path | None, typer.Option("--root", help="The root to trust releases by; at the first time.")] = None,
    look: Annotated[int, typer.Option("--look", min=1, help="Seconds between two looks for a release.")] = 21_600,
    tell: Annotated[
        bool, typer.Option("--tell", help="Consent to tell the service whether a release does harm here, once a release.")
    ] = False,
    ask: Annotated[
        str, typer.Option("--ask", metavar="POLICY", help="always, periodic:SECONDS, drift:LEAST; then perhaps ,bytes:N a day.")
    ] = "periodic:86400",
    budget: BudgetOption = "",
    rows: Annotated[
        bool, typer.Option("--rows", help="Ask for the bytes of the rows that a payload names, and keep them.")
    ] = False,
    noise: Annotated[
        float, typer.Option("--noise", min=0, max=1, help="Noise on the profile, as a share of the base's clip.")
    ] = 0.0,
    guard: Annotated[
        bool,
        typer.Option("--guard/--no-guard", help="Drop a payload that ranks the user's own clicks worse than the base."),
    ] = True,
    top: Annotated[int, typer.Option("--top", min=1, help="How many to show.")] = 10,
    socket: Annotated[
        Path | None, typer.Option("--socket", metavar="PATH", help="Take clicks on a Unix socket too, until SIGTERM.")
    ] = None,
    linger: Annotated[
        float, typer.Option("--linger", min=0, help="Seconds to wait at the end for an answer that is under way.")
    ] = 0.0,
    runtime: RuntimeOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Be a device: one item id a line on stdin, one ranking a line on stdout; an empty line only ranks.

    The network is never waited for, and an ask is due when the policy says so. What the device keeps is in FOLDER, and survives
    a power cut. With --releases base and keys come from there, and --base and --trust are not needed. With --json a ranking is
    one JSON object a line.

    Example: ossia device run phone --base base --url http://127.0.0.1:8000 --trust keys.json --ask always < clicks

    Example: ossia device run phone --releases http://127.0.0.1:8000/v1/repository --root 1.root.json < clicks
    """
    from ossia.device.home import Home
    from ossia.device.run import Device

    home, release, loaded = Home(folder), 0, None
    if releases:
        release, loaded, trust = _begin_to_follow(folder, root, trust)
    if loaded is None and base is not None and not release:
        loaded = _load_base(base, home)
    elif loaded is None and not releases:
        raise UsageError("--base: expected a published base, or --releases to fetch one from")
    if url and trust is None and not releases:
        raise UsageError("--url: expected --trust keys.json beside it, for a payload that nobody vouches for is refused")
    settings = _settings(trust, ask, budget, rows=rows, noise=noise, guard=guard, runtime=runtime)
    lives = Device(_open(home, loaded, release, replace(settings, look_s=look, tells=tell)), top=top)
    if url:
        lives.connect(url)
    if releases:
        _follow(lives, folder, releases)
    _listen(lives, socket, as_json=as_json)
    for told in lives.live(linger):
        say(f"device: {told}" if isinstance(told, str) else _receipt_line(told.accepted, told.dropped, told.reason))


@device.command()
def egress(folder: FolderArgument, as_json: JsonOption = False) -> None:
    """List every request that ever left the device, as what it disclosed.

    Example: ossia device egress phone
    """
    from ossia.device.exchange import FIELDS
    from ossia.device.home import Home
    from ossia.device.kept import exchanges

    kept = Home(folder).load()
    if kept is None:
        raise ArtifactError(f"{folder}: expected a device's folder, found no session in it")
    records = list(exchanges(kept.log))
    left = [_describe(record, FIELDS[record.kind]) for record in records if record.kind != "reply"]
    totals = {
        "requests": left,
        "sent_bytes": sum(record.body_bytes for record in records if record.kind != "reply"),
        "received_bytes": sum(record.body_bytes for record in records if record.kind == "reply"),
    }
    lines = [_egress_line(record, FIELDS[record.kind]) for record in records if record.kind != "reply"]
    summary = f"{count(len(left), 'request')}, {totals['sent_bytes']:,} bytes sent, {totals['received_bytes']:,} received"
    answer(totals, [*lines, summary], as_json=as_json)


@device.command()
def erase(
    folder: FolderArgument,
    url: Annotated[str, typer.Option("--url", metavar="URL", help="Be forgotten by this service too.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Forget everything: at the service, where one is named, and then on the device.

    Example: ossia device erase phone --url http://127.0.0.1:8000
    """
    from ossia.device.client import exchange
    from ossia.device.exchange import erase_request, read_fault
    from ossia.device.home import Home

    home = Home(folder)
    told = None
    if url and (kept := home.load()) is not None and kept.token:
        request = erase_request(kept)
        home.commit(msgspec.structs.replace(kept, log=kept.log + request.disclosed(int(time.time())).pack()))
        told = exchange(url, request, most_bytes=10_000, deadline_s=20.0)
        if told.status != 200:
            raise UsageError(f"{url}: expected word that it is erased, got {read_fault(told)}; nothing was erased here")
    home.erase()
    answer({"folder": folder, "service": told is not None}, [f"{folder}: erased"], as_json=as_json)


def _settings(trust: Path | None, ask: str, budget: str, *, rows: bool, noise: float, guard: bool, runtime: str) -> "Settings":
    """Read the options into settings."""
    from ossia.device.guard import Guard
    from ossia.device.policy import parse_policy
    from ossia.device.settings import Settings

    return Settings(
        policy=parse_policy(ask),
        guard=Guard() if guard else None,
        budget=Budget.parse(budget),
        rows=rows,
        noise=noise,
        runtime=runtime,
        verify=None if trust is None else TrustedKeys.load(trust).verify,
    )


def _load_base(path: Path, home: "Home") -> Base | None:
    """Load the base; a device that has ranked before goes on without one."""
    try:
        return Base.load(path)
    except ArtifactError as error:
        if home.load() is None:
            raise
        say(f"device: {error}; ranking by the popularity that is remembered")
        return None


def _begin_to_follow(folder: Path, root: Path | None, trust: Path | None) -> tuple[int, Base | None, Path | None]:
    """Trust a root, at the first time; and take up the release in force and its list of keys."""
    from ossia.adaptation.releases import KEYS
    from ossia.device.fetcher import load_release
    from ossia.device.update import STATE, begin

    if root is not None and not (folder / STATE).exists():
        begin(folder, root.read_bytes())
    if not (folder / STATE).exists():
        raise UsageError("--releases: expected --root 1.root.json beside it at the first time, to trust releases by")
    return *load_release(folder), folder / KEYS if (folder / KEYS).exists() else trust


def _follow(lives: "Device", folder: Path, mirrors: list[str]) -> None:
    """Let the device look for releases."""
    from ossia.device.fetcher import Fetcher
    from ossia.device.mirrors import open_mirror
    from ossia.device.run import Came

    lives.follow(Fetcher(folder, [open_mirror(each) for each in mirrors], lambda news: lives.events.put(Came(news))))


def _open(home: "Home", base: Base | None, release: int, settings: "Settings") -> "Keeper":
    """Take the device up where it was left, or begin its life."""
    from ossia.device.following import adopt
    from ossia.device.home import Keeper
    from ossia.device.kept import new_kept
    from ossia.device.resident import open_resident

    kept = adopt(home.load() or new_kept(os.urandom(32)), release)
    return Keeper(home, open_resident(kept, base, settings))


def _listen(lives: "Device", socket: Path | None, *, as_json: bool) -> None:
    """Bring events from stdin, and from connections."""
    from ossia.device.run import Click, End

    def read() -> None:
        for line in sys.stdin:
            lives.events.put(Click(line.strip(), lambda ranked: typer.echo(_ranking_line(ranked, as_json=as_json))))
        if socket is None:
            lives.events.put(End())

    if socket is not None:
        socket.unlink(missing_ok=True)
        server = _Server(str(socket), _Connection)
        server.lives, server.as_json = lives, as_json
        threading.Thread(target=server.serve_forever, name="socket", daemon=True).start()
    threading.Thread(target=read, name="stdin", daemon=True).start()


class _Server(socketserver.ThreadingUnixStreamServer):
    """Listens on a Unix socket."""

    daemon_threads = True
    lives: "Device"
    as_json: bool


class _Connection(socketserver.StreamRequestHandler):
    """One connection: a line in, a line out."""

    server: _Server

    def handle(self) -> None:
        """Serve it."""
        from ossia.device.run import Click

        for line in self.rfile:
            ranked: queue.SimpleQueue[Ranked] = queue.SimpleQueue()
            self.server.lives.events.put(Click(line.decode("utf-8", "replace").strip(), ranked.put))
            self.wfile.write(f"{_ranking_line(ranked.get(), as_json=self.server.as_json)}\n".encode())


def _ranking_line(ranked: "Ranked", *, as_json: bool) -> str:
    """Write what came of a click."""
    if ranked.fault:
        say(f"device: {ranked.item} was not kept: {ranked.fault}")
    elif ranked.item and not ranked.known:
        say(f"device: {ranked.item} is not in the catalog")
    shown = ranked.shown
    if not as_json:
        return f"{ranked.item or '–'} → {', '.join(shown.ids)}  ({shown.by})"
    pairs = zip(shown.ids, shown.scores, strict=True)
    rows = [{"id": item, "score": score if score > float("-inf") else None} for item, score in pairs]
    document = {"click": ranked.item or None, "kept": ranked.known and not ranked.fault, "by": shown.by, "ranking": rows}
    return msgspec.json.encode(document).decode()


def _receipt_line(accepted: bool, dropped: bool, reason: str) -> str:
    """Say what became of an ask."""
    if dropped:
        return "device: a payload came, and the guard dropped it: it ranks the last clicks worse than the base does"
    return f"device: {reason or 'a payload came and is in force'}" if accepted else f"device: nothing new: {reason}"


def _describe(record: "Exchange", fields: tuple[str, ...]) -> dict[str, object]:
    """Say what one request disclosed."""
    has = record.kind == "ask"
    return {
        "at": record.at,
        "kind": record.kind,
        "body_bytes": record.body_bytes,
        "disclosed": fields,
        "profile_sha256": record.profile.hex() if has else None,
        "profile_norm": record.norm if has else None,
    }


def _egress_line(record: "Exchange", fields: tuple[str, ...]) -> str:
    """Write one request for people."""
    try:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(record.at))
    except (OverflowError, ValueError):
        moment = str(record.at)
    profile = f"; profile {record.profile.hex()[:12]}…, length {record.norm:.3f}" if record.kind == "ask" else ""
    return f"{moment}  {record.kind:6s}  {record.body_bytes:5,d} bytes  {', '.join(fields)}{profile}"
