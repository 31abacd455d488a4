"""What a device and a service run never loads torch; what a device runs loads nothing but numpy and its kind."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
WITH_TORCH = ("ossia.backbones", "ossia.personalizers", "ossia.training", "ossia.studies", "ossia.quantization.fake")
CLOUD_ONLY = ("torch", "polars", "onnxruntime", "onnx", "matplotlib", "apsw", "uvicorn")


def modules() -> list[str]:
    """Name every module of the package."""
    names = (".".join(path.relative_to(SOURCE).with_suffix("").parts) for path in SOURCE.rglob("*.py"))
    return sorted(name.removesuffix(".__init__") for name in names)


def loaded_by(names: Iterable[str], forbidden: Iterable[str]) -> list[str]:
    """Import `names` in a fresh process; list which of the `forbidden` packages that brought along."""
    program = f"import sys\nfor name in {list(names)!r}: __import__(name)\nprint(*(sys.modules.keys() & {set(forbidden)!r}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return sorted(done.stdout.split())


def test_nothing_below_training_loads_torch() -> None:
    assert loaded_by((name for name in modules() if not name.startswith(WITH_TORCH)), ["torch"]) == []


def test_the_device_and_the_command_line_load_nothing_of_the_cloud() -> None:
    rooms = ("ossia.types", "ossia.errors", "ossia.files", "ossia.adaptation", "ossia.device", "ossia.cli")
    names = [name for name in modules() if name.startswith(rooms)]
    assert loaded_by([*names, "ossia.quantization"], CLOUD_ONLY) == []


@pytest.mark.parametrize(("name", "brings"), [("ossia.quantization.fake", "torch"), ("ossia.data", "polars")])
def test_this_search_can_find_something(name: str, brings: str) -> None:
    assert brings in loaded_by([name], CLOUD_ONLY)
