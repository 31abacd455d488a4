"""The study of Forward-OFA judges every row once, keeps every budget, and its parts are missing where they say so."""

from itertools import product
from pathlib import Path
from shutil import copytree

import msgspec
import numpy as np
import pytest
import torch

from ossia.adaptation import CostTable
from ossia.adaptation.delta_layout import DeltaLayout
from ossia.cli.study import ROWS_A_SHARE
from ossia.data import Dataset, synthetic
from ossia.errors import UsageError
from ossia.evaluation import Provenance
from ossia.personalizers.forward_ofa import ForwardOfa, layers_of
from ossia.studies.forward_ofa import FINE_TUNED, OWN, study
from ossia.studies.forward_ofa_conflict import Conflict
from ossia.studies.forward_ofa_desk import Desk
from ossia.studies.forward_ofa_variants import VARIANTS, SharedWeights, Static
from ossia.studies.forward_ofa_verdict import conclude, write_page
from ossia.studies.judged_rows import read_row
from ossia.training import BackboneRecipe, train_backbone
from ossia.training.events import earlier
from ossia.training.generator_answers import answered_states, objective
from ossia.training.generator_recipe import GeneratorRecipe
from ossia.training.structures import FEW, try_structures
from ossia.types import Slot

RECIPE = GeneratorRecipe(personalizer="forward-ofa", hidden=8, latent=4, structure=3, epochs=1, batch=100, lr=0.01)
SHARES = (0.5, 1.0)
GATES = ("a", "b", "c")
LAYOUT = DeltaLayout((Slot("x", 4, 6, "a"), Slot("y", 6, 4, "b"), Slot("z", 4, 4, "c")), 2)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic(60, 30, 8, predictability=0.5, seed=0)


@pytest.fixture(scope="module")
def folder(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of one short run, judged."""
    folder = tmp_path_factory.mktemp("study")
    recipe = BackboneRecipe(dim=8, length=6, blocks=2, heads=1, hidden=8, batch=128, epochs=2)
    for _ in train_backbone(data, recipe, folder / "run"):
        pass
    rows = [(done.point, done.row) for done in study(data, [folder / "run"], SHARES, folder / "out", RECIPE)]
    assert (len(rows), len(set(rows))) == (2 * ROWS_A_SHARE + 2, 2 * 15 + 2)  # ten rows also say what their structures cost
    return folder


def make(name: str) -> ForwardOfa:
    torch.manual_seed(0)
    sizes = {"hidden": 8, "latent": 4, "structure": 3}
    made = VARIANTS[name](LAYOUT, GATES, 5, costs=[1.0, 2.0, 1.0], **sizes)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made


def test_every_row_is_judged_once(data: Dataset, folder: Path) -> None:
    assert list(study(data, [folder / "run"], SHARES, folder / "out", RECIPE)) == []
    place = folder / "out" / "run" / "rows" / "0.5" / f"{OWN}.npz"
    before = read_row(place)
    place.unlink()
    assert [done.row for done in study(data, [folder / "run"], SHARES, folder / "out", RECIPE)] == [OWN]
    assert (read_row(place).ranks == before.ranks).all()
    assert (read_row(place).log_likelihood == before.log_likelihood).all()


def test_rows_of_other_settings_are_not_mixed(data: Dataset, folder: Path) -> None:
    runs, out, other = [folder / "run"], folder / "out", msgspec.structs.replace(RECIPE, rank=2)
    with pytest.raises(UsageError, match="expected the settings"):
        next(study(data, runs, SHARES, out, other))
    with pytest.raises(UsageError, match="expected the settings"):
        next(study(data, runs, SHARES, out, RECIPE, cases=9))


def test_nothing_was_chosen_on_test_events(data: Dataset, folder: Path) -> None:
    desk = Desk.prepare(data, folder / "run", folder / "out" / "run", RECIPE.resolve())
    tested = {
        (user, target) for user, target in zip(desk.test.cases.users.tolist(), desk.test.cases.targets.tolist(), strict=True)
    }
    histories = {user: data.histories[user].tolist() for user in range(data.users)}
    assert all(histories[user][-1] == target for user, target in tested)
    for events in (desk.learn, desk.select):
        for user, target in zip(events.cases.users.tolist(), events.cases.targets.tolist(), strict=True):
            assert histories[user][-2] == target


def test_the_table_holds_the_likeliest_structure_of_those_that_fit(data: Dataset, folder: Path) -> None:
    desk = Desk.prepare(data, folder / "run", folder / "out" / "run", RECIPE.resolve())
    worth = {each.kept: each.worth for each in desk.table}
    assert len(worth) == 16
    for share in (0.0, 0.3, 1.0):
        chosen = desk.looked_up(share)
        assert float(chosen @ desk.untrained.costs) <= share + 1e-6
        fit = [kept for kept in worth if float(torch.tensor(kept).float() @ desk.untrained.costs) <= share + 1e-6]
        assert worth[tuple(chosen.int().tolist())] == max(worth[kept] for kept in fit)


def test_held_to_levels_nothing_is_better_on_validation_at_any_budget(data: Dataset, folder: Path) -> None:
    desk = Desk.prepare(data, folder / "run", folder / "out" / "run", RECIPE.resolve())
    held, free = desk.trained(OWN), desk.trained(OWN, held=False)
    batch = desk.select.batch(np.arange(len(desk.select)))

    @torch.no_grad()
    def worth(network: ForwardOfa, share: float, common: tuple[int, ...] | None = None) -> float:
        """Minus the objective of training, which `levels_of` adds up batch by batch."""
        chosen = network.choose(batch.profiles, torch.full((len(desk.select),), share))
        kept = chosen if common is None else torch.tensor(common, dtype=torch.float32).expand_as(chosen)
        states = answered_states(desk.frozen, network, batch, batch.profiles, kept)
        return -float(objective(desk.frozen, desk.recipe, batch, states, torch.zeros(len(desk.select))))

    costs = free.costs.tolist()
    structures = {kept: float(np.dot(kept, costs)) for kept in product((0, 1), repeat=4)}
    for share in sorted(set(structures.values())):
        own = worth(held, share)
        assert own >= worth(free, share) - 1e-4
        assert own >= max(worth(free, 1.0, kept) for kept, cost in structures.items() if cost <= share + 1e-6) - 1e-4
    assert any(worth(held, share) > worth(free, share) + 1e-3 for share in (0.1, 0.5, 0.9))


def test_of_many_blocks_the_first_ones_and_the_least_missed_are_tried() -> None:
    gates, worth = FEW + 2, np.arange(FEW + 2)[::-1]  # the last block is missed least
    tried = {each.kept for each in try_structures(gates, lambda kept: float(worth @ kept))}
    assert {sum(kept) for kept in tried} == set(range(gates + 1))
    assert all((1,) * count + (0,) * (gates - count) in tried for count in range(gates + 1))
    assert len(tried) == 1 + gates * (gates + 1) / 2  # with one less, of every length


def test_measured_prices_take_the_place_of_weights(data: Dataset, folder: Path) -> None:
    gates = {
        f"blocks.{block}.{branch}": price for block in (0, 1) for branch, price in (("attention", 3.0), ("feed_forward", 1.0))
    }
    prices = CostTable("imagined", "engine", 6.0, gates, 0.01)
    desk = Desk.prepare(data, folder / "run", folder / "out" / "run", RECIPE.resolve(), prices=prices)
    torch.testing.assert_close(desk.untrained.costs, torch.tensor([0.375, 0.125, 0.375, 0.125]))
    uniform = desk.make("without controller")
    assert uniform.choose(torch.zeros(1, 8), torch.tensor([0.3])).tolist() == [[0, 1, 0, 1]]


def test_a_study_from_before_controllers_were_held_to_levels_is_refused(data: Dataset, folder: Path, tmp_path: Path) -> None:
    older = copytree(folder / "out", tmp_path / "out")
    (older / "run" / f"{OWN} levels.json").unlink()
    with pytest.raises(UsageError, match=r"own payload levels\.json: expected the levels .* begin a new folder"):
        conclude(data, older, ["run"], 0.5)
    with pytest.raises(UsageError, match="the study is older"):
        next(study(data, [folder / "run"], SHARES, older, RECIPE))


def test_uniform_depth_with_all_blocks_is_the_base(data: Dataset, folder: Path) -> None:
    desk = Desk.prepare(data, folder / "run", folder / "out" / "run", RECIPE.resolve())
    judged = read_row(folder / "out" / "run" / "rows" / "1" / "uniform depth.npz")
    assert (judged.ranks == desk.frozen.judge(desk.test).ranks).all()


def test_fine_tuning_moves_its_users_and_nobody_else(folder: Path) -> None:
    judged = read_row(folder / "out" / "run" / "rows" / "1" / f"{FINE_TUNED}.npz")
    base = read_row(folder / "out" / "run" / "rows" / "1" / "uniform depth.npz")
    there = judged.ranks >= 0
    assert there.all()  # sixty users are fewer than a thousand
    assert (judged.log_likelihood != base.log_likelihood).any()


def test_the_verdict_pools_and_the_page_stands(data: Dataset, folder: Path, tmp_path: Path) -> None:
    verdict = conclude(data, folder / "out", ["run"], 0.5)
    others = {"uniform depth", "lookup table", "lookup table, own weights", "another user's payload", "average user's payload"}
    others |= {"the whole base", "controller at every budget", "own payload, 2 events old", "own payload, 5 events old"}
    assert {row.name for row in verdict.rows} == {*VARIANTS, *others}
    assert {each.name for each in verdict.comparisons} == {OWN}
    whole, alike = verdict, conclude(data, folder / "out", ["run"], 1.0)
    assert "the whole base" not in {row.name for row in alike.rows}
    quality = {row.name: row.ndcg_at_10.mean for row in alike.rows}["uniform depth"]
    assert {row.name: row.ndcg_at_10.mean for row in whole.rows}["the whole base"] == quality
    assert verdict.spent.keys() == {*VARIANTS, "uniform depth", "lookup table", "controller at every budget"}
    assert all(spent.share <= 0.5 + 1e-6 for spent in verdict.spent.values())
    write_page(tmp_path / "page.html", verdict, "toy", Provenance("test", (0,), "", {}, "", "", ""))
    assert "another user&#x27;s payload" in (tmp_path / "page.html").read_text("utf-8")


def test_an_older_payload_is_the_answer_to_the_profile_of_then(data: Dataset, folder: Path) -> None:
    desk = Desk.prepare(data, folder / "run", folder / "out" / "run", RECIPE.resolve())
    asked = desk.frozen.events(earlier(desk.test.cases, 5)).profiles
    aged = desk.judge(desk.trained(OWN), desk.test, asked, share=0.5).log_likelihood
    rows = folder / "out" / "run" / "rows" / "0.5"
    assert np.array_equal(read_row(rows / f"{OWN}, 5 events old.npz").log_likelihood, aged)
    assert not np.array_equal(read_row(rows / f"{OWN}.npz").log_likelihood, aged)


def test_conflict_is_measured_for_each_layer_with_and_without_a_mapper(folder: Path) -> None:
    found = msgspec.json.decode((folder / "out" / "run" / "conflict.json").read_bytes(), type=list[Conflict])
    layers = [f"blocks.{block}.{branch}" for block in (0, 1) for branch in ("attention", "feed_forward")]
    assert [(each.network, each.layer) for each in found] == [
        (name, layer) for name in (OWN, "shared weights, no mapper") for layer in layers
    ]
    assert all(-1 <= each.cosine <= 1 and 0 <= each.opposed <= 1 for each in found)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_keeps_the_budget_and_learns_with_every_parameter(name: str) -> None:
    made, profiles = make(name), torch.randn(30, 5)
    share = torch.rand(30)
    for kept in (made.choose(profiles, share), made.relax(profiles, share, 1.0, torch.Generator().manual_seed(0))):
        assert ((kept.detach() @ made.costs) <= share + 1e-5).all()
    kept = made.relax(profiles, torch.ones(30), 1.0, torch.Generator().manual_seed(0))
    said = made.numbers(profiles, kept).square().sum() + (kept * torch.arange(1.0, 4.0)).sum()
    if isinstance(made, Static):
        said = said + made.after(torch.randn(30, 5)).square().sum()
    said.backward()
    assert [at for at, parameter in made.named_parameters() if parameter.grad is None or not parameter.grad.any()] == []


def test_what_is_missing_is_missing() -> None:
    profiles, all_kept = torch.randn(6, 5), torch.ones(6, 3)
    one_less = all_kept * torch.tensor([1.0, 0.0, 1.0])
    for name, hears_structure, hears_user in (
        (OWN, True, True),
        ("mapper without structure", False, True),
        ("shared weights, no mapper", False, False),
        ("one generator for all layers", True, True),
    ):
        made = make(name)
        assert torch.equal(made.numbers(profiles, all_kept), made.numbers(profiles, one_less)) != hears_structure, name
        assert bool((made.numbers(profiles, all_kept).std(dim=0) > 1e-4).any()) == hears_user, name
    assert len(make("one generator for all layers").parameters_of.generators) == 1 < len(layers_of(LAYOUT))
    assert sum(p.numel() for p in make("static model of the same size").parameters()) >= sum(
        p.numel() for p in make(OWN).parameters()
    )


def test_uniform_depth_keeps_the_first_blocks() -> None:
    made = make("without controller")
    kept = made.choose(torch.randn(2, 5), torch.tensor([0.75, 0.25]))
    assert kept.tolist() == [[1, 1, 0], [1, 0, 0]]


def test_a_generator_starts_as_the_base_in_every_variant() -> None:
    torch.manual_seed(0)
    for name, kind in VARIANTS.items():
        made = kind(LAYOUT, GATES, 5, costs=[1.0, 1.0, 1.0], hidden=8, latent=4, structure=3)
        assert LAYOUT.read(made.numbers(torch.randn(2, 5), torch.ones(2, 3)).detach().numpy()[0]) == (), name
        assert not isinstance(made, SharedWeights) or np.count_nonzero(made.shared.detach().numpy())
