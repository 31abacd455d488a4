"""Which keys may sign a payload, and how a device judges a signature. Ed25519, by the `cryptography` package.

    keys.json      public keys, each with its expiry and whether it was revoked: what a device trusts
    key id         the first four bytes of the SHA-256 of the 32 bytes of the public key, as a little-endian number

A device judges in this order, and refuses by name:

    unknown_key    no trusted key has this id
    revoked_key    the key was taken back; whatever it ever signed is refused, for a thief can write any date
    outlived_key   the payload expires after its key: what is signed with a stolen key dies with the key
    forged         the signature is not one of this key over these bytes

The list itself must reach the device by a way that it trusts: with the app, or as a target of signed release metadata. Making
keys and keeping their private halves is `ossia.service.keychain`. A core without Ed25519 (the C engine) is told by its caller
that the signature held.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from ossia.adaptation.manifests import read_manifest
from ossia.adaptation.payload import Header
from ossia.errors import ArtifactError, PayloadError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PUBLIC_BYTES = 32


class TrustedKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One key of `keys.json`.

    Attributes:
        public: the raw public key, 64 hexadecimal digits.
        expiry: seconds since 1970; no payload of this key may be valid beyond.
        revoked: taken back for good.
    """

    public: str
    expiry: int
    revoked: bool = False

    @property
    def id(self) -> int:
        """The id that payloads name it by."""
        return key_id(bytes.fromhex(self.public))


class KeyList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`keys.json`: oldest first; the newest that is neither revoked nor expired signs."""

    keys: tuple[TrustedKey, ...]
    kind: Literal["ossia-keys"] = "ossia-keys"
    version: Literal[1] = 1


@dataclass(frozen=True, eq=False)
class TrustedKeys:
    """The keys that a device trusts, ready to judge signatures.

    Attributes:
        keys: by id.

    Example:
        `open_session(base, device_id, verify=TrustedKeys.load(Path("keys.json")).verify)`
    """

    keys: Mapping[int, TrustedKey]

    @classmethod
    def load(cls, path: Path) -> "TrustedKeys":
        """Read a list of trusted keys.

        Args:
            path: `keys.json`.

        Returns:
            the keys.

        Raises:
            ArtifactError: missing, no such list, or a key that is none.
        """
        return cls({key.id: key for key in read_keys(path).keys})

    def verify(self, header: Header, message: bytes, signature: bytes) -> None:
        """Judge a payload's signature.

        Args:
            header: what the payload says of itself.
            message: all bytes before the signature.
            signature: 64 bytes.

        Raises:
            PayloadError: the key is unknown, revoked or outlived, or the signature is not its own.
        """
        key = self.keys.get(header.key_id)
        if key is None:
            raise PayloadError(f"signature: expected one of a trusted key, got key {header.key_id:08x}", "unknown_key")
        if key.revoked:
            raise PayloadError(f"signature: expected one of a key in force, but {header.key_id:08x} is revoked", "revoked_key")
        if header.expiry > key.expiry:
            expected = f"expected an expiry up to that of key {header.key_id:08x} ({key.expiry}), got {header.expiry}"
            raise PayloadError(f"signature: {expected}", "outlived_key")
        if not self._holds(header.key_id, message, signature):
            raise PayloadError(f"signature: expected one that holds for key {header.key_id:08x}, got another", "forged")

    def _holds(self, key: int, message: bytes, signature: bytes) -> bool:
        """Tell whether a key made this signature of this message."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._public[key].verify(signature, message)
        except InvalidSignature:
            return False
        return True

    @cached_property
    def _public(self) -> dict[int, "Ed25519PublicKey"]:
        """The keys as the library wants them."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        return {number: Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.public)) for number, key in self.keys.items()}


def key_id(public: bytes) -> int:
    """Name a key by its content.

    Args:
        public: the raw public key, 32 bytes.

    Returns:
        the id that payloads carry, below 2³².

    Example:
        >>> f"{key_id(bytes(32)):08x}"
        'ad7a6866'
    """
    return int.from_bytes(hashlib.sha256(public).digest()[:4], "little")


def read_keys(path: Path) -> KeyList:
    """Read a list of keys.

    Args:
        path: `keys.json`.

    Returns:
        the list.

    Raises:
        ArtifactError: missing, no such list, or a key that is none or stands there twice.
    """
    _, document = read_manifest(path, KeyList)
    try:
        public = [bytes.fromhex(key.public) for key in document.keys]
    except ValueError as error:
        raise ArtifactError(f"{path}: expected public keys of {2 * PUBLIC_BYTES} hexadecimal digits, got {error}") from error
    ids = {key_id(each) for each in public}
    if any(len(each) != PUBLIC_BYTES for each in public) or not len(ids) == len(public):
        raise ArtifactError(f"{path}: expected different public keys of {PUBLIC_BYTES} bytes each")
    return document
