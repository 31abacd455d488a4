"""Who is timed beside the device engine, loaded with the base's own weights, and the two tasks that all are asked.

Two tasks, both from a full history: scores of 100 candidates, and the ten best of the whole table. What contenders
are handed is what they want: a graph for onnxruntime with candidates gathered or TopK inside, exported
once and not timed. Its int8 comes in three variants, for which is fastest depends on the processor: dynamic quantization
(MatMulInteger) with signed weights and with unsigned ones, and blocks of 8 bits (MatMulNBits). Torch runs its forward over all
positions, as exported models do; LiteRT's graphs are written by us (`engine_litert.py`) and leave out what no later line reads.

The engine stands there several times: as it picks its arithmetic itself, with every other one that this processor has, with
the later half of its gates off, and with all rows at 4 bits. Folding is timed with a code for each channel.
"""

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Int32

from ossia.adaptation import Adaptation, Base, apply, encode_payload
from ossia.device import engine as native
from ossia.device.ranking import rerank
from ossia.device.runtimes import NUMPY
from ossia.studies.engine_litert import litert_calls
from ossia.types import Candidates

CANDIDATES, TOP = 100, 10


@dataclass(frozen=True, eq=False)
class Task:
    """What every contender is asked: one full history, 100 candidates spread over the table."""

    base: Base
    history: Int32[np.ndarray, " events"]
    candidates: Int32[np.ndarray, " candidates"]


@dataclass(frozen=True, eq=False)
class Contender:
    """A loaded contender: the calls that are timed, and the bytes it was loaded from."""

    score: Callable[[], object]
    top: Callable[[], object]
    file_bytes: int
    fold: Callable[[], object] | None = None


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


def numpy_contender(task: Task) -> Contender:
    """Load the numpy runtime.

    Args:
        task: what is asked.

    Returns:
        the contender.
    """
    ranker, listed = NUMPY["numpy"](task.base, Adaptation()), Candidates(task.candidates)
    everything = Candidates(np.arange(len(task.base.table), dtype=np.int32))
    return Contender(
        lambda: ranker.scores(task.history, listed),
        lambda: rerank(ranker, task.history, everything, TOP),
        base_bytes(task.base),
    )


def engine_contender(task: Task, *, path: str | None = None, half: bool = False, bits: int = 8) -> Contender:
    """Load the engine.

    Args:
        task: what is asked.
        path: the arithmetic; None: the fastest here.
        half: skip the later half of the gates: of two blocks, the second.
        bits: of every row; the history's own rows stay at 8.

    Returns:
        the contender.
    """
    native.path(path)
    gates = np.ones(len(task.base.manifest.gates), np.uint8)
    gates[(len(gates) + 1) // 2 :] = 0
    rows = None if bits == 8 else np.full(len(task.base.table), {2: 1, 4: 2}[bits], np.uint8)
    ranker = native.engine_ranker(task.base, Adaptation(gates=gates if half else None, rows=rows))
    codes = (np.arange(task.base.channels) % 3 + 1).astype(np.uint8)
    payload, listed = encode_payload(task.base, Adaptation(codes=codes), issued=0, expiry=0), Candidates(task.candidates)
    return Contender(
        lambda: ranker.scores(task.history, listed),
        lambda: ranker.top(task.history, None, TOP),
        base_bytes(task.base),
        lambda: native.fold_payload(ranker.model, payload),
    )


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


def onnx_contender(task: Task, folder: Path, variant: str) -> Contender:
    """Load onnxruntime on graphs that `export_graphs` wrote.

    Args:
        task: what is asked.
        folder: where the graphs are.
        variant: in `QUANTIZED`, or `fp32`.

    Returns:
        the contender.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    files = [folder / f"{kind}.{variant}.onnx" for kind in ("score", "top")]
    score, top = (ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"]) for file in files)
    history, candidates = task.history.astype(np.int64)[None], task.candidates.astype(np.int64)
    both = {"history": history, "candidates": candidates}
    return Contender(lambda: score.run(None, both), lambda: top.run(None, {"history": history}), files[1].stat().st_size)


def export_graphs(task: Task, folder: Path) -> None:
    """Write the two graphs, in float32 and in each int8 variant; takes a minute for a large table.

    Args:
        task: what is asked.
        folder: where to.
    """
    import torch

    network, inputs = _torch_modules(task)
    names = ["history", "candidates"]
    for kind, arguments in (("score", inputs), ("top", inputs[:1])):
        plain = folder / f"{kind}.fp32.onnx"
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            torch.onnx.export(network[kind], arguments, str(plain), input_names=names[: len(arguments)], dynamo=False)
        logging.disable(logging.WARNING)  # advice to run a pre-processing that changes nothing here
        for variant, quantize in QUANTIZED.items():
            quantize(plain, folder / f"{kind}.{variant}.onnx")
        logging.disable(logging.NOTSET)


def _quantize_dynamic(plain: Path, rounded: Path, *, signed: bool) -> None:
    """Write a graph with MatMulInteger in the place of its multiplications."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    kind = QuantType.QInt8 if signed else QuantType.QUInt8
    quantize_dynamic(plain, rounded, op_types_to_quantize=["MatMul", "Gemm"], per_channel=signed, weight_type=kind)


def _quantize_blocks(plain: Path, rounded: Path) -> None:
    """Write a graph with MatMulNBits in the place of its multiplications: 8 bits, a scale for 32 weights."""
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    maker = MatMulNBitsQuantizer(onnx.load(plain), bits=8, block_size=32, is_symmetric=True, accuracy_level=4)
    maker.process()
    maker.model.save_model_to_file(str(rounded))


QUANTIZED: Final[dict[str, Callable[[Path, Path], None]]] = {
    "int8": lambda plain, rounded: _quantize_dynamic(plain, rounded, signed=True),
    "uint8": lambda plain, rounded: _quantize_dynamic(plain, rounded, signed=False),
    "blocks": _quantize_blocks,
}
"""The variants of onnxruntime's int8."""

CONTENDERS: Final[dict[str, Callable[[Task, Path], Contender]]] = {
    "engine": lambda task, _: engine_contender(task),
    "engine, half of the gates": lambda task, _: engine_contender(task, half=True),
    "engine, rows of 4 bits": lambda task, _: engine_contender(task, bits=4),
    "engine avx2": lambda task, _: engine_contender(task, path="avx2"),
    "engine neon": lambda task, _: engine_contender(task, path="neon"),
    "engine plain": lambda task, _: engine_contender(task, path="plain"),
    "numpy": lambda task, _: numpy_contender(task),
    "torch eager": lambda task, _: torch_contender(task),
    "onnxruntime fp32": lambda task, folder: onnx_contender(task, folder, "fp32"),
    "onnxruntime int8": lambda task, folder: onnx_contender(task, folder, "int8"),
    "onnxruntime uint8": lambda task, folder: onnx_contender(task, folder, "uint8"),
    "onnxruntime int8 blocks": lambda task, folder: onnx_contender(task, folder, "blocks"),
    "litert fp32": lambda task, folder: Contender(*litert_calls(folder, "float32", task.history, task.candidates)),
    "litert int8": lambda task, folder: Contender(*litert_calls(folder, "int8", task.history, task.candidates)),
}

MODULES: Final = {"torch": "torch", "onnxruntime": "onnxruntime", "litert": "ai_edge_litert.interpreter"}
"""What a contender imports before it is timed, by the first word of its name."""


def left_out(name: str) -> str | None:
    """Tell why a contender can't run here.

    Args:
        name: in `CONTENDERS`.

    Returns:
        the reason; None if it can.
    """
    if name.startswith("engine") and native.library() is None:
        return "the engine was not compiled"
    path = name.removeprefix("engine ")
    if name.startswith("engine ") and (path == native.path() or not native.has_path(path)):
        return "that is the engine's own choice here" if path == native.path() else f"this processor or build has no {path}"
    module = MODULES.get(name.split()[0], "").split(".")[0]
    return f"{module} is not installed" if module and importlib.util.find_spec(module) is None else None


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
