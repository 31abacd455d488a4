"""One run in the study of the personal catalog: what its holdings are made of, and what a row costs. No test event has a say.

    β           weight of log popularity, as `row_prior` chooses it
    tails       product codes of 4, 8 or 16 bytes a row, that have learned to order rows, and the same by k-means alone
    groups      of rows, by k-means
    δ           where a profile should move for the items that come later

δ is learned on *future* targets: where a profile two events old should have been for the item that comes now,
−∂ loss / ∂ profile, averaged by the ridge on random features of the profile (`ossia.training.ridge_fit`) over the
validation events of four users in five; its length is the one at which most targets of the fifth user's are held.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ossia.adaptation import Base
from ossia.adaptation.prices import ROW_BYTES, fixed_table
from ossia.adaptation.tail import Tail
from ossia.data import Cases, Dataset
from ossia.personalizers.ridge import Cosines
from ossia.quantization.grid import fold, plane_bytes
from ossia.studies.chord_material import Material
from ossia.studies.judged_rows import AGES
from ossia.training import load_run
from ossia.training.events import Events, earlier, take_cases
from ossia.training.frozen import FrozenBase
from ossia.training.product_codes import fit_product_codes, k_means, learn_order
from ossia.training.ridge_fit import fit_ridge
from ossia.training.row_prior import choose_beta
from ossia.types import WIDTHS

STALE = (0, *AGES)
"""Events ago when rows were chosen."""
TAILS = (4, 8, 16)
BY_MEANS = " by k-means"
ROW_BITS = 4
GROUPS = 512
CASES = 6_000
CHUNK = 128
LEARN_FROM = 2  # events between a profile and the target that δ learns from, beside the target itself
LENGTHS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
LENGTH_SHARE = 0.02  # of the table's bytes, at which the length of δ is chosen


@dataclass(frozen=True, eq=False)
class Room:
    """What all holdings of one run are judged with; ranks of the same cases throughout.

    Attributes:
        material: the run.
        cases: the test cases that are read.
        beta: weight of log popularity.
        tails: product codes, by name: of so many bytes a row, the same by k-means alone, and those that the run carries.
        groups: the k-means group of each row.
        drift: coefficients of δ, its length included.
        features: of the profile, for δ.
    """

    material: Material
    cases: Cases
    beta: float
    tails: dict[str, Tail]
    groups: Int[Tensor, " rows"]
    drift: Float[Tensor, "features dim"]
    features: Cosines

    @classmethod
    @torch.no_grad()
    def prepare(cls, data: Dataset, run: Path, folder: Path, *, cases: int = CASES, seed: int = 0) -> "Room":
        """Publish a run, unless that is done; choose β, fit product codes, groups and δ, all without test events.

        Args:
            data: what the run was trained on.
            run: the run's folder.
            folder: where its part of the study goes.
            cases: how many test cases are read, at the most.
            seed: of everything random.

        Returns:
            the room.
        """
        material = Material.prepare(data, run, folder, seed=seed)
        frozen, test = material.frozen, material.test.cases
        chosen = np.sort(np.random.default_rng(seed).permutation(len(test))[:cases])
        beta = choose_beta(frozen, data.split().validation, seed=seed).beta
        means = {parts: fit_product_codes(frozen.vectors, material.learn.profiles, parts, seed=seed) for parts in TAILS}
        learned = {
            parts: learn_order(tail, frozen.vectors, material.learn.profiles, seed=seed) for parts, tail in means.items()
        }
        tails = {f"codes of {parts} bytes": tail for parts, tail in learned.items()}
        tails |= {f"codes of {parts} bytes{BY_MEANS}": tail for parts, tail in means.items()}
        if (trained := load_run(run).tail) is not None:
            tails[f"trained codes of {trained.codes.shape[1]} bytes"] = trained
        groups = k_means(frozen.vectors, GROUPS, seed=seed)
        features, drift = _learn_drift(material, beta)
        return cls(material, take_cases(test, chosen), beta, tails, groups, drift, features)

    @cached_property
    def prior(self) -> Float[Tensor, " rows"]:
        """β · log(count + 1) of each row."""
        return self.beta * torch.from_numpy(np.log1p(self.material.frozen.base.table.counts))

    @cached_property
    def profiles(self) -> dict[int, Float[Tensor, "cases dim"]]:
        """The profile that the cloud last saw, by staleness."""
        return {stale: self.material.frozen.events(earlier(self.cases, stale)).profiles for stale in STALE}

    def at(self, bits: int) -> Float[Tensor, "rows dim"]:
        """Read the table at a width.

        Args:
            bits: 8, 4 or 2.

        Returns:
            the rows.
        """
        grid = self.material.frozen.base.table.grid
        return torch.from_numpy(fold(grid, np.full(len(grid.q), WIDTHS.index(bits), np.uint8)).dequantize())


def row_bytes(base: Base, bits: int) -> int:
    """Count what one row costs that is held.

    Args:
        base: the base with its table.
        bits: at which width.

    Returns:
        bytes: planes, scale, id.
    """
    return plane_bytes(base.table.grid.q.shape[1], bits) + ROW_BYTES


def rows_within(base: Base, share: float) -> int:
    """Count the rows that fit into a share of the table's bytes, beside the device's own history.

    Args:
        base: the base with its table.
        share: of the whole table at 8 bits.

    Returns:
        rows; 0 where the history alone is more.
    """
    room = share * len(base.table) * row_bytes(base, 8) - fixed_table(base, True)
    return min(len(base.table), max(0, int(room // row_bytes(base, ROW_BITS))))


def _learn_drift(material: Material, beta: float) -> tuple[Cosines, Float[Tensor, "features dim"]]:
    """Learn δ on future targets, and choose its length."""
    frozen = material.frozen
    prior = beta * torch.from_numpy(np.log1p(frozen.base.table.counts))
    learn, select = (frozen.events(earlier(events.cases, LEARN_FROM)) for events in (material.learn, material.select))
    features = Cosines(learn.profiles.shape[1]).standardize(learn.profiles)

    def pulls() -> Iterator[tuple[Tensor, Tensor]]:
        for rows in np.array_split(np.random.default_rng(5).permutation(len(learn)), -(-len(learn) // CHUNK)):
            profiles, targets = learn.profiles[rows], learn.cases.targets[rows].astype(np.int64)
            shares = ((profiles @ frozen.vectors.T + prior) / frozen.temperature).softmax(dim=1)
            yield profiles, (frozen.vectors[targets] - shares @ frozen.vectors) / frozen.temperature

    direction = fit_ridge(features, frozen.vectors.shape[1], pulls()).coefficients
    quality = {length: _share_held(frozen, select, features, length * direction, prior) for length in LENGTHS}
    return features, max(quality, key=lambda length: quality[length]) * direction


def _share_held(frozen: FrozenBase, select: Events, features: Cosines, drift: Tensor, prior: Tensor) -> float:
    """Share of the targets that are among the rows that a device would hold."""
    count, found = max(10, rows_within(frozen.base, LENGTH_SHARE)), 0
    targets = torch.from_numpy(select.cases.targets.astype(np.int64))
    for mine, wanted in zip(torch.split(select.profiles, CHUNK), torch.split(targets, CHUNK), strict=True):
        scores = (mine + features(mine) @ drift) @ frozen.vectors.T + prior
        found += int(((scores >= scores.gather(1, wanted[:, None])).sum(dim=1) <= count).sum())
    return found / len(targets)
