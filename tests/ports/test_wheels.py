"""What `make wheels` built: names that are true of the C library, and an engine inside that ranks where it is installed."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WHEELS = {system: sorted((ROOT / "build/wheels").glob(f"*_{system}.whl")) for system in ("x86_64", "aarch64")}
QEMU = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
ARM_ROOT = Path("/usr/aarch64-linux-gnu")
MACHINES = {"x86_64": "X86-64", "aarch64": "AArch64"}
ASK = """
#include <dlfcn.h>
#include <stdio.h>
int main(int count, char **arguments)
{
    void *library = dlopen(arguments[1], RTLD_NOW);
    const char *(*path)(const char *) = library ? (const char *(*)(const char *))dlsym(library, "ossia_path") : NULL;
    puts(path ? path(NULL) : dlerror());
    return count != 2 || !path;
}
"""
RANK = """
import sys
from pathlib import Path
import numpy as np
from ossia.adaptation import Adaptation, Base
from ossia.device import engine
ranker = engine.engine_ranker(Base.load(Path(sys.argv[1])), Adaptation())
print(engine.__file__, len(ranker.top(np.array([4, 0, 11]), None, 3)[0]))
"""

pytestmark = pytest.mark.skipif(not all(WHEELS.values()), reason="not built: make wheels")


@pytest.fixture(scope="module", params=sorted(WHEELS))
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Take the engine out of a wheel."""
    folder = tmp_path_factory.mktemp(request.param)
    with zipfile.ZipFile(WHEELS[request.param][-1]) as wheel:
        (name,) = (name for name in wheel.namelist() if Path(name).name.startswith("_engine"))
        return request.param, Path(wheel.extract(name, folder))


def read_elf(flag: str, file: Path) -> str:
    return subprocess.run(["readelf", flag, str(file)], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("system", sorted(WHEELS))
def test_a_wheel_is_for_every_python_of_its_system(system: str) -> None:
    with zipfile.ZipFile(WHEELS[system][-1]) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith("/WHEEL"))
        assert f"Tag: py3-none-manylinux_2_17_{system}" in wheel.read(name).decode().splitlines()


@pytest.mark.skipif(shutil.which("readelf") is None, reason="no readelf (Debian: binutils)")
def test_the_library_asks_for_no_newer_c_library_than_its_name_says(library: tuple[str, Path]) -> None:
    system, file = library
    assert MACHINES[system] in read_elf("-h", file)
    assert set(re.findall(r"NEEDED.*\[(.*)\]", read_elf("-d", file))) <= {"libc.so.6", "ld-linux-aarch64.so.1"}
    versions = [tuple(map(int, version.split("."))) for version in re.findall(r"GLIBC_([\d.]+)", read_elf("-V", file))]
    assert max(versions) <= (2, 17)


def test_it_ranks_in_an_environment_of_its_own(tmp_path: Path) -> None:
    """Only ossia comes from the wheel: what it needs is borrowed from here, for a test fetches nothing."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path)], check=True)
    (packages,) = tmp_path.glob("lib/python*/site-packages")
    with zipfile.ZipFile(WHEELS["x86_64"][-1]) as wheel:
        wheel.extractall(packages)
    borrowed = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (packages / "borrowed.pth").write_text("\n".join(borrowed))
    base = str(ROOT / "tests/vectors/base")
    command = [str(tmp_path / "bin/python"), "-I", "-c", RANK, base]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(str(packages))
    assert ran.stdout.split()[1] == "3"


@pytest.mark.skipif(QEMU is None or shutil.which("aarch64-linux-gnu-gcc") is None, reason="no qemu-aarch64 or cross compiler")
def test_the_library_for_arm_loads_and_runs(tmp_path: Path) -> None:
    with zipfile.ZipFile(WHEELS["aarch64"][-1]) as wheel:
        (name,) = (name for name in wheel.namelist() if Path(name).name.startswith("_engine"))
        file = wheel.extract(name, tmp_path)
    (tmp_path / "ask.c").write_text(ASK)
    program = str(tmp_path / "ask")
    subprocess.run(["aarch64-linux-gnu-gcc", str(tmp_path / "ask.c"), "-o", program, "-ldl"], check=True)
    command = [str(QEMU), "-cpu", "neoverse-n1", "-L", str(ARM_ROOT), program, file]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (asked.returncode, asked.stdout.strip()) == (0, "dotprod"), asked.stderr
