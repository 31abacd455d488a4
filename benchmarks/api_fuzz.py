"""Schemathesis against a running service: no answer 5xx but 503, none that the OpenAPI page does not describe.

    for seed in 1 2 3 4 5; do python benchmarks/api_fuzz.py BASE --examples 1000 --seed $seed; done      4,288 cases each

A seed is a run of its own, so that an hour's work can be cut and gone on with. Nearly all of it is schemathesis writing cases.

It needs `schemathesis` (`pip install schemathesis`), in this environment or wherever --schemathesis says. The service listens
on a port of its own, with a folder of its own; a device is enrolled, and its token goes with every request. Left out is the
check that whatever fits the schema is taken: a signature that holds, or a base that is served, is not a matter of form. DELETE
is left out too: it has nothing to vary, and would take the token from the others.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ossia.service.release_keys import ROLES, load_keyring, make_release_key
from ossia.service.repository import create, publish_release
from ossia.service.serve import open_service
from ossia.service.tokens import enrolment_message

NOT_OURS = "positive_data_acceptance"


def main() -> int:
    """Serve, enroll, and let schemathesis ask."""
    options = _options()
    with tempfile.TemporaryDirectory() as data:
        repo = make_repository(Path(data), options.base)
        service = open_service(options.base, Path(data) / "service", releases=repo, deadline_s=30.0, waiting=1024)
        server = uvicorn.Server(uvicorn.Config(service, port=0, access_log=False, log_level="error"))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        try:
            return _ask(options, address, enroll(address))
        finally:
            server.should_exit = True
            thread.join()


def make_repository(folder: Path, base: Path) -> Path:
    """Publish the base as a release on its way, so that reports on it are taken."""
    for role in ROLES:
        make_release_key(folder / "keys", role)
    keys, now = load_keyring([folder / "keys"]), int(time.time())
    create(folder / "repository", keys, now)
    publish_release(folder / "repository", keys, base, now)
    return folder / "repository"


def enroll(address: str) -> str:
    """Enroll a device and return its token."""
    key, at = Ed25519PrivateKey.generate(), int(time.time())
    public = key.public_key().public_bytes_raw()
    document = {"public": public.hex(), "at": at, "signature": key.sign(enrolment_message(public, at)).hex()}
    request = urllib.request.Request(f"{address}/v1/devices", json.dumps(document).encode(), method="POST")
    with urllib.request.urlopen(request) as answer:
        return str(json.load(answer)["token"])


def _ask(options: argparse.Namespace, address: str, token: str) -> int:
    """Run schemathesis; its own report is the result."""
    command = [*shlex.split(options.schemathesis), "run", f"{address}/openapi.json", "--checks", "all"]
    command += ["--exclude-checks", NOT_OURS, "--exclude-method", "DELETE", "--header", f"Authorization: Bearer {token}"]
    command += ["--max-examples", str(options.examples), "--phases", "examples,coverage,fuzzing", "--seed", str(options.seed)]
    command += ["--generation-database", "none", "--continue-on-failure", "--suppress-health-check", "all"]
    command += ["--request-timeout", "60"]
    return subprocess.run(command, check=False).returncode


def _options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path, help="a published base with a personalizer")
    parser.add_argument("--examples", type=int, default=5_000, help="cases of each operation and phase, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--schemathesis", default="schemathesis", help="how it is called")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
