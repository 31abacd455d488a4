"""Compiles the device engine, `engine/`, and the service's `climb.c` with the system's C compiler; else see pyproject.toml.

Both are shared libraries called through ctypes: they know no Python, so one build serves every version, and a wheel's name
says `py3-none` and a system. Where there is no compiler, or one that can't, setuptools says so and goes on: the numpy runtimes
need none.
"""

import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel

# -ffp-contract=off: a product and a sum are two roundings, as in numpy; where one is meant, the source says so.
FLAGS = ["-std=c11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden"]
FLAGS += ["-fno-unswitch-loops"]  # no loop twice for what it asks every time: 8 KB less, and codes fold in 28 µs instead of 47
FLAGS += ["-fno-asynchronous-unwind-tables"]  # nothing here throws, and they are 8 of 120 KB
SOURCES = Path("engine/src")


class AnyPython(bdist_wheel):
    """A wheel for one system and every Python."""

    def get_tag(self) -> tuple[str, str, str]:
        """Name the system, as setuptools would."""
        return "py3", "none", super().get_tag()[2]


setup(
    cmdclass={"bdist_wheel": AnyPython},
    ext_modules=[
        Extension(
            "ossia.device._engine",
            sources=sorted(str(path) for path in SOURCES.glob("*.c")),
            depends=sorted(
                str(path) for path in (*SOURCES.glob("*.h"), *SOURCES.glob("*.inc"), Path("engine/include/ossia.h"))
            ),
            include_dirs=["engine/include", "engine/src"],
            extra_compile_args=FLAGS,
            extra_link_args=["-Wl,-s", "-Wl,-z,noseparate-code"] if sys.platform == "linux" else [],
            py_limited_api=True,
            optional=True,
        ),
        Extension(
            "ossia.adaptation._climb",
            sources=["src/ossia/adaptation/climb.c"],
            extra_compile_args=FLAGS,
            extra_link_args=["-Wl,-s", "-Wl,-z,noseparate-code"] if sys.platform == "linux" else [],
            py_limited_api=True,
            optional=True,
        ),
    ],
)
