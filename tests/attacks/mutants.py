"""Mutants of what a stranger may send: payloads, asks, replies, tokens, release metadata. None is taken for something else.

    python tests/attacks/mutants.py exhaustive                        every byte of every document at each other value
    python tests/attacks/mutants.py guided --runs 1000000             led by coverage: `pip install atheris`
    python tests/attacks/mutants.py guided --target ask --runs 100000

A mutant is refused with an error of ours, or it is the document that it came from in another spelling (JSON has some: a
signature's digits may be capitals). Anything else is a traceback and a failing exit: accepted, another exception, or no end.
"""

import argparse
import collections
import importlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "golden"))

NOW, DIM = 1_800_000_000, 8
INSTRUMENTED = (
    "ossia.adaptation",
    "ossia.adaptation.request",
    "ossia.device.trust",
    "ossia.service.tokens",
    "tuf.api.metadata",
)


@dataclass(frozen=True)
class Target:
    """What is attacked: documents that are accepted, and who judges. `judge` returns what was understood, or raises."""

    documents: tuple[bytes, ...]
    judge: Callable[[bytes], object]


def outcome(target: Target, data: bytes, original: object) -> str:
    """Judge a mutant; an outcome that must not be is an AssertionError, or whatever was raised."""
    from ossia.errors import OssiaError

    try:
        found = target.judge(data)
    except OssiaError:
        return "refused"
    assert found == original, f"accepted: {data.hex()}"
    return "same"


def substitutions(data: bytes, step: int = 1) -> Iterator[bytes]:
    """Yield the data with each byte at each other of its 256 values; `step` skips values."""
    for at in range(len(data)):
        for value in range(data[at] + 1, data[at] + 256, step):
            yield data[:at] + bytes([value % 256]) + data[at + 1 :]


def lengths(data: bytes) -> Iterator[bytes]:
    """Yield the data cut everywhere, and longer by a byte."""
    yield from (data[:at] for at in range(len(data)))
    yield data + b"\0"


def exhaust(target: Target, step: int = 1) -> collections.Counter:
    """Try all mutants of a target."""
    counts: collections.Counter = collections.Counter()
    for document in target.documents:
        original = target.judge(document)
        for make in (lambda data: substitutions(data, step), lengths):
            counts.update(outcome(target, mutant, original) for mutant in make(document))
    return counts


def targets() -> dict[str, Target]:
    """Make what is attacked, with keys of the moment."""
    made = {"payload": _payload(), "body": _body(), "ask": _ask(), "reply": _reply(), "token": _token()}
    return made | _metadata()


def _payload() -> Target:
    """A signed payload: whatever is changed, the signature does not hold."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from documents import toy_adaptation, toy_base

    from ossia.adaptation import decode_payload, encode_payload
    from ossia.adaptation.keys import TrustedKey, TrustedKeys

    base, private = toy_base(), Ed25519PrivateKey.generate()
    key = TrustedKey(private.public_key().public_bytes_raw().hex(), NOW)
    adaptation, header = toy_adaptation()
    data = encode_payload(base, adaptation, **header, key_id=key.id, sign=private.sign)
    verify = TrustedKeys({key.id: key}).verify

    def judge(mutant: bytes) -> bytes:
        decode_payload(base, mutant, verify=verify)
        return mutant

    return Target((data,), judge)


def _body() -> Target:
    """A payload that nobody signed: a mutant is another adaptation, spelled as only that one is, or refused."""
    from documents import golden_payload, toy_base

    from ossia.adaptation import decode_payload, encode_payload

    base = toy_base()

    def judge(mutant: bytes) -> bool:
        payload = decode_payload(base, mutant, allow_unsigned=True)
        names = ("device_id", "sequence", "issued", "expiry", "key_id")
        return encode_payload(base, payload.adaptation, **{name: getattr(payload.header, name) for name in names}) == mutant

    return Target((golden_payload(),), judge)


def _ask() -> Target:
    """An ask is nobody's word: a mutant is another ask, spelled as only that one is, or refused."""
    import numpy as np

    from ossia.adaptation import make_profile
    from ossia.adaptation.request import Ask, decode_ask, encode_ask
    from ossia.types import Budget

    profile = make_profile(np.linspace(-1, 1, DIM, dtype=np.float32), 3.0)
    data = encode_ask(Ask(bytes(16), bytes(16), Budget(weight_bytes=60_000), profile, True, 9))

    def judge(mutant: bytes) -> bool:
        return encode_ask(decode_ask(mutant, DIM)) == mutant

    return Target((data,), judge)


def _reply() -> Target:
    """Likewise a reply, whose parts are judged by others."""
    import numpy as np

    from ossia.adaptation.request import Reply, decode_reply, encode_reply

    data = encode_reply(Reply(b"payload" * 9, np.arange(5, dtype=np.int32), b"rows"))

    def judge(mutant: bytes) -> bool:
        return encode_reply(decode_reply(mutant)) == mutant

    return Target((data,), judge)


def _token() -> Target:
    """A token is its maker's word: another spelling of the same bytes is the same token."""
    from ossia.service.tokens import Tokens

    tokens = Tokens(bytes(range(32)))
    return Target((tokens.make(bytes(range(16)), NOW).encode(),), lambda data: tokens.read(data.decode("latin-1"), NOW))


def _metadata() -> dict[str, Target]:
    """A repository's metadata, each judged with the rest as it was published."""
    from ossia.device import trust
    from ossia.service.edition import read_edition
    from ossia.service.release_keys import ROLES, load_keyring, make_release_key
    from ossia.service.repository import create, replace_keys

    with tempfile.TemporaryDirectory() as folder:
        keys, repo = Path(folder) / "keys", Path(folder) / "repo"
        for role in ROLES:
            make_release_key(keys, role)
        create(repo, load_keyring([keys]), NOW)
        replace_keys(repo, load_keyring([keys]), keys, "root", NOW)
        edition, content = read_edition(repo), {path.name: path.read_bytes() for path in (repo / "metadata").iterdir()}
    first, root, stamp, snapshot = trust.first_root(content["1.root.json"]), edition.root, edition.timestamp, edition.snapshot
    judges: dict[str, Callable[[bytes], object]] = {
        "2.root.json": lambda data: trust.next_root(first, data),
        "timestamp.json": lambda data: trust.check_timestamp(root, data, None, NOW),
        f"{snapshot.version}.snapshot.json": lambda data: trust.check_snapshot(root, stamp, data, None, NOW),
        f"{edition.targets.version}.targets.json": lambda data: trust.check_targets(root, "targets", snapshot, data, NOW),
        f"{edition.delegated.version}.rollout.json": lambda data: trust.read_rollout(
            edition.targets, trust.check_targets(edition.targets, "rollout", snapshot, data, NOW)
        ),
    }
    return {name.split(".")[-2]: Target((content[name],), judge) for name, judge in judges.items()}


def guided(names: list[str], runs: int) -> None:
    """Let atheris mutate, led by what parts of our code and python-tuf's a mutant reaches."""
    import atheris

    with atheris.instrument_imports(include=["ossia", "tuf", "securesystemslib"], enable_loader_override=False):
        for module in INSTRUMENTED:
            importlib.import_module(module)
    table = targets()
    chosen = [table[name] for name in names or table]
    originals = [[target.judge(document) for document in target.documents] for target in chosen]
    counts: collections.Counter = collections.Counter()

    def one(data: bytes) -> None:
        if data:  # its first byte says whom it is for
            place = data[0] % len(chosen)
            counts[outcome(chosen[place], data[1:], originals[place][0])] += 1

    with tempfile.TemporaryDirectory() as corpus:
        for place, target in enumerate(chosen):
            Path(corpus, str(place)).write_bytes(bytes([place]) + target.documents[0])
        limit = max(len(target.documents[0]) for target in chosen) + 64
        atheris.Setup([sys.argv[0], f"-runs={runs}", f"-max_len={limit}", "-timeout=10", "-print_final_stats=1", corpus], one)
        atheris.Fuzz()


def main() -> int:
    """Read the command line and attack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("how", choices=["exhaustive", "guided"])
    parser.add_argument("--target", action="append", default=[], help="payload, ask, reply, token, or a role of metadata")
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--step", type=int, default=1, help="of values, for a short run")
    options = parser.parse_args()
    if options.how == "guided":
        guided(options.target, options.runs)
        return 0
    total: collections.Counter = collections.Counter()
    for name, target in targets().items():
        begun = time.monotonic()
        counts = exhaust(target, options.step) if not options.target or name in options.target else collections.Counter()
        print(json.dumps({"target": name, **counts, "seconds": round(time.monotonic() - begun, 1)}), flush=True)
        total += counts
    print(json.dumps({"target": "all", **total, "mutants": total.total()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
