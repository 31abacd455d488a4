"""LiteRT as a contender of the engine: the graphs of `export/litert_*.py` without what a template adds, at their fastest.

The history is full, every candidate is an item, and all rows are at 8 bits: so there is nothing to mask, to check or to
fold, as with the other contenders. The last block computes the newest position alone. Item rows stay in bytes until they are
used; the ten best come from one layer over the whole table and TOPK_V2. Two forms, both from int8 files: `float32` dequantizes
the layers' weights once, when it is opened; `int8` multiplies integers, and rounds activations as they come.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Int32

from ossia.adaptation import Adaptation, Base, apply
from ossia.files import write_whole

FORMS: Final = {"float32": False, "int8": True}
"""Each form, and whether its layers multiply integers."""


def export_litert(base: Base, candidates: int, top: int, folder: Path) -> None:
    """Write the graphs, two of each form.

    Args:
        base: the base.
        candidates: how many are scored.
        top: how many of the table are found.
        folder: where to.
    """
    for form, int8 in FORMS.items():
        write_whole(folder / f"score.{form}.tflite", _graph(base, int8=int8, candidates=candidates))
        write_whole(folder / f"top.{form}.tflite", _graph(base, int8=int8, top=top))


def litert_calls(
    folder: Path, form: str, history: Int32[np.ndarray, " events"], candidates: Int32[np.ndarray, " candidates"]
) -> tuple[Callable[[], object], Callable[[], object], int]:
    """Open the graphs of one form, on one thread, with XNNPACK, which is LiteRT's default.

    Args:
        folder: where they are.
        form: in `FORMS`.
        history: what is read.
        candidates: what is scored.

    Returns:
        a call that scores the candidates, one that finds the best of the table, and the bytes of the second's file.
    """
    top = folder / f"top.{form}.tflite"
    return _call(folder / f"score.{form}.tflite", history, candidates), _call(top, history), top.stat().st_size


def _call(file: Path, *arrays: Int32[np.ndarray, " _"]) -> Callable[[], object]:
    """Open a graph; give the call that hands it arrays and takes what it answers."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_path=str(file), num_threads=1)
    interpreter.allocate_tensors()
    inputs = [each["index"] for each in interpreter.get_input_details()]
    outputs = [each["index"] for each in interpreter.get_output_details()]

    def call() -> object:
        for index, array in zip(inputs, arrays, strict=True):
            interpreter.set_tensor(index, array)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return call


def _graph(base: Base, *, int8: bool, candidates: int = 0, top: int = 0) -> bytes:
    """Build a graph that scores so many candidates; if none are asked for, one that finds so many of the table."""
    from ossia.export import litert_catalog as catalog
    from ossia.export import litert_layers as layers
    from ossia.export.litert_flatbuffer import pack
    from ossia.export.litert_graph import Graph
    from ossia.export.litert_template import encode

    graph, weights, whole = Graph(int8=int8), apply(base, Adaptation()), base.table.whole
    table = catalog.put_table(graph, base)
    history = graph.tensor("history", [weights.shape["length"]], "int32")
    state = encode(graph, weights, layers.Events(catalog.take_rows(graph, table, history), None))
    if candidates:
        listed = graph.tensor("candidates", [candidates], "int32")
        return pack(graph, [history, listed], {"scores": catalog.match_whole(graph, table, state, listed)}, "score")
    panel = layers.put_panel(graph, "items.panel", whole.values, whole.scale)
    best, items = graph.largest(layers.apply_layer(graph, layers.Layer(panel, None), state), top)
    return pack(graph, [history], {"scores": best, "items": items}, "top")
