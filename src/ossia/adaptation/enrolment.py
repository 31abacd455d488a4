"""How a device shows its key to a service, once: what both sides must say alike. Normative text: `docs/service-protocol.md`.

    device id    the first 16 bytes of the SHA-256 of its public Ed25519 key: nobody can take another's
    message      "ossia enroll" ‖ public key ‖ time, four bytes little-endian

The device signs the message; keeping the key is its own business (`ossia.device.kept`), judging it the service's.
"""

import hashlib
import struct

PURPOSE = b"ossia enroll"


def device_of(public: bytes) -> bytes:
    """Name a device by its key.

    Args:
        public: its raw Ed25519 key, 32 bytes.

    Returns:
        16 bytes.
    """
    return hashlib.sha256(public).digest()[:16]


def enrolment_message(public: bytes, at: int) -> bytes:
    """Say what a device signs to enroll.

    Args:
        public: its raw key.
        at: seconds since 1970.

    Returns:
        the message.
    """
    return PURPOSE + public + struct.pack("<I", at)
