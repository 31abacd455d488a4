"""Runtimes: one function each, from (base, adaptation) to a ranker for one user on one device.

The ranker of every numpy runtime is the same, and differs in its arithmetic alone (`linear.py`): `numpy` computes in float32,
`numpy_int8` as an int8 engine does. `engine` is that engine (`engine.py`), where it was compiled. Folding and laying out
weights happens once, when the ranker is made.

    state   = forward(history)                    with the rows of the user's own history, at 8 bits
    score_i = state · row_i                       by the table's coarse tail where the device does not hold row i

A candidate's row is its own vector if it came with one, else, in the user's readable history, the row at 8 bits (the device
holds it anyway), else the row as the adaptation leaves it. Without any of these the tail scores it, in a table that has one,
or nothing does: −inf. A history without a single known item says nothing: then every item the table knows scores minus its
popularity rank, held or not, for the order of a table needs no rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Int

from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.apply import Weights, apply
from ossia.adaptation.base import Base
from ossia.device import engine as native
from ossia.device.forward import FORWARDS, Encoder, usable_history
from ossia.device.linear import FLOAT, INTEGER, Arithmetic
from ossia.errors import UsageError
from ossia.quantization.grid import Panel
from ossia.types import Candidates, History, Ranker


@dataclass(frozen=True, eq=False)
class DeviceRanker:
    """Folded weights made ready to rank; calls share nothing but these, so one ranker serves any number of histories.

    Attributes:
        weights: what `apply` gave.
        arithmetic: how a state meets rows.
        encode: a usable history to a user state.
    """

    weights: Weights
    arithmetic: Arithmetic
    encode: Encoder

    def state(self, history: History) -> Float32[np.ndarray, " dim"]:
        """Encode a history.

        Args:
            history: item rows, oldest first; unknown items are skipped, then the newest `length` are read.

        Returns:
            the user state; zeros if nothing in the history is known.
        """
        usable = self._usable(history)
        return self.encode(usable) if len(usable) else np.zeros(self.weights.shape["dim"], np.float32)

    def scores(self, history: History, candidates: Candidates) -> Float32[np.ndarray, " candidates"]:
        """Score candidates for a history.

        Args:
            history: item rows, oldest first; unknown items are skipped, then the newest `length` are read.
            candidates: item rows, with or without vectors.

        Returns:
            one score a candidate, higher is better; −inf for a row that is not here, or a product that is not finite.

        Raises:
            UsageError: vectors that are not one row of `dim` numbers per candidate.
        """
        usable, vectors = self._usable(history), candidates.vectors
        expected = (len(candidates), self.weights.shape["dim"])
        if vectors is not None and vectors.shape != expected:
            raise UsageError(f"candidates: expected vectors of shape {expected}, got {vectors.shape}")
        if not len(usable):
            return self._popularity(candidates.items)
        with np.errstate(over="ignore", invalid="ignore"):  # hostile weights or vectors may overflow: those rank last
            state = self.encode(usable)
            if vectors is not None:
                return _finite(self.arithmetic.match_vectors(state, vectors))
            return _finite(self._match(state, usable, candidates.items))

    def _usable(self, history: History) -> Int[np.ndarray, " usable"]:
        """Keep what this model can read."""
        return usable_history(history, len(self.weights.held), self.weights.shape["length"])

    def _match(
        self, state: Float32[np.ndarray, " dim"], usable: History, items: Int[np.ndarray, " candidates"]
    ) -> Float32[np.ndarray, " candidates"]:
        """Score the rows that are here; the others by the tail, or −inf."""
        weights = self.weights
        own = np.zeros(len(weights.held), bool)
        own[usable] = True
        known = _known(items, len(own))
        here = known & (weights.held | own)[np.where(known, items, 0)]
        there, elsewhere = np.flatnonzero(here), np.flatnonzero(known & ~here)
        scores = np.full(len(items), -np.inf, np.float32)
        if weights.tail is not None and len(elsewhere):
            scores[elsewhere] = weights.tail.scores(state, items[elsewhere])
        scores[there] = self.arithmetic.match(state, self._rows(items[there], own))
        return scores

    def _rows(self, items: Int[np.ndarray, " there"], own: Bool[np.ndarray, " items"]) -> Panel:
        """Gather rows: the user's own items at 8 bits, the others as the adaptation leaves them."""
        rows, whole = self.weights.rows, self.weights.history_rows
        values, scale = rows.values.take(items, axis=0), rows.scale.take(items)
        if rows is not whole:
            mine = np.flatnonzero(own[items])
            values[mine], scale[mine] = whole.values[items[mine]], whole.scale[items[mine]]
        return Panel(values, scale)

    def _popularity(self, items: Int[np.ndarray, " candidates"]) -> Float32[np.ndarray, " candidates"]:
        """Score by minus the popularity rank, 0 for the most popular item."""
        order = self.weights.popularity
        rank = np.empty(len(order), np.float32)
        rank[order] = np.arange(len(order))
        known = _known(items, len(order))
        return np.where(known, -rank[np.where(known, items, 0)], np.float32(-np.inf))


class StateRanker(Ranker, Protocol):
    """A ranker that also shows its user state, of which a profile is made."""

    def state(self, history: History) -> Float32[np.ndarray, " dim"]:
        """Encode a history.

        Args:
            history: item rows, oldest first.

        Returns:
            the user state; zeros if nothing in the history is known.
        """
        ...


Runtime: TypeAlias = Callable[[Base, Adaptation], StateRanker]


def numpy_ranker(base: Base, adaptation: Adaptation) -> DeviceRanker:
    """Rank in float32, with dequantized weights.

    Args:
        base: the base.
        adaptation: one user's terms.

    Returns:
        the ranker.

    Raises:
        UsageError: the base's backbone has no forward here.
    """
    return make_ranker(apply(base, adaptation), FLOAT)


def numpy_int8_ranker(base: Base, adaptation: Adaptation) -> DeviceRanker:
    """Rank with int8 activations and exact integer sums: the reference for an engine.

    Args:
        base: the base.
        adaptation: one user's terms.

    Returns:
        the ranker.

    Raises:
        UsageError: the base's backbone has no forward here.
    """
    return make_ranker(apply(base, adaptation), INTEGER)


def make_ranker(weights: Weights, arithmetic: Arithmetic) -> DeviceRanker:
    """Make folded weights ready to rank.

    Args:
        weights: what `apply` gave.
        arithmetic: how to multiply.

    Returns:
        the ranker.

    Raises:
        UsageError: the weights' backbone has no forward here.
    """
    if weights.backbone not in FORWARDS:
        raise UsageError(f"backbone: expected one of {', '.join(FORWARDS)}, got {weights.backbone!r}")
    return DeviceRanker(weights, arithmetic, FORWARDS[weights.backbone](weights, arithmetic))


NUMPY: Final[dict[str, Callable[[Base, Adaptation], DeviceRanker]]] = {"numpy": numpy_ranker, "numpy_int8": numpy_int8_ranker}
"""The runtimes that are everywhere, and whose numbers `tests/vectors` holds."""

RUNTIMES: Final[dict[str, Runtime]] = {**NUMPY, **({"engine": native.engine_ranker} if native.library() is not None else {})}
"""Every runtime that is here, by the name that the command line and a session use."""


def default_ranker(base: Base, adaptation: Adaptation) -> StateRanker:
    """Rank with the engine, or with numpy where it was not compiled or does not run a base of this size.

    Args:
        base: the base.
        adaptation: one user's terms.

    Returns:
        the ranker.

    Raises:
        UsageError: the base's backbone has no forward here.
    """
    return native.engine_ranker(base, adaptation) if native.runs(base) else numpy_ranker(base, adaptation)


def choose_runtime(name: str) -> Runtime:
    """Look a runtime up by name.

    Args:
        name: such as `numpy`; `default` is the engine, or numpy where it was not compiled.

    Returns:
        the runtime.

    Raises:
        UsageError: there is none of that name here.
    """
    if name == "default":
        return default_ranker
    if name == "engine" and name not in RUNTIMES:
        raise UsageError("runtime: engine was not compiled when ossia was installed (no C compiler?); numpy works everywhere")
    if name not in RUNTIMES:
        raise UsageError(f"runtime: expected one of {', '.join(RUNTIMES)}, got {name!r}")
    return RUNTIMES[name]


def _known(items: Int[np.ndarray, " candidates"], rows: int) -> Bool[np.ndarray, " candidates"]:
    """Tell which items have a row."""
    return (items >= 0) & (items < rows)


def _finite(scores: Float32[np.ndarray, " candidates"]) -> Float32[np.ndarray, " candidates"]:
    """Rank what is not a number last."""
    return np.where(np.isfinite(scores), scores, np.float32(-np.inf))
