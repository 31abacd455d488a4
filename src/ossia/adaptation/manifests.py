"""The JSON documents beside a base's tensors, and how a folder of files is held to them.

A manifest names every file of its artefact with size and SHA-256. The id of the artefact is the SHA-256 of the manifest's own
bytes, so that one id pins every byte below it. Nothing is read that the manifest does not name.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from ossia.errors import ArtifactError
from ossia.files import write_whole
from ossia.types import Slot

Tensors = dict[str, np.ndarray]


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Size in bytes and SHA-256 (hexadecimal) of one file of an artefact."""

    bytes: int
    sha256: str


class OlderTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table that this one extends: its rows are the first `rows` rows here, byte for byte."""

    table: str
    rows: int


class TailShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table has a coarse tail, of so many parts a row and codewords a part."""

    parts: int
    words: int


class TableManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`table/manifest.json`: the catalog's vectors, released apart from the base."""

    rows: int
    dim: int
    extends: tuple[OlderTable, ...]
    files: dict[str, FileEntry]
    kind: Literal["ossia-table"] = "ossia-table"
    version: Literal[1] = 1
    tail: TailShape | msgspec.UnsetType = msgspec.UNSET


class BaseManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`manifest.json`: everything that decides how bytes on the wire are read.

    Attributes:
        backbone: the architecture, such as `sasrec`.
        shape: its sizes, such as `{"dim": 64, "blocks": 2, …}`.
        slots: what may be adapted, in wire order.
        gates: what may be skipped, in wire order.
        profile_clip: a user state is clipped to ± this before it becomes a profile.
        table: id of the table that the base was published with.
        files: every other file of the base.
        basis: how many directions each slot's basis has; left out: there is none.
    """

    backbone: str
    shape: dict[str, int]
    slots: tuple[Slot, ...]
    gates: tuple[str, ...]
    profile_clip: float
    table: str
    files: dict[str, FileEntry]
    kind: Literal["ossia-base"] = "ossia-base"
    version: Literal[1] = 1
    basis: Annotated[int, msgspec.Meta(ge=1, le=255)] | msgspec.UnsetType = msgspec.UNSET


Document = TypeVar("Document", bound=msgspec.Struct)


def write_files(folder: Path, files: Mapping[str, bytes]) -> dict[str, FileEntry]:
    """Write an artefact's files and describe them.

    Args:
        folder: the artefact's folder.
        files: content by path relative to it.

    Returns:
        one entry per file, for the manifest.
    """
    for name, content in files.items():
        write_whole(folder / name, content)
    return {name: FileEntry(len(content), hashlib.sha256(content).hexdigest()) for name, content in files.items()}


def write_manifest(path: Path, manifest: msgspec.Struct) -> bytes:
    """Write a manifest and return its id.

    Args:
        path: the manifest's file.
        manifest: what to write.

    Returns:
        the SHA-256 of the bytes written, 32 bytes.
    """
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
    write_whole(path, content)
    return hashlib.sha256(content).digest()


def read_manifest(path: Path, document: type[Document]) -> tuple[bytes, Document]:
    """Read a manifest and its id.

    Args:
        path: the manifest's file.
        document: which kind is expected.

    Returns:
        the id (32 bytes), and the document.

    Raises:
        ArtifactError: the file is missing, no JSON, of another kind or version, or has a field too many or too few.
    """
    try:
        content = path.read_bytes()
        return hashlib.sha256(content).digest(), msgspec.json.decode(content, type=document)
    except OSError as error:
        raise ArtifactError(f"{path}: expected a manifest, got {error.strerror or error}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: expected {document.__name__}, got: {error}") from error


def read_files(folder: Path, files: Mapping[str, FileEntry]) -> dict[str, bytes]:
    """Read an artefact's files, each held to its size and digest.

    Args:
        folder: the artefact's folder.
        files: the manifest's entries.

    Returns:
        content by path.

    Raises:
        ArtifactError: a file is missing or has other bytes than the manifest says; names the file.
    """
    return {name: _read_checked(folder, name, entry) for name, entry in files.items()}


def read_tensors(path: Path, content: bytes) -> Tensors:
    """Parse a safetensors file whose digest was checked.

    Args:
        path: for the error message.
        content: the file's bytes.

    Returns:
        arrays by name.

    Raises:
        ArtifactError: the bytes are no safetensors file.
    """
    try:
        return load_tensors(content)
    except (SafetensorError, KeyError, ValueError) as error:
        raise ArtifactError(f"{path}: expected safetensors, got: {error}") from error


def tensor_bytes(tensors: Mapping[str, np.ndarray]) -> bytes:
    """Serialize arrays as safetensors; the same arrays give the same bytes.

    Args:
        tensors: arrays by name.

    Returns:
        a whole safetensors file.
    """
    return save_tensors({name: np.ascontiguousarray(array) for name, array in sorted(tensors.items())})


def _read_checked(folder: Path, name: str, entry: FileEntry) -> bytes:
    """Read one file and hold it to its entry."""
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ArtifactError(f"{folder}: expected file names inside the folder, got {name!r}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: expected {entry.bytes:,} bytes, got {error.strerror or error}") from error
    digest = hashlib.sha256(content).hexdigest()
    if (len(content), digest) != (entry.bytes, entry.sha256):
        expected = f"{entry.bytes:,} bytes with SHA-256 {entry.sha256[:12]}…"
        raise ArtifactError(f"{path}: expected {expected}, got {len(content):,} with {digest[:12]}…")
    return content
