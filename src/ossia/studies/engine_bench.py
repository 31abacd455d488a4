"""The device engine beside what a user would pick instead: one run, one machine, one thread, each in a process of its own.

    us of a contender  =  min and 95th percentile over `repeats` calls, after warming up
    ratio              =  min of the contender / min of the engine

Two tasks, both from a full history: scores of 100 candidates, and the ten best of the whole table. Contenders get the base's own
weights. What they are handed is what they want: a graph for onnxruntime with candidates gathered or TopK inside, exported once
and not timed; `int8` is onnxruntime's dynamic quantization (MatMulInteger). Torch runs its forward over all
positions, as exported models do.

A process of its own makes load time, memory and the thread count honest: memory is what the process grew by between having
imported its libraries and having answered.
"""

import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Int32
from msgspec import Struct

from ossia.adaptation import Adaptation, Base, apply
from ossia.adaptation.prices import CostTable
from ossia.device import engine as native
from ossia.device.engine import engine_ranker
from ossia.device.ranking import rerank
from ossia.device.runtimes import RUNTIMES
from ossia.types import Candidates

CANDIDATES, TOP = 100, 10
LIMIT_S = 900
"""Seconds for one contender; an export of a large table takes a while."""


class Measured(Struct, frozen=True):
    """What one contender did; microseconds, milliseconds, bytes, MiB."""

    name: str
    candidates_us: float
    candidates_p95_us: float
    table_us: float
    table_p95_us: float
    load_ms: float
    file_bytes: int
    memory_mb: float


@dataclass(frozen=True, eq=False)
class Task:
    """What every contender is asked: one full history, 100 candidates spread over the table."""

    base: Base
    history: Int32[np.ndarray, " events"]
    candidates: Int32[np.ndarray, " candidates"]


@dataclass(frozen=True, eq=False)
class Contender:
    """A loaded contender: the two calls that are timed, and the bytes it was loaded from."""

    score: Callable[[], object]
    top: Callable[[], object]
    file_bytes: int


def make_task(base: Base) -> Task:
    """Draw the task of a base; the same for every contender.

    Args:
        base: the base.

    Returns:
        the task.
    """
    rows = len(base.table)
    events, candidates = np.arange(base.manifest.shape["length"]), np.arange(CANDIDATES)
    return Task(base, (events * 977 % rows).astype(np.int32), (candidates * 2_654_435_761 % rows).astype(np.int32))


def runtime_contender(name: str, task: Task) -> Contender:
    """Load one of our own runtimes.

    Args:
        name: in `RUNTIMES`.
        task: what is asked.

    Returns:
        the contender.
    """
    ranker, listed = RUNTIMES[name](task.base, Adaptation()), Candidates(task.candidates)
    everything = Candidates(np.arange(len(task.base.table), dtype=np.int32))
    top: Callable[[], object] = lambda: rerank(ranker, task.history, everything, TOP)  # noqa: E731
    if hasattr(ranker, "top"):
        top = lambda: ranker.top(task.history, None, TOP)  # noqa: E731
    return Contender(lambda: ranker.scores(task.history, listed), top, base_bytes(task.base))


def torch_contender(task: Task) -> Contender:
    """Load torch, eager, in float32.

    Args:
        task: what is asked.

    Returns:
        the contender.
    """
    import torch

    network, inputs = _torch_modules(task)
    score, top = (network[kind] for kind in ("score", "top"))

    def run(module: Any, *arguments: Any) -> object:
        with torch.inference_mode():
            return module(*arguments)

    size = sum(parameter.numel() * 4 for parameter in score.parameters())
    return Contender(lambda: run(score, *inputs), lambda: run(top, inputs[0]), size)


def onnx_contender(task: Task, folder: Path, *, quantized: bool) -> Contender:
    """Load onnxruntime on graphs that `export_graphs` wrote.

    Args:
        task: what is asked.
        folder: where the graphs are.
        quantized: the int8 ones.

    Returns:
        the contender.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    files = [folder / f"{kind}{'.int8' if quantized else ''}.onnx" for kind in ("score", "top")]
    score, top = (ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"]) for file in files)
    history, candidates = task.history.astype(np.int64)[None], task.candidates.astype(np.int64)
    both = {"history": history, "candidates": candidates}
    return Contender(lambda: score.run(None, both), lambda: top.run(None, {"history": history}), files[1].stat().st_size)


def export_graphs(task: Task, folder: Path) -> None:
    """Write the two graphs, in float32 and int8; takes a minute for a large table.

    Args:
        task: what is asked.
        folder: where to.
    """
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    network, inputs = _torch_modules(task)
    names = ["history", "candidates"]
    for kind, arguments in (("score", inputs), ("top", inputs[:1])):
        plain, rounded = folder / f"{kind}.onnx", folder / f"{kind}.int8.onnx"
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            torch.onnx.export(network[kind], arguments, str(plain), input_names=names[: len(arguments)], dynamo=False)
        quantize_dynamic(plain, rounded, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True, weight_type=QuantType.QInt8)


CONTENDERS: Final[dict[str, Callable[[Task, Path], Contender]]] = {
    "engine": lambda task, _: runtime_contender("engine", task),
    "numpy": lambda task, _: runtime_contender("numpy", task),
    "torch eager": lambda task, _: torch_contender(task),
    "onnxruntime fp32": lambda task, folder: onnx_contender(task, folder, quantized=False),
    "onnxruntime int8": lambda task, folder: onnx_contender(task, folder, quantized=True),
}
NEEDS: Final = {"torch eager": "torch", "onnxruntime fp32": "onnxruntime", "onnxruntime int8": "onnxruntime"}
"""What must be installed for which contender, beside what a device needs."""


def measure(name: str, base: Path, folder: Path, repeats: int) -> Measured:
    """Load one contender and time it, in this process.

    Args:
        name: in `CONTENDERS`.
        base: the base's folder.
        folder: where exported graphs are.
        repeats: calls of each task.

    Returns:
        what it did.
    """
    task = make_task(Base.load(base))
    if name in NEEDS:
        __import__(NEEDS[name])
    before, started = _resident_mb(), time.perf_counter()
    contender = CONTENDERS[name](task, folder)
    contender.score()
    load_ms = (time.perf_counter() - started) * 1e3
    score, top = _times(contender.score, repeats), _times(contender.top, max(20, repeats // 4))
    return Measured(name, *score, *top, load_ms, contender.file_bytes, _resident_mb() - before)


def measure_apart(name: str, base: Path, folder: Path, repeats: int) -> Measured:
    """Do the same in a process of its own, on one thread.

    Args:
        name: in `CONTENDERS`.
        base: the base's folder.
        folder: where exported graphs are.
        repeats: calls of each task.

    Returns:
        what it did.
    """
    one = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "ossia.studies.engine_bench", name, str(base), str(folder), str(repeats)]
    done = subprocess.run(command, env=os.environ | one, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def measure_costs(base: Base, device: str, repeats: int = 400) -> CostTable:
    """Measure what a ranking costs with the engine here: the table that latency budgets are read against.

        fixed    =  without any gate − 100 rows
        gate     =  all − all without that gate, scaled so that all gates together cost all − fixed
        row      =  (whole table − 100 candidates) / (rows − 100)
        channel  =  (all − without every second inner unit of a feed-forward) / units left out

    The scaling is because gates are not independent: without its last attention, the block before computes one event only.

    Args:
        base: the base.
        device: what is measured, in words.
        repeats: calls for each figure; the least counts.

    Returns:
        the cost table.

    Raises:
        UsageError: the engine was not compiled.
    """
    task, gates, codes = make_task(base), base.manifest.gates, np.full(base.channels, 3, np.uint8)

    def least(adaptation: Adaptation, *, whole: bool = False) -> float:
        ranker = engine_ranker(base, adaptation)
        listed = Candidates(np.arange(len(base.table), dtype=np.int32) if whole else task.candidates)
        return _times(lambda: ranker.scores(task.history, listed), repeats)[0]

    everything = least(Adaptation())
    nothing = least(Adaptation(gates=np.zeros(len(gates), np.uint8)))
    row = max(0.0, (least(Adaptation(), whole=True) - everything) / max(1, len(base.table) - CANDIDATES))
    alone = {gate: everything - least(Adaptation(gates=np.array([name != gate for name in gates], np.uint8))) for gate in gates}
    share = max(0.0, everything - nothing) / max(sum(max(0.0, us) for us in alone.values()), 1e-9)
    gates_us, channels_us = {gate: share * max(0.0, us) for gate, us in alone.items()}, {}
    for slot in base.manifest.slots:
        if slot.name.endswith(".expand"):
            thinned, span = codes.copy(), base.spans[slot.name]
            thinned[span.start : span.stop : 2] = 0
            gain = share * max(0.0, everything - least(Adaptation(codes=thinned))) / -(-slot.channels // 2)
            channels_us[slot.name] = min(gain, gates_us[str(slot.gate)] / slot.channels)
            gates_us[str(slot.gate)] -= channels_us[slot.name] * slot.channels  # now counted by the channel
    fixed = max(0.0, nothing - row * CANDIDATES)
    return CostTable(device, f"engine {native.path()}", fixed, gates_us, row, channels_us)


def base_bytes(base: Base) -> int:
    """Count what the engine reads of a base.

    Args:
        base: the base.

    Returns:
        bytes of the files below `base/` and of the table without ids and titles.
    """
    files = [*(base.path / "base").iterdir(), *(file for file in (base.path / "table").iterdir() if file.suffix != ".json")]
    return sum(file.stat().st_size for file in files)


def _torch_modules(task: Task) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """Wrap the torch twin twice: scores of candidates, and the best of the table."""
    import torch

    from ossia.backbones.published import from_weights

    torch.set_num_threads(1)
    weights = apply(task.base, Adaptation())

    class Score(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder: Any = from_weights(weights)
            self.table: Any = torch.nn.Parameter(torch.from_numpy(weights.rows.dequantize()), requires_grad=False)

        def forward(self, history: Any, candidates: Any) -> Any:
            return self.table[candidates] @ self.encoder(history)[0, -1]

    class Top(Score):
        def __init__(self) -> None:
            super().__init__()
            self.columns: Any = torch.nn.Parameter(self.table.T.contiguous(), requires_grad=False)

        def forward(self, history: Any) -> Any:  # type: ignore[override]
            return torch.topk(self.encoder(history)[:, -1] @ self.columns, TOP)

    inputs = torch.from_numpy(task.history.astype(np.int64))[None], torch.from_numpy(task.candidates.astype(np.int64))
    return {"score": Score().eval(), "top": Top().eval()}, inputs


def _times(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the least and the 95th percentile, in microseconds."""
    for _ in range(5):
        call()
    took = np.empty(repeats)
    for index in range(repeats):
        started = time.perf_counter_ns()
        call()
        took[index] = time.perf_counter_ns() - started
    return float(took.min() / 1e3), float(np.percentile(took, 95) / 1e3)


def _resident_mb() -> float:
    """Return the memory that this process has now, in MiB; 0 where the system does not tell."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20 if statm.exists() else 0.0


if __name__ == "__main__":
    import msgspec

    print(msgspec.json.encode(measure(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))).decode())
