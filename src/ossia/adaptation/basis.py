"""The basis: directions that a base carries for each slot, so that a delta can be a few coordinates (DCCL, arXiv 2104.06624).

    Δ = Σ_k θ_k left[:, k] · right[k, :]              θ arrives, left and right are there already

A rank-1 delta of a 64 × 64 matrix is 256 bytes on the wire; eight coordinates are 16. The directions that `singular_basis`
takes are those in which the slot itself is strongest: W = U Σ Vᵀ, left = U Σ^½, right = Σ^½ Vᵀ, so that a coordinate of −1
takes a direction out and 1 doubles it.

Differences from DCCL: its basis is learned and its θ are too, on the device; here θ is generated in the cloud. A learned basis
would travel in the same place.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float16, Float32


@dataclass(frozen=True, eq=False)
class Basis:
    """The directions of one slot.

    Attributes:
        left: what each adds to.
        right: what each reads.
    """

    left: Float16[np.ndarray, "channels rank"]
    right: Float16[np.ndarray, "rank inputs"]


def singular_basis(weight: Float32[np.ndarray, "channels inputs"], rank: int) -> Basis:
    """Take a slot's strongest directions.

    Args:
        weight: the slot's matrix.
        rank: how many; where the matrix has fewer, the others are zeros.

    Returns:
        the basis.

    Example:
        >>> basis = singular_basis(np.diag([4.0, 1.0]).astype(np.float32), 1)
        >>> basis.left @ basis.right
        array([[4., 0.],
               [0., 0.]], dtype=float16)
    """
    u, strength, v = np.linalg.svd(weight.astype(np.float64), full_matrices=False)
    left, right = u * np.sqrt(strength), np.sqrt(strength)[:, None] * v
    missing = max(0, rank - len(strength))
    return Basis(
        np.pad(left[:, :rank], ((0, 0), (0, missing))).astype(np.float16),
        np.pad(right[:rank], ((0, missing), (0, 0))).astype(np.float16),
    )
