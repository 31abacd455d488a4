"""Reading from a mirror: with a limit on bytes and on time, held to what was signed, and from where it broke off.

A mirror is a function from a path and a first byte to the bytes from there on: a web server's folder, a memory stick, a test.
What it gives of a large file goes to `SHA256.part` as it comes, so that whatever breaks off, the line or the power, goes on at
the same byte. Nobody vouches for a part: only the whole is held to its digest, and where it does not hold, the part is thrown
away and the file is fetched once more from its first byte.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ossia.errors import ReleaseError
from ossia.files import DISK

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile

METADATA_BYTES = 4 * 1024 * 1024
PATIENCE_S, LEAST_RATE = 10.0, 1_000.0  # seconds for any file, and bytes a second beyond


Mirror: TypeAlias = Callable[[str, int], Iterator[bytes]]
"""From a path and the first byte wanted to the bytes from there on, in parts; FileNotFoundError where there is nothing, another
OSError where nobody answers."""


@dataclass
class Source:
    """A mirror, read with a limit on bytes and on time.

    Attributes:
        mirror: what is read.
        clock: for patience.
        received: bytes that came from it.
    """

    mirror: Mirror
    clock: Callable[[], float]
    received: int = 0

    def read(self, path: str, most: int) -> bytes:
        """Read a file whole.

        Args:
            path: within the repository.
            most: bytes that it may have.

        Returns:
            its bytes.

        Raises:
            ReleaseError: more bytes than that, too slow, or none.
        """
        return b"".join(self._stream(path, 0, most))

    def metadata(self, role: str, version: int, length: int | None) -> bytes:
        """Read metadata of a version.

        Args:
            role: such as `targets`.
            version: of it.
            length: where it is known.

        Returns:
            its bytes.

        Raises:
            ReleaseError: likewise.
        """
        return self.read(f"metadata/{version}.{role}.json", METADATA_BYTES if length is None else min(length, METADATA_BYTES))

    def target(self, path: str, target: "TargetFile") -> bytes:
        """Read a small target, and hold it to what was signed.

        Args:
            path: of the target.
            target: what was signed.

        Returns:
            its bytes.

        Raises:
            ReleaseError: likewise, or other bytes.
        """
        data = self.read(_address(path, target), target.length)
        _check_bytes(path, target, data)
        return data

    def download(self, path: str, target: "TargetFile", out: Path) -> None:
        """Fetch a target into a file, from where an earlier try broke off; the file takes its name when it is whole.

        Args:
            path: of the target.
            target: what was signed.
            out: where to.

        Raises:
            ReleaseError: likewise; what came is kept for the next try, unless it is wrong.
            OSError: the disk refused.
        """
        part = out.with_name(f"{out.name}.part")
        resumed = self._append(path, target, part)
        try:
            _check_bytes(path, target, part.read_bytes())
        except ReleaseError:
            if part.stat().st_size < target.length:  # it ended early; who knows: the next one may go on
                raise
            part.unlink()
            if not resumed:
                raise
            self.download(path, target, out)
            return
        DISK.replace(part, out, 0o644)
        DISK.flush_folder(out.parent)

    def _append(self, path: str, target: "TargetFile", part: Path) -> bool:
        """Add what is missing to a part; tells whether something was there."""
        part.parent.mkdir(parents=True, exist_ok=True)
        start = part.stat().st_size if part.exists() else 0
        with part.open("ab") as file:
            if start < target.length or not start:
                for chunk in self._stream(_address(path, target), start, target.length - start):
                    file.write(chunk)
            file.flush()
            DISK.flush(file.fileno())
        return start > 0

    def _stream(self, path: str, start: int, most: int) -> Iterator[bytes]:
        """Read from a byte on, up to the end or a limit."""
        begun, size = self.clock(), 0
        try:
            for chunk in self.mirror(path, start):
                size += len(chunk)
                self.received += len(chunk)
                if size > most:
                    raise ReleaseError(f"{path}: expected at most {most:,} bytes, got more", "oversized")
                if self.clock() > begun + PATIENCE_S + size / LEAST_RATE:
                    raise ReleaseError(f"{path}: expected {LEAST_RATE:,.0f} bytes a second, got fewer", "too_slow")
                yield chunk
        except TimeoutError as error:
            raise ReleaseError(f"{path}: expected bytes in time, got none", "too_slow") from error
        except OSError as error:
            raise ReleaseError(f"{path}: expected a file, got: {error.strerror or error}", "missing") from error


def digest_of(target: "TargetFile") -> str:
    """Say a target's SHA-256.

    Args:
        target: of signed metadata.

    Returns:
        64 hexadecimal digits.

    Raises:
        ReleaseError: it was signed under another digest only.
    """
    digest = target.hashes.get("sha256", "")
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise ReleaseError(f"{target.path}: expected a SHA-256, got {sorted(target.hashes)}", "malformed")
    return digest


def _address(path: str, target: "TargetFile") -> str:
    """Say where a target lies: by its content, so that it never changes."""
    parent, slash, name = path.rpartition("/")
    return f"targets/{parent}{slash}{digest_of(target)}.{name}"


def _check_bytes(path: str, target: "TargetFile", data: bytes) -> None:
    """Raise ReleaseError for bytes that are not those that were signed."""
    from tuf.api.exceptions import LengthOrHashMismatchError

    try:
        target.verify_length_and_hashes(data)
    except LengthOrHashMismatchError as error:
        raise ReleaseError(f"{path}: expected {target.length:,} bytes as signed, got others", "other_bytes") from error
