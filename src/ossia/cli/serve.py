"""The cloud's service on the command line: serve."""

from pathlib import Path
from typing import Annotated

import typer

from ossia.cli.options import BaseArgument
from ossia.cli.output import say


def serve(
    base: BaseArgument,
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="The service's own folder, store and keys.")],
    also: Annotated[
        list[Path] | None,
        typer.Option("--also", metavar="BASE", help="One that some devices still hold; repeat it."),
    ] = None,
    releases: Annotated[
        Path | None,
        typer.Option("--releases", metavar="REPO", help="Releases to hand out, and to halt."),
    ] = None,
    online: Annotated[
        Path | None, typer.Option("--online", metavar="FOLDER", help="The repository's online key: to halt, and to renew.")
    ] = None,
    stateless: Annotated[
        bool, typer.Option("--stateless", help="Keep nothing about any device, not even that it is one.")
    ] = False,
    personalizer: Annotated[str, typer.Option("--personalizer", metavar="NAME", help="One of the base's.")] = "chord",
    host: Annotated[str, typer.Option("--host", help="Address to listen on; TLS is a proxy's business.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on.")] = 8000,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Asks that are worked on together, at most.")] = 32,
    waiting: Annotated[int, typer.Option("--waiting", min=1, help="Asks that may wait; more are refused with 503.")] = 128,
    deadline: Annotated[float, typer.Option("--deadline", min=0.01, help="Seconds from an ask to its answer.")] = 1.0,
) -> None:
    """Serve signed payloads and the base's files over HTTP, with an embedded store. Stops within 5 s of SIGTERM.

    Example: ossia serve base --data service --port 8000
    """
    from ossia.service.serve import open_service, run_service

    service = open_service(
        base, data, personalizer=personalizer, also=also or (), releases=releases, online=online,
        stateless=stateless, batch=batch, waiting=waiting, deadline_s=deadline,
    )  # fmt: skip
    say(f"ossia: serving base {service.issuer.base.id.hex()[:12]}… on http://{host}:{port}, data in {data}; see /openapi.json")
    run_service(service, host, port)
