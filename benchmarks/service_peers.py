"""ossia's service beside LitServe and Ray Serve, with the same model, by turns in one run.

    python -m venv build/peers && build/peers/bin/pip install litserve 'ray[serve]' -e '.[serve]'
    python benchmarks/service_peers.py BASE --python build/peers/bin/python [--seconds 10] [--only litserve]

All three answer the same asks over 64 keep-alive connections in a closed loop, load generator included. ossia's payloads are
signed and durable; the peers' are signed only (`peer_servers.py` says what they are spared). A peer that does not start is a
dash. `cpu_us` is the processor's time of all of a server's processes a payload.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import uvloop
from load import closed_loop, cpu_seconds, family, memory_mb, quantile_ms, wait_for, write_request
from service_load import PROGRAM, make_requests

from ossia.adaptation import Base

PORT, CONNECTIONS, DEVICES = 8941, 64, 256
START_S = 180
HEADERS = "Content-Type: application/json\r\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("--python", default=sys.executable, help="of the environment that has the peers")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--only", choices=("litserve", "ray"), help="leave the other peer out")
    asked = parser.parse_args()
    peer = str(Path(__file__).with_name("peer_servers.py"))
    with tempfile.TemporaryDirectory() as folder:
        ours = [sys.executable, "-c", PROGRAM, "serve", str(asked.base), "--data", folder, "--port", str(PORT)]
        asks = run(ours, "/health", lambda: make_requests(Base.load(asked.base), PORT, DEVICES), asked.seconds)
    rows, requests = {"ossia": asks[0]}, asks[1]
    bodies = [request.partition(b"\r\n\r\n")[2] for request in requests]
    forms = {
        "litserve": [write_request("/predict", json.dumps({"ask": body.hex()}).encode(), HEADERS) for body in bodies],
        "ray": [write_request("/", body) for body in bodies],
    }
    for number, (name, form) in enumerate(forms.items(), start=1):
        if asked.only in (None, name):
            words = [asked.python, peer, name, str(asked.base.resolve()), str(PORT + number)]
            rows[name] = run(words, "/", lambda form=form: form, asked.seconds, PORT + number)[0]
    for name, row in rows.items():
        print(
            json.dumps(
                {"server": name, **row, "times": round(rows["ossia"]["per_s"] / row["per_s"], 2) if row["per_s"] else None}
            )
        )


def run(words, ready, make, seconds, port=PORT):
    """Start a server, load it, stop it with all that it started; returns what it did and what it was asked."""
    server = subprocess.Popen(words, start_new_session=True)
    pids = [server.pid]
    try:
        wait_for(f"http://127.0.0.1:{port}{ready}", lambda: server.poll() is None, START_S)
        requests = make()
        uvloop.run(closed_loop(port, requests, 2.0, CONNECTIONS))  # warm
        pids = family(server.pid)
        cpu = cpu_seconds(*pids)
        tally = uvloop.run(closed_loop(port, requests, seconds, CONNECTIONS))
        used = cpu_seconds(*pids) - cpu
        return {
            "per_s": round(tally.rate),
            "cpu_us": round(1e6 * used / max(1, len(tally.served))),
            "p50_ms": quantile_ms(tally.served, 0.5),
            "p99_ms": quantile_ms(tally.served, 0.99),
            "memory_mb": round(sum(memory_mb(pid) for pid in pids)),
            "faults": tally.faults + tally.hanging,
        }, requests
    except SystemExit as error:
        print(error, file=sys.stderr)
        return {"per_s": None}, None
    finally:
        for pid in reversed(family(server.pid)):
            try:
                os.kill(pid, signal.SIGTERM if pid == server.pid else signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


if __name__ == "__main__":
    main()
