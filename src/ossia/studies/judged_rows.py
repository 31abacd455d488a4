"""A row of a study that was judged: what it did to each event, written down, so that an interrupted study goes on."""

import io
from pathlib import Path

import numpy as np
from msgspec import Struct

from ossia.files import write_whole
from ossia.training.frozen import Judged

AGES = (2, 5)
"""How many events old the answers are that studies judge beside fresh ones."""


class Done(Struct, frozen=True):
    """One row that was judged, for who watches."""

    run: str
    point: str
    row: str

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.run}, {self.point}: {self.row}"


def write_row(path: Path, judged: Judged) -> None:
    """Write down what a row did to each event.

    Args:
        path: `ROW.npz`.
        judged: ranks and log-likelihoods.
    """
    out = io.BytesIO()
    np.savez_compressed(out, ranks=judged.ranks.astype(np.int32), log_likelihood=judged.log_likelihood)
    write_whole(path, out.getvalue())


def read_row(path: Path) -> Judged:
    """Read what a row did to each event.

    Args:
        path: `ROW.npz`.

    Returns:
        ranks and log-likelihoods.
    """
    with np.load(path, allow_pickle=False) as found:
        return Judged(found["log_likelihood"], found["ranks"].astype(np.int64))
