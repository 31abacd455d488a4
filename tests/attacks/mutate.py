"""Every value of every byte of the golden payload: decodes canonically, or is refused with `PayloadError`.

Prints how many were accepted and how many refused; any other outcome is a traceback and a failing exit.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "golden"))

from documents import golden_payload, toy_base

from ossia.adaptation import decode_payload, encode_payload
from ossia.errors import PayloadError

BASE = toy_base()


def spelled_once(data: bytes) -> bool:
    """Decode; what is accepted must encode to the very same bytes. Returns whether it was accepted."""
    try:
        payload = decode_payload(BASE, data, allow_unsigned=True)
    except PayloadError:
        return False
    header = payload.header
    fields = {name: getattr(header, name) for name in ("device_id", "sequence", "issued", "expiry", "key_id")}
    assert encode_payload(BASE, payload.adaptation, **fields) == data, data.hex()
    return True


def mutants(data: bytes):
    """Yield the data with each byte at each of its 256 values."""
    for at in range(len(data)):
        for value in range(256):
            yield data[:at] + bytes([value]) + data[at + 1 :]


if __name__ == "__main__":
    outcomes = [spelled_once(mutant) for mutant in mutants(golden_payload())]
    print(sum(outcomes), len(outcomes) - sum(outcomes))
