"""The private keys behind releases: folders of Ed25519 keys, by role, and what signs with them.

    OFFLINE/root-1a2b3c4d5e6f7081.pem       says which keys count; needed once a year, or after a theft
    OFFLINE/targets-….pem                   says which files are releases, and whose payloads count; needed to publish
    ONLINE/online-….pem                     says what is newest, and who may have it already; lies with the server

A file is named by its role and the first 16 digits of its TUF key id, PKCS #8, not encrypted, readable by its owner alone:
what makes offline keys offline is where the folder is. Keys that sign payloads are `ossia.service.keychain`'s, live for
weeks, and reach devices as a target that the key of role `targets` signs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ossia.errors import ArtifactError, UsageError
from ossia.files import write_whole

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner

ROLES = ("root", "targets", "online")
SHOWN = 16  # digits of a key id


@dataclass(frozen=True, eq=False)
class Keyring:
    """Private keys at hand.

    Attributes:
        signers: by TUF key id.
        files: where each lies.
        roles: what each was made for.
    """

    signers: Mapping[str, "CryptoSigner"]
    files: Mapping[str, Path]
    roles: Mapping[str, str]

    def of(self, role: str) -> list["CryptoSigner"]:
        """List the keys that were made for a role.

        Args:
            role: one of `ROLES`.

        Returns:
            the keys; none is no error.
        """
        return [signer for key, signer in self.signers.items() if self.roles[key] == role]


def make_release_key(folder: Path, role: str) -> "CryptoSigner":
    """Make a key for a role; it counts once a root says so.

    Args:
        folder: of keys; made if it is missing.
        role: one of `ROLES`.

    Returns:
        the key, which is on the disk.

    Raises:
        UsageError: no such role.
    """
    from securesystemslib.signer import CryptoSigner

    if role not in ROLES:
        raise UsageError(f"role: expected one of {', '.join(ROLES)}, got {role!r}")
    signer = CryptoSigner.generate_ed25519()
    write_whole(folder / f"{role}-{signer.public_key.keyid[:SHOWN]}.pem", signer.private_bytes, mode=0o600)
    return signer


def load_keyring(folders: Sequence[Path]) -> Keyring:
    """Read all keys of some folders.

    Args:
        folders: as `make_release_key` fills them; a stick that is not mounted is a folder without keys.

    Returns:
        the keys.

    Raises:
        ArtifactError: a file is no private key, or named after another one.
    """
    signers, files, roles = {}, {}, {}
    for path in sorted(path for folder in folders for path in folder.glob("*-*.pem")):
        signer = _read(path)
        role, _, shown = path.stem.rpartition("-")
        if role not in ROLES or not signer.public_key.keyid.startswith(shown):
            expected = f"{ROLES[0]}-{signer.public_key.keyid[:SHOWN]}.pem or another role's"
            raise ArtifactError(f"{path}: expected a file named {expected}")
        key = signer.public_key.keyid
        signers[key], files[key], roles[key] = signer, path, role
    return Keyring(signers, files, roles)


def _read(path: Path) -> "CryptoSigner":
    """Read one private key."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner

    try:
        return CryptoSigner(load_pem_private_key(path.read_bytes(), None))
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(f"{path}: expected a private key in PEM, not encrypted, got: {error}") from error
