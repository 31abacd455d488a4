"""What a table of results needs to be made again: the command, the machine, the versions, the data, the day."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ossia.evaluation.results import Provenance

PACKAGES = ("ossia", "numpy", "polars", "torch", "onnxruntime")
"""Those that shape figures."""


def make_provenance(command: str, *, seeds: Sequence[int], data: str, data_hash: str) -> Provenance:
    """Describe this run on this machine, now.

    Args:
        command: what was run, as one would type it again.
        seeds: of everything random.
        data: name or path of the data.
        data_hash: the prepared data's identity.

    Returns:
        what stands below a table.
    """
    day = datetime.now(UTC).date().isoformat()
    return Provenance(command, tuple(seeds), describe_machine(), installed_versions(), data, data_hash, day)


def describe_machine() -> str:
    """Name processor, cores and operating system, as far as the system tells.

    Returns:
        such as `AMD EPYC 7B13, 2 cores, Linux x86_64, Python 3.11.7`.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{_processor()}, {cores} core{'' if cores == 1 else 's'}, {system}"


def installed_versions() -> dict[str, str]:
    """List the versions of the packages that shape figures; what is not installed is not listed.

    Returns:
        version by package.
    """
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    """Name the processor; Linux tells it in a file, others through `platform`."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or "unknown processor"
