"""Are product codes that were trained with the model better than those that were fitted to it? On test events.

    python benchmarks/coarse_codes.py DATA OUT --run RUN --control CONTROL --trained RUN4 --trained RUN8

RUN is what all began at; CONTROL went on from it as long as the trained ones did, without coarse rows. RUN and CONTROL get
tails as `ossia publish --tail` fits them (and by k-means alone), of as many bytes as the trained ones carry. Read as
`ossia study catalog` does: the same cases, own rows at 4 bits chosen by the profile of 0, 2 or 5 events ago, β chosen on
validation for each run. Shares are of RUN's float32 table's NDCG@10; differences are paired by user. What is judged is kept
in OUT, run by run.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ossia.adaptation import Base
from ossia.adaptation.prices import fixed_table
from ossia.adaptation.tail import Tail
from ossia.data import Cases, Dataset
from ossia.evaluation import paired_bootstrap
from ossia.evaluation.metrics import gains_at_k
from ossia.quantization.grid import fold
from ossia.studies.catalog import Holding, ranks_of, read_holdings, write_holdings
from ossia.studies.catalog_room import BY_MEANS, CHUNK, STALE, row_bytes, rows_within
from ossia.training import Run, load_run, publish
from ossia.training.events import Events, earlier, take_cases
from ossia.training.frozen import FrozenBase, remove_seen
from ossia.training.product_codes import fit_product_codes
from ossia.training.publish import tail_of, user_states
from ossia.training.row_prior import choose_beta
from ossia.types import WIDTHS

SHARES = (0.01, 0.05)
WHOLE = "float32 table"


@dataclass(frozen=True)
class Material:
    """What one run's holdings are judged with."""

    run: Run
    frozen: FrozenBase
    fine: Tensor
    prior: Tensor
    now: Events
    profiles: dict[int, Tensor]
    tails: dict[str, Tail]


def prepare(data: Dataset, path: Path, place: Path, parts: set[int], cases: Cases) -> Material:
    """Publish a run, fit the tails that it does not carry, choose β."""
    run, split = load_run(path), data.split()
    base = Base.load(place / "base") if (place / "base").exists() else publish(path, data, place / "base")
    frozen = FrozenBase.load(base, (2, 8), torch.device("cpu"))
    beta = choose_beta(frozen, split.validation, seed=0).beta
    grid = base.table.grid
    fine = torch.from_numpy(fold(grid, np.full(len(grid.q), WIDTHS.index(4), np.uint8)).dequantize())
    profiles = {stale: frozen.events(earlier(cases, stale)).profiles for stale in STALE}
    prior, states = beta * torch.from_numpy(np.log1p(base.table.counts)), user_states(run.backbone, split.train)
    return Material(run, frozen, fine, prior, frozen.events(cases), profiles, tails_of(run, states, parts))


def tails_of(run: Run, states: Tensor, parts: set[int]) -> dict[str, Tail]:
    """Take the tail that a run carries, or fit tails of all bytes that are asked for."""
    carried = {} if run.tail is None else {run.tail.codes.shape[1]}
    tails = {f"codes of {each} bytes": tail_of(run, states, each) for each in sorted(carried or parts)}
    vectors = run.backbone.items.weight.detach()
    means = {f"codes of {each} bytes{BY_MEANS}": fit_product_codes(vectors, states, each) for each in sorted(parts)}
    return tails if carried else tails | means


@torch.no_grad()
def judge(material: Material, rows: np.ndarray) -> Iterator[tuple[Holding, np.ndarray]]:
    """Judge every holding for some cases."""
    frozen, batch = material.frozen, material.now.batch(rows)
    histories = [material.now.cases.histories[int(row)] for row in rows]
    states, base = frozen.states(batch.histories), frozen.base
    whole = len(base.table) * row_bytes(base, 8)

    def seen_removed(scores: Tensor) -> Tensor:
        remove_seen(scores, histories)
        return scores

    exact = material.run.backbone(batch.histories)[:, -1] @ material.run.backbone.items.weight.T
    yield Holding(WHOLE, 4.0, 0), ranks_of(seen_removed(exact), batch.targets)
    fine = seen_removed(states @ material.fine.T)
    for name, tail in material.tails.items():
        coarse = seen_removed(torch.from_numpy(tail.scores_of_all(states.numpy())))
        beside = tail.nbytes + fixed_table(base, True)
        yield Holding(name, beside / whole, 0), ranks_of(coarse, batch.targets)
        for stale in STALE if not name.endswith(BY_MEANS) else ():
            wants = material.profiles[stale][rows] @ frozen.vectors.T + material.prior
            for count in (rows_within(base, share) for share in SHARES):
                held = torch.zeros_like(fine, dtype=torch.bool).scatter(1, wants.topk(count, dim=1).indices, True)
                share = (count * row_bytes(base, 4) + beside) / whole
                yield Holding(f"own rows over {name}", share, stale), ranks_of(torch.where(held, fine, coarse), batch.targets)


def gains_of(data: Dataset, path: Path, place: Path, parts: set[int], count: int) -> dict[Holding, np.ndarray]:
    """Judge a run, unless that is done; each case's gain at 10."""
    if not (place / "coarse.npz").exists():
        test, ranks = data.split().test, {}
        cases = take_cases(test, np.sort(np.random.default_rng(0).permutation(len(test))[:count]))
        material = prepare(data, path, place, parts, cases)
        for rows in np.array_split(np.arange(len(cases)), -(-len(cases) // CHUNK)):
            for holding, found in judge(material, rows):
                ranks.setdefault(holding, []).append(found)
        write_holdings(place / "coarse.npz", ((holding, np.concatenate(found)) for holding, found in ranks.items()))
    return {holding: gains_at_k(ranks, 10) for holding, ranks in read_holdings(place / "coarse.npz").items()}


def show(title: str, gains: dict[Holding, np.ndarray], whole: np.ndarray) -> None:
    """Print a run's holdings as shares of what all are held against."""
    for holding, gain in gains.items():
        gap, mean = paired_bootstrap(gain[None], whole[None], seed=0, draws=2_000), float(whole.mean())
        between = f"{1 + gap.low / mean:.3f} … {1 + gap.high / mean:.3f}"
        print(f"{title}: {holding}: NDCG@10 {gain.mean():.4f}, {1 + gap.mean / mean:.3f} ({between})")


def compare(title: str, gains: dict[Holding, np.ndarray], others: dict[Holding, np.ndarray]) -> None:
    """Print what a run's holdings are above another's."""
    for holding in (each for each in gains if each in others):
        gap = paired_bootstrap(gains[holding][None], others[holding][None], seed=0, draws=2_000)
        print(f"{title}: {holding}: {gap.mean:+.4f} ({gap.low:+.4f} … {gap.high:+.4f})")


def main() -> None:
    """Judge all runs, and the trained codes against the others."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("data", "out"):
        parser.add_argument(name, type=Path)
    for name in ("--run", "--control"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--trained", type=Path, action="append", required=True)
    parser.add_argument("--cases", type=int, default=6_000)
    asked = parser.parse_args()
    data, tails = Dataset.load(asked.data), [load_run(each).tail for each in asked.trained]
    parts = {tail.codes.shape[1] for tail in tails if tail is not None}
    paths = [asked.run, asked.control, *asked.trained]
    found = [gains_of(data, path, asked.out / path.resolve().name, parts, asked.cases) for path in paths]
    whole = found[0][Holding(WHOLE, 4.0, 0)]
    for path, gains in zip(paths, found, strict=True):
        show(path.name, gains, whole)
    for path, gains in zip(paths[2:], found[2:], strict=True):
        for other, others in zip(paths[:2], found[:2], strict=True):
            compare(f"{path.name} − {other.name}", gains, others)


if __name__ == "__main__":
    main()
