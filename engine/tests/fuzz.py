"""Runs `fuzz.c` under the address and undefined-behavior sanitizers: `python engine/tests/fuzz.py ATTEMPTS [FIRST]`.

For each backbone two bases: the tiny one of `tests/vectors`, and one 64 wide with a coarse tail, for which fast kernels have
paths of their own.
Attempts are numbered, so a long run is many short ones: `FIRST` says where to go on, a failure names its attempt, and
`fuzz.py 1 ATTEMPT` repeats it. Ends with 77 where no compiler has the sanitizers.
"""

import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAKE = runpy.run_path(str(ROOT / "tests/vectors/make.py"))
WIDE = {
    "sasrec": {"items": 13, "dim": 64, "length": 11, "blocks": 2, "heads": 2, "hidden": 40},
    "caser": {"items": 13, "dim": 64, "length": 4, "vertical": 2, "horizontal": 4},
    "gru4rec": {"items": 13, "dim": 64, "length": 11, "layers": 2, "hidden": 20},
    "valves": {"items": 13, "dim": 64, "length": 11, "blocks": 2, "heads": 2, "hidden": 40, "valves": 1},
    "basis": {"items": 13, "dim": 64, "length": 11, "blocks": 2, "heads": 2, "hidden": 40},
}
FLAGS = ["-std=c11", "-g", "-O2", "-ffp-contract=off", "-fno-math-errno", "-fsanitize=address,undefined"]
FLAGS += ["-fno-sanitize-recover=all"]
QUICK = {"ASAN_OPTIONS": "malloc_context_size=4:quarantine_size_mb=16"}
"""The sanitizer's defaults remember where each of millions of small blocks came from: half as many attempts a second."""
SKIPPED = 77
CHUNK = 100_000
"""Attempts of one process, so that a long run says how far it is."""


def main(attempts: int, first: int) -> int:
    """Build the fuzzer, write bases and payloads, and run; gives the exit status."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not build(folder / "fuzz"):
            print("fuzz: no compiler with sanitizers here (cc, or CC=…)", file=sys.stderr)
            return SKIPPED
        bases = list(write_bases(folder))
        each = -(-attempts // len(bases))
        for start in range(first, first + each, CHUNK):
            times = min(CHUNK, first + each - start)
            for kind, base, payloads in bases:
                command = [str(folder / "fuzz"), str(base), str(start), str(times), *map(str, payloads)]
                done = subprocess.run(command, capture_output=True, text=True, env=QUICK | os.environ, check=False)
                print(f"{kind}: {done.stdout.strip()}", flush=True)
                if done.returncode:
                    print(done.stderr[-8000:], file=sys.stderr)
                    return 1
    print(f"fuzz: {each * len(bases):,} attempts, no fault found")
    return 0


def build(program: Path) -> bool:
    """Compile the engine with the sanitizers; False where this can't be done here."""
    sources = [*sorted((ROOT / "engine/src").glob("*.c")), ROOT / "engine/tests/fuzz.c"]
    include = [f"-I{ROOT / 'engine/include'}", f"-I{ROOT / 'engine/src'}"]
    command = [
        os.environ.get("CC", "cc"),
        *FLAGS,
        "-fno-sanitize-recover=all",
        *include,
        *map(str, sources),
        "-o",
        str(program),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return False
    if done.returncode and "sanitize" not in done.stderr and "asan" not in done.stderr:
        raise SystemExit(done.stderr)
    return done.returncode == 0


def write_bases(folder: Path) -> Iterator[tuple[str, Path, list[Path]]]:
    """Yield name, folder and payload files of each base."""
    for width, shapes in (("8 wide", dict(MAKE["SHAPES"])), ("64 wide", WIDE)):
        MAKE["SHAPES"].update(shapes)
        for kind in shapes:
            tail = 4 if width == "64 wide" else MAKE["TAIL_PARTS"].get(kind, 0)
            base = MAKE["make_base"](folder / kind / width / "base", kind, tail=tail)
            payloads = []
            for number, adaptation in enumerate(MAKE["make_adaptations"](base).values()):
                payloads.append(base.path.parent / f"{number}.payload")
                payloads[-1].write_bytes(MAKE["payload"](base, adaptation))
            yield f"{kind}, {width}", base.path, payloads


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
