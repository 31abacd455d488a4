"""Where a LiteRT graph meets the item table: which events it reads, and how a state becomes scores.

The rules are those of `device/forward.py` and `device/runtimes.py`, but for one: a graph of fixed lengths can't skip an
unknown item and close the gap, so whoever fills the input `history` does. Where it is shorter than `length`, −1 stands above.

    score  =  (Σ state · t) · s_b                    by the table's tail, or −∞, for code 0; −∞ for what is no item
    t      =  ⌊u / step⌋ · step + middle             u = q + 128; b by the item's code in `rows`, 8 for an item of the history
    score  =  − popularity rank                      where the history is empty

Rows are gathered as bytes and folded after that; there is no copy of the table in float32.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from ossia.adaptation.base import Base
from ossia.adaptation.tail import Tail
from ossia.export.litert_graph import Graph, Tensor

WHOLE: Final = np.int32(3)
"""The code of a row at 8 bits."""

STEPS: Final = np.array([1, 64, 16, 1], np.float32)
CELLS: Final = 1 / STEPS
MIDDLES: Final = np.array([0, 32, 8, 0], np.float32) - np.float32(128)
"""By code: how wide a slice's cell is in units of the master, how many are in a unit, and where u = 0 lands. All is exact."""

NO_SCORE: Final = np.float32(-np.inf)


@dataclass(frozen=True)
class Table:
    """The item table in a graph, n items.

    Attributes:
        values: n × dim, the int8 masters.
        scales: 3 n: what a unit is worth at 2 bits for each item, then at 4, then at 8.
        tail: what scores an item of code 0, if there is one.
    """

    values: Tensor
    scales: Tensor
    tail: Tail | None

    @property
    def items(self) -> int:
        """Count the items."""
        return self.values.shape[0]


def put_table(graph: Graph, base: Base) -> Table:
    """Put the item table into a graph.

    Args:
        graph: where to.
        base: whose table.

    Returns:
        the table.
    """
    grid = base.table.grid
    return Table(graph.weight("items.values", grid.q), graph.weight("items.scales", grid.scales.reshape(-1)), base.table.tail)


def known(graph: Graph, table: Table, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Tell items from numbers that are none.

    Args:
        graph: where to compute it.
        table: the item table.
        numbers: of int32.

    Returns:
        each item, and some item for any other number; and a bool each, whether it is one.
    """
    at_least_0 = graph.each("MAXIMUM", numbers, graph.constant(np.int32(0)))
    items = graph.each("MINIMUM", at_least_0, graph.constant(np.int32(table.items - 1)))
    return items, graph.each("EQUAL", items, numbers, dtype="bool")


def take_rows(graph: Graph, table: Table, items: Tensor) -> Tensor:
    """Dequantize rows at 8 bits.

    Args:
        graph: where to compute it.
        table: the item table.
        items: the items.

    Returns:
        a row for each.
    """
    return graph.each("MUL", _masters(graph, table, items), graph.reshape(_whole_scales(graph, table, items), -1, 1))


def match_whole(graph: Graph, table: Table, state: Tensor, items: Tensor) -> Tensor:
    """Multiply a state with rows at 8 bits: (Σ state · q) · s8.

    Args:
        graph: where to compute it.
        table: the item table.
        state: 1 × dim.
        items: the items.

    Returns:
        a score for each.
    """
    return graph.each("MUL", _sums(graph, _masters(graph, table, items), state), _whole_scales(graph, table, items))


def popularity(graph: Graph, base: Base, items: Tensor) -> Tensor:
    """Score items by popularity alone: minus the rank.

    Args:
        graph: where to compute it.
        base: says which items are popular.
        items: the items.

    Returns:
        a score for each.
    """
    ranks = np.empty(len(base.table), np.float32)
    ranks[base.table.popularity] = -np.arange(len(base.table), dtype=np.float32)
    return graph.gather(graph.weight("items.popularity", ranks), items)


def match(graph: Graph, table: Table, state: Tensor, items: Tensor, history: Tensor) -> Tensor:
    """Multiply a state with rows at the widths of `rows`, those of the history at 8 bits: (Σ state · t) · s_b, or by the tail.

    Args:
        graph: where to compute it.
        table: the item table.
        state: 1 × dim.
        items: the items.
        history: items, and numbers that are none.

    Returns:
        a score for each.
    """
    code = _codes(graph, table, items, history)
    start = graph.gather(graph.constant(np.array([0, 0, 1, 2], np.int32) * np.int32(table.items)), code)
    scale = graph.gather(table.scales, graph.each("ADD", items, start))
    matched = graph.each("MUL", _sums(graph, _slices(graph, table, items, code), state), scale)
    held = graph.each("GREATER", code, graph.constant(np.int32(0)), dtype="bool")
    coarse = graph.constant(NO_SCORE) if table.tail is None else _coarse(graph, table.tail, state, items)
    return graph.each("SELECT_V2", held, matched, coarse)


def _coarse(graph: Graph, tail: Tail, state: Tensor, items: Tensor) -> Tensor:
    """Score items by the tail: Σ_j (s R)_j · c_j[a_ij]."""
    parts, words, width = tail.codewords.shape
    rotation = graph.weight("tail.rotation", tail.rotation.T.astype(np.float32))
    codewords = graph.weight("tail.codewords", tail.codewords.astype(np.float32))
    turned = graph.op("FULLY_CONNECTED", state, rotation, None, shape=state.shape, version=6)
    products = graph.reshape(graph.matmul(codewords, graph.reshape(turned, parts, width, 1)), -1)
    codes = graph.cast(graph.gather(graph.weight("tail.codes", tail.codes), items), "int32")
    starts = graph.constant(np.arange(0, parts * words, words, dtype=np.int32))
    return graph.reduce("SUM", graph.gather(products, graph.each("ADD", codes, starts)), 1)


def _codes(graph: Graph, table: Table, items: Tensor, history: Tensor) -> Tensor:
    """Look up each item's code; that of an item of the history is `WHOLE`."""
    codes = graph.gather(graph.weight("rows", np.full(table.items, WHOLE, np.int8)), items)
    equal = graph.each("EQUAL", graph.reshape(items, -1, 1), history, dtype="bool")
    own = graph.reduce("REDUCE_ANY", equal, 1)
    return graph.each("SELECT_V2", own, graph.constant(WHOLE), graph.cast(codes, "int32"))


def _slices(graph: Graph, table: Table, items: Tensor, code: Tensor) -> Tensor:
    """Slice the items' masters by code: t = ⌊u / step⌋ · step + middle."""
    cells, step, middle = (
        graph.reshape(graph.gather(graph.constant(by_code), code), -1, 1) for by_code in (CELLS, STEPS, MIDDLES)
    )
    unsigned = graph.each("ADD", _masters(graph, table, items), graph.constant(np.float32(128)))
    lowest = graph.each("MUL", graph.each("FLOOR", graph.each("MUL", unsigned, cells)), step)
    return graph.each("ADD", lowest, middle)


def _masters(graph: Graph, table: Table, items: Tensor) -> Tensor:
    """Gather masters, and widen them."""
    return graph.cast(graph.gather(table.values, items), "float32")


def _whole_scales(graph: Graph, table: Table, items: Tensor) -> Tensor:
    """Gather what a unit is worth at 8 bits."""
    return graph.gather(table.scales, graph.each("ADD", items, graph.constant(np.int32(2 * table.items))))


def _sums(graph: Graph, rows: Tensor, state: Tensor) -> Tensor:
    """Sum the products of each row with the state."""
    products = graph.op("FULLY_CONNECTED", rows, state, None, shape=(rows.shape[0], 1), version=6)
    return graph.reshape(products, -1)
