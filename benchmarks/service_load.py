"""How many signed, durable payloads a second the service gives, load generator included, and what it does beyond that.

    python benchmarks/service_load.py BASE [--seconds 10] [--times 3] [-- options of ossia serve]

Starts `ossia serve` on a folder of its own, enrolls devices, and asks over 64 keep-alive connections in a closed loop: that is
the capacity. Then, with `--times 3`, three times as many asks a second in an open loop: what counts there is the goodput as a
share of the capacity, how fast refusals come, that nobody is left hanging, and how soon the service stops afterwards. A sample
of the payloads is decoded, signatures and sequences included. `server_cpu_us` is the processor's time of the service an answer,
`client_cpu_us` that of the load generator (`load.py`), which shares the machine; `server_cores` and `client_cores` say how much
of it both had. A service that had less than a core was not overloaded by its load, but by what else ran.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from load import Tally, closed_loop, cpu_seconds, memory_mb, open_loop, quantile_ms, wait_for, write_request

from ossia.adaptation import Base, decode_payload, make_profile
from ossia.adaptation.keys import TrustedKeys
from ossia.adaptation.request import Ask, decode_reply, encode_ask
from ossia.service.tokens import enrolment_message
from ossia.types import Budget

SHARE = 0.7  # of the encoder's bytes at 8 bits: a budget that binds
PROGRAM = "from ossia.cli import main; main()"


def post(port, path, document):
    data = json.dumps(document).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.load(reply)


def make_requests(base, port, devices):
    """Enroll devices, and write their asks."""
    rng = np.random.default_rng(0)
    whole = sum(slot.channels * slot.inputs for slot in base.manifest.slots)
    floats = sum(array.nbytes for array in base.floats.values())
    budget = Budget(weight_bytes=int(SHARE * whole) + floats)
    made = []
    for _ in range(devices):
        key, at = Ed25519PrivateKey.generate(), int(time.time())
        public = key.public_key().public_bytes_raw()
        signature = key.sign(enrolment_message(public, at))
        token = post(port, "/v1/devices", {"public": public.hex(), "at": at, "signature": signature.hex()})["token"]
        state = rng.standard_normal(base.manifest.shape["dim"], np.float32)
        ask = encode_ask(Ask(base.id[:16], base.table.id[:16], budget, make_profile(state, base.manifest.profile_clip)))
        made.append(write_request("/v1/payload", ask, f"Authorization: Bearer {token}\r\n"))
    return made


def check(base, data, replies):
    """Hold a sample of payloads to the keys, and sequences to be all different for a device."""
    verify, seen = TrustedKeys.load(data / "keys" / "keys.json").verify, set()
    for reply in replies:
        header = decode_payload(base, decode_reply(reply).payload, verify=verify).header
        assert (header.device_id, header.sequence) not in seen
        seen.add((header.device_id, header.sequence))
    return len(seen)


def measure(pid: int, run) -> tuple[Tally, dict]:
    """Do a run, and say what it took."""
    before = cpu_seconds(pid)
    tally = uvloop.run(run)
    answers, spent = max(1, len(tally.served) + len(tally.refused)), cpu_seconds(pid) - before
    return tally, {
        "payloads_per_s": round(tally.rate),
        "server_cpu_us": round(1e6 * spent / answers),
        "client_cpu_us": round(1e6 * tally.cpu_s / answers),
        "server_cores": round(spent / tally.wall_s, 2),
        "client_cores": round(tally.cpu_s / tally.wall_s, 2),
        "p50_ms": quantile_ms(tally.served, 0.5),
        "p99_ms": quantile_ms(tally.served, 0.99),
        "refused_per_s": round(len(tally.refused) / tally.wall_s),
        "refusal_p50_ms": quantile_ms(tally.refused, 0.5),
        "refusal_p99_ms": quantile_ms(tally.refused, 0.99),
        "faults": tally.faults,
        "hanging": tally.hanging,
    }


def stop(server: subprocess.Popen, port: int) -> dict:
    """Stop the service, and say how it went."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as reply:
        in_flight = json.load(reply)["in_flight"]
    memory, begun = memory_mb(server.pid), time.perf_counter()
    server.send_signal(signal.SIGTERM)
    server.wait(10)
    return {"in_flight": in_flight, "memory_mb": round(memory), "stopped_in_s": round(time.perf_counter() - begun, 2)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("--personalizer", default="chord")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--devices", type=int, default=256)
    parser.add_argument("--times", type=float, help="then an open loop at this many times the capacity")
    parser.add_argument("--port", type=int, default=8931)
    parser.add_argument("serve", nargs="*", help="options for `ossia serve`, after --")
    asked = parser.parse_args()
    base = Base.load(asked.base)
    with tempfile.TemporaryDirectory() as folder:
        words = ["serve", str(asked.base), "--data", folder, "--port", str(asked.port), "--personalizer", asked.personalizer]
        server = subprocess.Popen([sys.executable, "-c", PROGRAM, *words, *asked.serve])
        try:
            wait_for(f"http://127.0.0.1:{asked.port}/health", lambda: server.poll() is None)
            requests = make_requests(base, asked.port, asked.devices)
            uvloop.run(closed_loop(asked.port, requests, 1.0, asked.connections))  # warm
            peak, result = measure(server.pid, closed_loop(asked.port, requests, asked.seconds, asked.connections))
            result["checked"] = check(base, Path(folder), peak.replies)
            if asked.times:
                rate, lines = asked.times * peak.rate, 8 * asked.connections
                flood, told = measure(server.pid, open_loop(asked.port, requests, asked.seconds, lines, rate))
                result["overload"] = {"offered_per_s": round(rate), "goodput": round(flood.rate / peak.rate, 3)} | told
            result |= stop(server, asked.port)
        finally:
            server.kill()
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
