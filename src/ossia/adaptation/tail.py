"""The coarse tail: a few bytes for every row of the item table, shipped once, so that a device that holds some rows ranks all.

    E_i R⁻ᵀ ≈ (c_1[a_i1], …, c_m[a_im])      m parts of the turned vector, up to 256 codewords each (product codes)
    score   = Σ_j (s R)_j · c_j[a_ij]        a device adds m entries of m tables of 256 numbers

A row that is held scores by itself, every other one by the tail: a personal head over a coarse body for everybody. Codes are
bytes, codewords and R float16; all else is float32. Who fits them is `ossia.training.product_codes`, or another library: any R
and codewords of these shapes will do. Rows that are added later get codes, never new codewords, so old bytes stay.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float16, Float32, Int, UInt8

WORDS = 256
"""The most codewords that a part can have: a code is a byte."""


@dataclass(frozen=True, eq=False)
class Tail:
    """A table's coarse version.

    Attributes:
        codes: the codeword of each part, for each row.
        codewords: of each part; parts times their width is the width of a row.
        rotation: R: what a user state is multiplied by before it meets codewords.
    """

    codes: UInt8[np.ndarray, "rows parts"]
    codewords: Float16[np.ndarray, "parts words width"]
    rotation: Float16[np.ndarray, "dim dim"]

    def __len__(self) -> int:
        """Return how many rows it covers."""
        return len(self.codes)

    @property
    def nbytes(self) -> int:
        """Count codes, codewords and rotation."""
        return self.codes.nbytes + self.codewords.nbytes + self.rotation.nbytes

    def scores(self, state: Float32[np.ndarray, " dim"], items: Int[np.ndarray, " items"]) -> Float32[np.ndarray, " items"]:
        """Score rows coarsely: Σ_j (s R)_j · c_j[a_ij], added part by part, so that equal codes tie exactly.

        Args:
            state: the user state.
            items: which rows.

        Returns:
            one score a row.

        Example:
            >>> codewords = np.array([[[1.0], [2.0]], [[10.0], [20.0]]], np.float16)
            >>> tail = Tail(np.array([[0, 1], [1, 0]], np.uint8), codewords, np.eye(2, dtype=np.float16))
            >>> tail.scores(np.array([1.0, 0.5], np.float32), np.array([0, 1]))
            array([11.,  7.], dtype=float32)
        """
        rotation, codewords = self._floats
        turned = (state @ rotation).reshape(len(codewords), 1, -1)
        products = (codewords * turned).sum(axis=2)
        total = np.zeros(len(items), np.float32)
        for part, codes in zip(products, self.codes[items].T, strict=True):
            total += part[codes]
        return total

    def scores_of_all(self, states: Float32[np.ndarray, "users dim"]) -> Float32[np.ndarray, "users rows"]:
        """Score every row for many users at once, as `scores` does but for the last digits.

        Args:
            states: user states.

        Returns:
            the scores.
        """
        rotation, codewords = self._floats
        rows = np.hstack([book[codes] for book, codes in zip(codewords, self.codes.T, strict=True)])
        products: Float32[np.ndarray, "users rows"] = (states @ rotation) @ rows.T
        return products

    def extend(self, vectors: Float32[np.ndarray, "new dim"]) -> "Tail":
        """Give rows that were added the codewords that are nearest to them.

        Args:
            vectors: the new rows.

        Returns:
            the tail of all rows, the old ones first and as they were.
        """
        rotation, codewords = self._floats
        turned = np.linalg.solve(rotation.astype(np.float64), vectors.T.astype(np.float64)).T
        fresh = [_nearest(part, book) for part, book in zip(np.split(turned, len(codewords), axis=1), codewords, strict=True)]
        return Tail(np.vstack([self.codes, np.stack(fresh, axis=1)]), self.codewords, self.rotation)

    @cached_property
    def _floats(self) -> tuple[Float32[np.ndarray, "dim dim"], Float32[np.ndarray, "parts words width"]]:
        """Return rotation and codewords in float32."""
        return self.rotation.astype(np.float32), self.codewords.astype(np.float32)


def tail_tensors(tail: Tail) -> dict[str, np.ndarray]:
    """Lay a tail out as its file has it: the codewords of all parts in one matrix.

    Args:
        tail: the tail.

    Returns:
        tensors by name.
    """
    return {"codes": tail.codes, "codewords": tail.codewords.reshape(-1, tail.codewords.shape[2]), "rotation": tail.rotation}


def read_tail(tensors: Mapping[str, np.ndarray], shape: tuple[int, int, int, int]) -> Tail:
    """Hold the tensors of a tail to the manifest of its table.

    Args:
        tensors: `codes`, `codewords` and `rotation`, as they were read.
        shape: rows and width of the table, parts and words of the tail, as the manifest says.

    Returns:
        the tail.

    Raises:
        ValueError: what does not fit.
    """
    rows, dim, parts, words = shape
    if not (1 <= words <= WORDS and parts >= 1 and dim % parts == 0):
        raise ValueError(f"a tail of 1 to {WORDS} words and of parts that divide {dim}, found {words} and {parts}")
    expected: dict[str, tuple[np.dtype, tuple[int, ...]]] = {
        "codes": (np.dtype(np.uint8), (rows, parts)),
        "codewords": (np.dtype(np.float16), (parts * words, dim // parts)),
        "rotation": (np.dtype(np.float16), (dim, dim)),
    }
    found = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    if found != expected:
        raise ValueError(f"a tail of {_told(expected)}, found {_told(found)}")
    if tensors["codes"].max(initial=0) >= words:
        raise ValueError(f"codes below {words}, found {tensors['codes'].max()}")
    if not (np.isfinite(tensors["codewords"]).all() and np.isfinite(tensors["rotation"]).all()):
        raise ValueError("a tail of finite numbers, found others")
    return Tail(tensors["codes"], tensors["codewords"].reshape(parts, words, -1), tensors["rotation"])


def _told(tensors: Mapping[str, tuple[np.dtype, tuple[int, ...]]]) -> str:
    """Say names, types and shapes in a line."""
    return ", ".join(f"{name} {dtype} {' × '.join(map(str, shape))}" for name, (dtype, shape) in sorted(tensors.items()))


def _nearest(points: np.ndarray, words: np.ndarray) -> UInt8[np.ndarray, " points"]:
    """Find each point's nearest codeword: argmin ‖c‖² − 2 p · c."""
    half = np.square(words, dtype=np.float64).sum(axis=1) / 2
    nearest: UInt8[np.ndarray, " points"] = (half - points @ words.T).argmin(axis=1).astype(np.uint8)
    return nearest
