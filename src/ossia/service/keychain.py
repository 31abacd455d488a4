"""The keys that sign payloads: a folder with the public list and the private halves.

    KEYS/keys.json      what devices trust (`ossia.adaptation.keys`): give them this file, and nothing else of the folder
    KEYS/1a2b3c4d.pem   a private key (PKCS #8, not encrypted), readable by its owner alone

    make      a folder with one key
    rotate    one more key, which signs from now on; the older ones go on being trusted until they expire
    revoke    a key is trusted no longer, and its private half is deleted

A key lives for some weeks, and no payload outlives its key, so that a stolen one does harm for weeks and not for ever even on a
device that never hears of the revocation. The list is written before a private key is used and after it is made; each file
appears whole. Offline keys, which sign releases, are another matter.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ossia.adaptation.keys import KeyList, TrustedKey, key_id, read_keys
from ossia.adaptation.manifests import write_manifest
from ossia.adaptation.payload import SIGNATURE_BYTES, Sign
from ossia.errors import ArtifactError, UsageError
from ossia.files import write_whole

LIST = "keys.json"
LATEST = 2**32 - 1
"""The payload's clock ends here, and so does a key that is to live for ever."""


@dataclass(frozen=True, eq=False)
class Signer:
    """A key that signs.

    Attributes:
        key_id: what payloads name it by.
        expiry: no payload of this key may be valid beyond.
        sign: message → 64 bytes; None: the payload stays unsigned.
    """

    key_id: int
    expiry: int
    sign: Sign | None


NOBODY = Signer(0, LATEST, None)
"""Signs nothing: for payloads that never leave the machine, and for callers who write that they accept such."""


def make_keys(folder: Path, expiry: int) -> KeyList:
    """Make a folder with one key.

    Args:
        folder: new, or without a list of keys.
        expiry: the key's, seconds since 1970.

    Returns:
        the list that is now there.

    Raises:
        UsageError: there is a list already: keys are never overwritten.
    """
    if (folder / LIST).exists():
        raise UsageError(f"{folder}: expected a folder without keys, found {LIST}; `rotate` adds a key")
    return _add(folder, (), expiry)


def rotate_keys(folder: Path, expiry: int) -> KeyList:
    """Add a key, which signs from now on.

    Args:
        folder: of keys.
        expiry: the new key's, seconds since 1970.

    Returns:
        the list that is now there.

    Raises:
        ArtifactError: there is no list.
    """
    return _add(folder, read_keys(folder / LIST).keys, expiry)


def revoke_key(folder: Path, revoked: int) -> KeyList:
    """Take a key back for good, and delete its private half.

    Args:
        folder: of keys.
        revoked: the key's id.

    Returns:
        the list that is now there.

    Raises:
        ArtifactError: there is no list.
        UsageError: the list has no such key.
    """
    keys = read_keys(folder / LIST).keys
    if revoked not in {key.id for key in keys}:
        known = ", ".join(f"{key.id:08x}" for key in keys)
        raise UsageError(f"{folder}: expected one of its keys ({known}), got {revoked:08x}")
    changed = tuple(msgspec.structs.replace(key, revoked=True) if key.id == revoked else key for key in keys)
    written = _write_list(folder, changed)
    _private(folder, revoked).unlink(missing_ok=True)
    return written


def load_signer(folder: Path, now: int) -> Signer:
    """Take the key that signs today: the newest that is neither revoked nor expired.

    Args:
        folder: of keys.
        now: seconds since 1970.

    Returns:
        the signer.

    Raises:
        ArtifactError: no such key, or its private half is missing or another one's.
    """
    fit = [key for key in read_keys(folder / LIST).keys if not key.revoked and key.expiry > now]
    if not fit:
        raise ArtifactError(f"{folder}: expected a key that is neither revoked nor expired, found none; `rotate` makes one")
    return Signer(fit[-1].id, fit[-1].expiry, _read_private(_private(folder, fit[-1].id), fit[-1]))


def _add(folder: Path, keys: tuple[TrustedKey, ...], expiry: int) -> KeyList:
    """Make a key: its private half first, so that the list never promises what is not there."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    taken = {0, *(key.id for key in keys)}  # 0 means that nobody signed
    while key_id((private := Ed25519PrivateKey.generate()).public_key().public_bytes_raw()) in taken:
        continue
    key = TrustedKey(private.public_key().public_bytes_raw().hex(), expiry)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_whole(_private(folder, key.id), pem, mode=0o600)
    return _write_list(folder, (*keys, key))


def _write_list(folder: Path, keys: tuple[TrustedKey, ...]) -> KeyList:
    """Write `keys.json`."""
    document = KeyList(keys)
    write_manifest(folder / LIST, document)
    return document


def _private(folder: Path, number: int) -> Path:
    """Say where a key's private half lies."""
    return folder / f"{number:08x}.pem"


def _read_private(path: Path, key: TrustedKey) -> Callable[[bytes], bytes]:
    """Read a private key, and hold it to its public half. libsodium signs the same bytes in two thirds of OpenSSL's time."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from nacl.bindings import crypto_sign

    try:
        private = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise ArtifactError(f"{path}: expected a private key, got: {error.strerror or error}") from error
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{path}: expected a private key in PEM, not encrypted, got another file") from error
    if not isinstance(private, Ed25519PrivateKey) or private.public_key().public_bytes_raw().hex() != key.public:
        raise ArtifactError(f"{path}: expected the private half of key {key.id:08x}, got another key")
    secret = private.private_bytes_raw() + bytes.fromhex(key.public)
    return lambda message: bytes(crypto_sign(message, secret)[:SIGNATURE_BYTES])
