"""A template of a base for stock runtimes: a graph without weights, and the weights beside it.

    TEMPLATE/model.onnx             history, candidates (int64, any number of each) → scores, state (float32)
    TEMPLATE/weights.safetensors    every weight by name; the graph's external data lies in this very file

Three tensors are one user's, and in the template those of the base as it is: `codes`, `gates`, `rows` (`layers.py`). A
payload with a delta replaces `SLOT.values` and `SLOT.scales` of its slots as well. To give a user the own version, a runtime
opens the same graph with other tensors under these names; nothing is exported anew. onnxruntime checks names, types and
shapes, and puts them in before it optimizes: so a fold, and what gates skip, costs nothing per call.

Why external data and not inputs or adapters: docs/decisions/0012.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from jaxtyping import Shaped
from onnx import ModelProto, StringStringEntryProto, TensorProto, helper
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.apply import add_delta
from ossia.adaptation.base import Base
from ossia.errors import ArtifactError, UsageError
from ossia.export.caser import caser
from ossia.export.catalog import scores, usable_events
from ossia.export.graph import IR_VERSION, OPSET, Graph
from ossia.export.gru4rec import gru4rec
from ossia.export.sasrec import sasrec
from ossia.files import folder_whole, write_whole

MODEL: Final = "model.onnx"
WEIGHTS: Final = "weights.safetensors"

MADE_OF: Final = "made of"

Tensors: TypeAlias = dict[str, Shaped[np.ndarray, "..."]]

ENCODERS: Final[dict[str, Callable[[Graph, Base, str], str]]] = {"sasrec": sasrec, "caser": caser, "gru4rec": gru4rec}
"""Every backbone that can be exported, by the name in its base's manifest."""


def write_template(base: Base, path: Path) -> None:
    """Write a base as a template, as a folder that appears whole or not at all.

    Args:
        base: the base.
        path: the folder, new or empty.

    Raises:
        UsageError: the folder is not empty, or the base's backbone can't be exported.
    """
    if base.manifest.backbone not in ENCODERS:
        raise UsageError(f"backbone: expected one of {', '.join(ENCODERS)}, got {base.manifest.backbone!r}")
    tensors = {**_shared(base), **own_tensors(base, Adaptation())}
    weights = save(tensors, _made_of(base))
    with folder_whole(path) as fresh:
        write_whole(fresh / WEIGHTS, weights)
        write_whole(fresh / MODEL, _model(base, weights).SerializeToString())


def write_own(base: Base, adaptation: Adaptation, template: Path, path: Path) -> None:
    """Write what one user's version of a template replaces, as one safetensors file.

    Args:
        base: the base that the template was made of.
        adaptation: one user's terms.
        template: the template's folder.
        path: the file to write.

    Raises:
        ArtifactError: the template is missing, or was made of another base or table.
    """
    try:
        with safe_open(template / WEIGHTS, "numpy") as file:
            found = (file.metadata() or {}).get(MADE_OF)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{template / WEIGHTS}: expected a template's weights, got: {error}") from error
    expected = _made_of(base)
    if found != expected[MADE_OF]:
        raise ArtifactError(f"{template}: expected a template made of {expected[MADE_OF]}, got one made of {found}")
    write_whole(path, save(own_tensors(base, adaptation), expected))


def own_tensors(base: Base, adaptation: Adaptation) -> Tensors:
    """Say what an adaptation puts in the place of a template's tensors.

    Args:
        base: the base that the template was made of.
        adaptation: one user's terms; `Adaptation()` gives what the template holds already.

    Returns:
        `codes`, `gates` and `rows`, always; `SLOT.values` and `SLOT.scales` of each slot that has a delta.

    Example:
        `own_tensors(base, Adaptation())["codes"]` is a 3 for each channel.
    """
    whole = {"codes": base.channels, "gates": len(base.manifest.gates), "rows": len(base.table)}
    own = {"codes": adaptation.codes, "gates": adaptation.gates, "rows": adaptation.rows}
    tensors: Tensors = {}
    for name, size in whole.items():
        given = own[name]
        default = np.full(size, 1 if name == "gates" else 3, np.uint8)
        # codes of rows may be for an older, shorter table: they say nothing of the new rows
        tensors[name] = default if given is None else np.pad(given, (0, size - len(given)))
    for delta in adaptation.deltas:
        grid = add_delta(base, delta.slot, delta)
        tensors |= {f"{delta.slot}.values": grid.q, f"{delta.slot}.scales": grid.scales}
    return tensors


def _shared(base: Base) -> Tensors:
    """Collect what is the same for everybody."""
    popularity = np.empty(len(base.table), np.float32)
    popularity[base.table.popularity] = -np.arange(len(base.table), dtype=np.float32)
    tensors = {"items.values": base.table.grid.q, "items.scales": base.table.grid.scales, "items.popularity": popularity}
    if (tail := base.table.tail) is not None:
        floats = {"tail.codewords": tail.codewords.astype(np.float32), "tail.rotation": tail.rotation.astype(np.float32)}
        tensors |= {"tail.codes": tail.codes, **floats}
    for name, grid in base.grids.items():
        tensors |= {f"{name}.values": grid.q, f"{name}.scales": grid.scales}
    return tensors | dict(base.floats)


def _model(base: Base, weights: bytes) -> ModelProto:
    """Build the graph, and point it to the bytes of the weights."""
    graph = Graph()
    events, there = usable_events(graph, base)
    state = ENCODERS[base.manifest.backbone](graph, base, events)
    graph.give("state", graph.reshape(graph.op("Where", there, state, graph.number(0.0)), -1))
    graph.give("scores", scores(graph, base, state, events, there))
    ends = [("history", TensorProto.INT64, "events"), ("candidates", TensorProto.INT64, "candidates")]
    inputs = [helper.make_tensor_value_info(name, kind, [axis]) for name, kind, axis in ends]
    shapes = {"scores": "candidates", "state": base.manifest.shape["dim"]}
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [axis]) for name, axis in shapes.items()]
    whole = helper.make_graph(
        graph.nodes, base.manifest.backbone, inputs, outputs, [*graph.constants.values(), *_external(weights)]
    )
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(whole, opset_imports=opset, ir_version=IR_VERSION, producer_name="ossia")
    helper.set_model_props(model, _made_of(base))
    return model


def _external(weights: bytes) -> list[TensorProto]:
    """Describe each tensor of a safetensors file as an ONNX tensor whose bytes lie in that file."""
    start = 8 + int.from_bytes(weights[:8], "little")
    header = json.loads(weights[8:start])
    header.pop("__metadata__")
    return [_placed(name, entry, start) for name, entry in header.items()]


def _placed(name: str, entry: Mapping[str, Any], start: int) -> TensorProto:
    """Describe one tensor by its entry in the header."""
    kinds = {"F32": TensorProto.FLOAT, "I8": TensorProto.INT8, "U8": TensorProto.UINT8}
    first, end = entry["data_offsets"]
    place = {"location": WEIGHTS, "offset": start + first, "length": end - first}
    return TensorProto(
        name=name,
        data_type=kinds[entry["dtype"]],
        dims=entry["shape"],
        data_location=TensorProto.EXTERNAL,
        external_data=[StringStringEntryProto(key=key, value=str(value)) for key, value in place.items()],
    )


def _made_of(base: Base) -> dict[str, str]:
    """Name what a template was made of, in one entry: safetensors writes several in any order, and bytes are to be the same."""
    return {MADE_OF: f"base {base.id.hex()}, table {base.table.id.hex()}"}
