"""Freed memory stays with the process, where the C library can be told so."""

import platform
import subprocess
import sys

import pytest

import ossia.training.memory

PROGRAM = """
import resource, runpy, sys
import numpy as np

if sys.argv[1] == "keep":
    assert runpy.run_path(sys.argv[2])["keep_freed_memory"]()  # by path: the package would load torch
def step():
    return sum(float(block[0]) for block in [np.ones(2_000_000) for _ in range(4)])  # 4 blocks of 16 MB: 4,000 pages each

for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode, ossia.training.memory.__file__], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_blocks_that_were_freed_are_used_again_without_asking_the_kernel() -> None:
    assert page_faults("keep") < page_faults("give back") / 5
