"""Where releases come from: a folder, or a web server's. `ossia.device.update` believes neither.

    FOLDER or URL/metadata/7.targets.json
    FOLDER or URL/targets/releases/3/base/SHA256.plane2.safetensors

The layout is TUF's own with consistent snapshots, so that any web server, bucket or memory stick will do. A server that knows
no ranges sends a file from its beginning; what was not asked for is then read and left.
"""

from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from ossia.device.source import Mirror
from ossia.errors import UsageError

PART = 64 * 1024
TIMEOUT_S = 10.0  # without a byte


def open_mirror(where: str) -> Mirror:
    """Make a mirror of an address.

    Args:
        where: a folder's path, or an http(s) address.

    Returns:
        the mirror; nothing is fetched yet.

    Raises:
        UsageError: neither.
    """
    if where.startswith(("https://", "http://")):
        return partial(_from_web, where.rstrip("/"))
    if not Path(where).is_dir():
        raise UsageError(f"mirror: expected a folder or an address that begins with http, got {where!r}")
    return partial(_from_disk, Path(where))


def _from_disk(folder: Path, path: str, start: int = 0) -> Iterator[bytes]:
    """Read a file in parts."""
    with (folder / path).open("rb") as file:
        file.seek(start)
        while part := file.read(PART):
            yield part


def _from_web(where: str, path: str, start: int = 0) -> Iterator[bytes]:
    """Read an answer in parts; the fetch API of the standard library, so that a device needs nothing more."""
    headers = {"user-agent": "ossia"} | ({"range": f"bytes={start}-"} if start else {})
    try:
        with urlopen(Request(f"{where}/{quote(path)}", headers=headers), timeout=TIMEOUT_S) as answer:
            skip = start if answer.status == HTTPStatus.OK else 0
            while part := answer.read1(PART):
                skip, part = max(0, skip - len(part)), part[skip:]
                if part:
                    yield part
    except HTTPError as error:
        raise (FileNotFoundError if error.code in (403, 404) else OSError)(f"{error.code} {error.reason}") from error
    except URLError as error:
        raise error.reason if isinstance(error.reason, OSError) else OSError(str(error.reason)) from error
    except HTTPException as error:
        raise OSError(f"an answer of another kind: {error!r}") from error
