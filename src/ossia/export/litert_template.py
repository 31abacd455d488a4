"""A template of a base for LiteRT: one .tflite file, in which a payload replaces bytes.

    history      int32, `length`             items, oldest first, the newest last; −1 above where there are fewer
    candidates   int32, resized to any       items
    scores       float32, one a candidate
    state        float32, dim

What is one user's are bytes in fixed places: each slot's folded panel, its scales and its bias, and a code for each item row.
`write_own` folds a payload and writes these into a copy of the template: no byte is moved, nothing is exported anew.

The fold is not in the graph, as it is in ONNX's (`template.py`): LiteRT computes what depends on no input again in
every call, but for dequantized weights. What holds a folded panel is an ordinary layer, with ordinary speed.

Two templates of one base: in float32, equal to the numpy runtime but for the last digits; and with layers in integers, as
LiteRT's users run them, whose activations are rounded by LiteRT's rule and not by ours.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from jaxtyping import Shaped

from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.apply import Weights, apply
from ossia.adaptation.base import Base
from ossia.errors import ArtifactError, UsageError
from ossia.export.litert_caser import caser
from ossia.export.litert_catalog import NO_SCORE, known, match, popularity, put_table, take_rows
from ossia.export.litert_flatbuffer import describe, pack, places
from ossia.export.litert_graph import Graph, Tensor
from ossia.export.litert_gru4rec import gru4rec
from ossia.export.litert_layers import Events, panel
from ossia.export.litert_sasrec import sasrec
from ossia.files import write_whole

CANDIDATES: Final = 100
"""How many there are until the input is resized."""

Tensors: TypeAlias = dict[str, Shaped[np.ndarray, "..."]]

Encoder: TypeAlias = Callable[[Graph, Weights, Events], Tensor]

ENCODERS: Final[dict[str, Encoder]] = {"sasrec": sasrec, "caser": caser, "gru4rec": gru4rec}
"""Every backbone that can be exported, by the name in its base's manifest."""


def write_template(base: Base, path: Path, *, int8: bool = False) -> None:
    """Write a base as a template.

    Args:
        base: the base.
        path: the file.
        int8: whether layers multiply integers.

    Raises:
        UsageError: the base's backbone can't be exported, or the path is a folder.
    """
    if path.is_dir():
        raise UsageError(f"{path}: expected a file's name for a LiteRT template, got a folder")
    write_whole(path, _template(base, int8=int8))


def write_own(base: Base, adaptation: Adaptation, template: Path, path: Path) -> None:
    """Write one user's version of a template: a file of the same length, with other bytes in the user's places.

    Args:
        base: the base that the template was made of.
        adaptation: one user's terms.
        template: the template's file.
        path: the file to write.

    Raises:
        ArtifactError: the template is missing, or was made of another base or table.
    """
    try:
        data = bytearray(template.read_bytes())
    except OSError as error:
        raise ArtifactError(f"{template}: expected a LiteRT template, got: {error}") from error
    found, expected = describe(data), _made_of(base)
    if found != expected:
        raise ArtifactError(f"{template}: expected a LiteRT template of {expected}, got {found or 'something else'}")
    own = own_tensors(base, adaptation)
    try:
        for name, place in places(data):
            if name in own:
                place[:] = own[name].reshape(-1).view(place.dtype)
    except ValueError as error:
        raise ArtifactError(f"{template}: expected a whole LiteRT template, got: {error}") from error
    write_whole(path, bytes(data))


def own_tensors(base: Base, adaptation: Adaptation) -> Tensors:
    """Say what an adaptation puts in the place of a template's tensors.

    Args:
        base: the base that the template was made of.
        adaptation: one user's terms; `Adaptation()` gives what the template holds already.

    Returns:
        `SLOT.values`, `SLOT.values.scales` and `SLOT.bias` of each slot, zeros for one that a gate skips; and `rows`.
    """
    weights = apply(base, adaptation)
    rows = np.full(len(base.table), 3, np.uint8) if adaptation.rows is None else adaptation.rows
    # codes of rows may be for an older, shorter table: they say nothing of the new rows
    own: Tensors = {"rows": np.pad(rows, (0, len(base.table) - len(rows))).astype(np.int8)}
    for slot in base.manifest.slots:
        runs = slot.gate is None or weights.gates[slot.gate]
        values, own[f"{slot.name}.values.scales"] = panel(weights, slot.name)
        own[f"{slot.name}.values"] = values if runs else np.zeros_like(values)
        bias = weights.floats[f"{slot.name}.bias"]
        own[f"{slot.name}.bias"] = bias if runs else np.zeros_like(bias)
    return own


def _template(base: Base, *, int8: bool) -> bytes:
    """Build the graph, and write it down."""
    graph, weights = Graph(int8=int8), apply(base, Adaptation())
    table, length = put_table(graph, base), weights.shape["length"]
    history = graph.tensor("history", [length], "int32")
    candidates = graph.tensor("candidates", [CANDIDATES], "int32", resized=True)
    events, there = known(graph, table, history)
    some = graph.part(there, length - 1, length)  # the newest event stands last: it is there if any is
    state = encode(graph, weights, Events(take_rows(graph, table, events), there))
    items, listed = known(graph, table, candidates)
    score = graph.each("SELECT_V2", some, match(graph, table, state, items, history), popularity(graph, base, items))
    outputs = {
        "scores": graph.each("SELECT_V2", listed, score, graph.constant(NO_SCORE)),
        "state": graph.each("SELECT_V2", some, graph.reshape(state, -1), graph.constant(np.float32(0))),
    }
    return pack(graph, [history, candidates], outputs, _made_of(base))


def encode(graph: Graph, weights: Weights, events: Events) -> Tensor:
    """Encode events with whichever backbone the weights are of.

    Args:
        graph: where to compute it.
        weights: folded weights.
        events: what is read.

    Returns:
        the user state, 1 × dim.

    Raises:
        UsageError: this backbone can't be exported.
    """
    if weights.backbone not in ENCODERS:
        raise UsageError(f"backbone: expected one of {', '.join(ENCODERS)} for LiteRT, got {weights.backbone!r}")
    return ENCODERS[weights.backbone](graph, weights, events)


def _made_of(base: Base) -> str:
    """Name what a template was made of."""
    return f"base {base.id.hex()}, table {base.table.id.hex()}"
