"""The study of the catalog counts every byte, and knows who is who: own rows help where users are predictable."""

from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from ossia.adaptation.prices import fixed_table
from ossia.data import Dataset, synthetic
from ossia.evaluation import Provenance, ndcg_at_k
from ossia.studies.catalog import (
    SHARES,
    Holding,
    judge,
    ranks_of,
    read_holdings,
    write_holdings,
)
from ossia.studies.catalog_mixed import MIXED, SPLITS, Split, choose_splits, judge_mixed, rows_of
from ossia.studies.catalog_refresh import Refresh, choose, refreshes
from ossia.studies.catalog_room import Room, row_bytes, rows_within
from ossia.studies.catalog_verdict import conclude, write_page
from ossia.training import BackboneRecipe, train_backbone
from ossia.training.events import earlier
from ossia.training.product_codes import deal, fit_product_codes, k_means, learn_order


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic(200, 400, 10, predictability=0.9, seed=1, rules=2)


@pytest.fixture(scope="module")
def room(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Room:
    folder = tmp_path_factory.mktemp("catalog")
    recipe = BackboneRecipe(dim=16, length=2, blocks=1, heads=1, hidden=16, dropout=0.0, batch=256, epochs=8, lr=0.01)
    for _ in train_backbone(data, recipe, folder / "run"):
        pass
    return Room.prepare(data, folder / "run", folder / "out")


@pytest.fixture(scope="module")
def judged(room: Room) -> dict[Holding, np.ndarray]:
    return dict(judge(room, room.material.backbone.items.weight.detach()))


def pick(judged: dict[Holding, np.ndarray], kind: str, share: float, stale: int = 0) -> np.ndarray:
    """The holding of a kind that is nearest to a share."""
    found = [each for each in judged if (each.kind, each.stale) == (kind, stale)]
    return judged[min(found, key=lambda each: abs(each.share - share))]


def test_no_holding_of_rows_costs_more_than_its_share(room: Room) -> None:
    base = room.material.frozen.base
    whole = len(base.table) * row_bytes(base, 8)
    for share in (0.05, 0.1, 0.2):
        spent = rows_within(base, share) * row_bytes(base, 4) + base.manifest.shape["length"] * row_bytes(base, 8)
        assert share * whole - row_bytes(base, 4) < spent <= share * whole
    assert rows_within(base, 0.0) == 0


def test_who_holds_the_whole_table_ranks_as_the_base_does(room: Room, judged: dict[Holding, np.ndarray]) -> None:
    frozen, whole = room.material.frozen, Holding("whole table at 8 bits", 1.0, 0)
    assert np.array_equal(judged[whole], frozen.judge(frozen.events(room.cases)).ranks)


def test_own_rows_beat_anothers_and_popular_ones_where_users_are_predictable(judged: dict[Holding, np.ndarray]) -> None:
    own, another, popular = (ndcg_at_k(pick(judged, f"{who} rows", 0.1), 10) for who in ("own", "another user's", "popular"))
    assert own > another + 0.1
    assert own > popular + 0.1


def test_a_tail_never_loses_to_nothing_at_all(judged: dict[Holding, np.ndarray]) -> None:
    own, tailed = (ndcg_at_k(pick(judged, kind, 0.1, 5), 10) for kind in ("own rows", "own rows over codes of 8 bytes"))
    assert tailed >= own - 0.02


def test_ranks_survive_writing(judged: dict[Holding, np.ndarray], tmp_path: Path) -> None:
    write_holdings(tmp_path / "x.npz", iter(judged.items()))
    read = read_holdings(tmp_path / "x.npz")
    assert list(read) == list(judged)
    assert all(np.array_equal(read[each], judged[each]) for each in judged)


def test_going_back_forgets_the_newest_events_and_keeps_the_first(data: Dataset) -> None:
    test = data.split().test
    for history, shorter in zip(test.histories, earlier(test, 5).histories, strict=True):
        assert shorter.tolist() == history[: max(1, len(history) - 5)].tolist()


def test_rows_at_mixed_widths_cost_no_more_than_rows_at_4_bits_and_all_at_4_are_own_rows(
    room: Room, judged: dict[Holding, np.ndarray]
) -> None:
    base = room.material.frozen.base
    for share, split in product((0.05, 0.1, 0.2), SPLITS):
        rows = rows_of(base, share, split)
        spent = sum(count * row_bytes(base, bits) for bits, count in rows.items()) + fixed_table(base, True)
        assert spent <= share * len(base.table) * row_bytes(base, 8)
        assert sum(rows.values()) <= len(base.table)
    for holding, ranks in judge_mixed(room, dict.fromkeys(SHARES, Split(0.0, 0.0))):
        assert np.array_equal(ranks, pick(judged, "own rows", holding.share, holding.stale))


def test_the_split_of_bytes_is_chosen_on_validation_and_there_it_is_no_worse(room: Room) -> None:
    splits = choose_splits(room)
    assert set(splits) == set(SHARES)
    validation = replace(room, cases=room.material.select.cases)
    chosen, uniform = (
        [ndcg_at_k(ranks, 10) for _, ranks in judge_mixed(validation, each)]
        for each in (splits, dict.fromkeys(SHARES, Split(0.0, 0.0)))
    )
    assert np.mean(chosen) >= np.mean(uniform)


def test_more_bytes_score_better_and_every_byte_is_counted() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(600, 16, generator=generator)
    states = torch.randn(300, 16, generator=generator) @ torch.diag(torch.linspace(0.1, 3, 16))
    exact, errors = states @ vectors.T, []
    for parts in (2, 4, 8):
        codes = fit_product_codes(vectors, states, parts)
        errors.append(
            float((torch.from_numpy(codes.scores_of_all(states.numpy())) - exact).square().mean() / exact.square().mean())
        )
        assert codes.nbytes == 600 * parts + 2 * (256 * 16 + 16 * 16)
    assert errors == sorted(errors, reverse=True)
    assert errors[0] < 0.5
    assert errors[-1] < 0.05


@pytest.mark.parametrize("drawn", [600, 200])
def test_codewords_that_learn_the_order_keep_their_bytes_and_put_the_first_rows_first(
    monkeypatch: pytest.MonkeyPatch, drawn: int
) -> None:
    monkeypatch.setattr("ossia.training.product_codes.ROWS", drawn)
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(600, 16, generator=generator)
    states = torch.randn(600, 16, generator=generator) @ torch.diag(torch.linspace(0.1, 3, 16))
    tail = fit_product_codes(vectors, states[:300], 2)
    learned = learn_order(tail, vectors, states[:300], steps=200)
    assert learned.nbytes == tail.nbytes
    assert np.array_equal(learned.codes, tail.codes)
    best, unseen = (states[300:] @ vectors.T).argmax(dim=1), states[300:].numpy()
    before, after = (ndcg_at_k(ranks_of(torch.from_numpy(each.scores_of_all(unseen)), best), 10) for each in (tail, learned))
    assert after > before + 0.05


def test_directions_are_dealt_so_that_parts_are_alike() -> None:
    variance = np.geomspace(1, 1e4, 12)
    order = deal(variance, 3)
    assert sorted(order) == list(range(12))
    products = [np.log(variance[order[part : part + 4]]).sum() for part in (0, 4, 8)]
    assert max(products) - min(products) < 0.2 * np.log(1e4)


def test_k_means_separates_what_is_apart() -> None:
    points = torch.cat([torch.randn(50, 3) * 0.01 + 5 * center for center in torch.eye(3)])
    groups = k_means(points, 24)
    assert not set(groups[:50].tolist()) & set(groups[50:100].tolist())


def test_a_refresh_sends_less_the_longer_rows_may_stay_and_the_best_ones_are_always_held(room: Room) -> None:
    found = list(refreshes(room))
    assert [(each.share, each.keep) for each in found][:3] == [(found[0].share, keep) for keep in (1, 2, 4)]
    for one, two in pairwise(found):
        if one.share == two.share:
            assert two.sent <= one.sent
    base = room.material.frozen.base
    for each in found:
        count = rows_within(base, each.share)
        beside = 32 + 3 + 2 * count  # digest; lengths of three lists; a gap takes two bytes at most
        assert 0 < each.sent <= 1 + beside / (count * row_bytes(base, 4))
    assert all(each.fresh >= each.stale - 0.05 for each in found)


def test_a_row_stays_while_it_is_among_the_best_and_gives_way_after() -> None:
    wants = torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0, 0.0]])
    held = torch.tensor([[False, False, False, True, False, True]])
    assert choose(wants, held, 2, 1).nonzero()[:, 1].tolist() == [0, 1]
    assert choose(wants, held, 2, 2).nonzero()[:, 1].tolist() == [0, 3]
    assert choose(wants, held, 2, 3).nonzero()[:, 1].tolist() == [3, 5]
    assert choose(wants, None, 2, 3).nonzero()[:, 1].tolist() == [0, 1]


def test_the_verdict_pools_runs_and_its_page_has_every_holding(
    room: Room, judged: dict[Holding, np.ndarray], tmp_path: Path
) -> None:
    for run in ("a", "b"):
        write_holdings(tmp_path / run / "catalog.npz", iter(judged.items()))
        kept = [Refresh(0.1, 2, sent, 1.0, 0.5) for sent in ([0.2] if run == "a" else [0.4])]
        (tmp_path / run / "refreshes.json").write_bytes(msgspec.json.encode(kept))
        split = Split(0.25, 0.5) if run == "a" else Split(0.5, 0.125)  # each run chooses its own
        write_holdings(tmp_path / run / "mixed.npz", judge_mixed(room, dict.fromkeys(SHARES, split)))
        (tmp_path / run / "splits.json").write_bytes(msgspec.json.encode([(0.1, Split(0.25, 0.5))]))
    verdict = conclude(tmp_path, ["a", "b"])
    whole = next(line for line in verdict.lines if line.holding.kind == "float32 table")
    assert (whole.relative.mean, whole.relative.low, whole.relative.high) == (1, 1, 1)
    own = next(line for line in verdict.lines if line.holding.kind == "own rows")
    assert own.ndcg_at_10.mean == pytest.approx(ndcg_at_k(judged[own.holding], 10))
    assert {gain.holding.stale for gain in verdict.gains} == {0, 2, 5}
    assert {(gain.holding.kind, gain.versus) for gain in verdict.gains} >= {(MIXED, "own rows"), ("learned rows", "own rows")}
    assert verdict.splits[0] == ("a", 0.1, "25% of the bytes at 8 bits, 25% at 4, 50% at 2")
    assert [each.sent for each in verdict.refreshes] == [pytest.approx(0.3)]
    provenance = Provenance("ossia study catalog", (), "a machine", {"torch": "2"}, "synthetic", "0" * 8, "2026-01-01")
    write_page(tmp_path / "catalog.html", verdict, "synthetic", provenance)
    assert (tmp_path / "catalog.html").read_text("utf-8").count("<tr>") == len(verdict.lines) + len(verdict.gains) + 4
