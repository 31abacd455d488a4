"""Files by content address: a base and its table, cacheable for ever, in ranges, so that a broken download goes on.

The address of a file is its SHA-256. A device asks `/v1/release` for the manifests' addresses, and reads all others there. What
a cache or a mirror in between gives it, it holds to the address: nothing here has to be trusted.
"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from ossia.adaptation.base import Base
from ossia.adaptation.manifests import BaseManifest, TableManifest, read_manifest

PARTS = ("metadata", "targets")
"""Of a repository: what is in its folder beside them, such as a lock, is nobody's business."""

FOREVER = "public, max-age=31536000, immutable"


def files_of(base: Base) -> dict[str, Path]:
    """List a base's files and its table's by address.

    Args:
        base: loaded, so that every file was held to its digest.

    Returns:
        path by SHA-256 in hexadecimal, manifests included.
    """
    _, manifest = read_manifest(base.path / "manifest.json", BaseManifest)
    _, table = read_manifest(base.path / "table" / "manifest.json", TableManifest)
    found = {entry.sha256: base.path / name for name, entry in manifest.files.items()}
    found |= {entry.sha256: base.path / "table" / name for name, entry in table.files.items()}
    return found | {base.id.hex(): base.path / "manifest.json", base.table.id.hex(): base.path / "table" / "manifest.json"}


async def serve_file(request: Request, files: Mapping[str, Path]) -> Response:
    """Answer with a file, a range of it, or word that the caller's copy is still right.

    Args:
        request: GET or HEAD, with the address as its path parameter.
        files: path by address.

    Returns:
        200, 206, 304, 404 or 416.
    """
    address = request.path_params["address"]
    if address not in files:
        return Response("artifact: expected one of this release, got another\n", 404, media_type="text/plain")
    headers = {"etag": f'"{address}"', "cache-control": FOREVER}
    if headers["etag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return FileResponse(files[address], headers=headers, media_type="application/octet-stream")


async def serve_release(request: Request, repo: Path) -> Response:
    """Answer with a file of a repository of releases.

    Args:
        request: GET or HEAD, with the file's path as its path parameter.
        repo: the repository.

    Returns:
        200, 206, 304, 404 or 416. Only `timestamp.json` ever changes under its name.
    """
    path = PurePosixPath(request.path_params["path"])
    plain = len(path.parts) > 1 and path.parts[0] in PARTS and not any(part.startswith(".") for part in path.parts)
    if not plain or "\0" in str(path) or not (repo / path).is_file():
        return Response("release: expected a file of the repository, got another\n", 404, media_type="text/plain")
    cache = "no-cache" if path.name == "timestamp.json" else FOREVER
    return FileResponse(repo / path, headers={"cache-control": cache}, media_type="application/octet-stream")
