"""The study of CHORD judges every row once, pools its seeds, and finds nothing personal where users are random."""

from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from msgspec.structs import replace
from rich.table import Table

from ossia.cli.study import ROWS_A_POINT, ROWS_A_RUN
from ossia.cli.study_tables import chord_lines
from ossia.data import Dataset, synthetic
from ossia.errors import UsageError
from ossia.evaluation import Provenance
from ossia.studies.chord import BEFORE, COMMON, RANDOM_ENCODER, SAME_TEACHER, study, study_others
from ossia.studies.chord_material import Material
from ossia.studies.chord_point import Point
from ossia.studies.chord_verdict import Verdict, conclude, write_page
from ossia.studies.judged_rows import read_row
from ossia.training import BackboneRecipe, load_run, train_backbone
from ossia.training.recipes import Widths

POINT = Point((2, 8), 4.0)
OWN, ANOTHER = "own widths (ridge)", "another user's widths (ridge)"
AGED = "own widths, {} events old (ridge)"


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic(60, 30, 8, predictability=0.0, seed=0)


@pytest.fixture(scope="module")
def folder(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two short runs, judged."""
    folder = tmp_path_factory.mktemp("study")
    for seed in (0, 1):
        recipe = BackboneRecipe(dim=8, length=6, blocks=1, heads=1, hidden=8, batch=128, epochs=2, seed=seed)
        for _ in train_backbone(data, recipe, folder / f"run{seed}"):
            pass
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ossia.studies.chord_desk.LESSONS", 60)  # how well a hypernetwork imitates is not what is asked here
        judged = len(list(study(data, [folder / "run0", folder / "run1"], [POINT], folder / "out")))
        assert judged == 42 == 2 * (ROWS_A_RUN + 3 + sum(ROWS_A_POINT.values()))  # which is what the bar counts to
    return folder


@pytest.fixture(scope="module")
def verdict(data: Dataset, folder: Path) -> Verdict:
    return conclude(data, folder / "out", ["run0", "run1"], POINT)


@pytest.mark.parametrize("text", ["", "2,8", "8,2@3", "2,3@2", "2,4,8@9", "2,4,8@1", "2@2", "2,8@4a9", "2,8@4t8", "2,8@4a8t4"])
def test_a_point_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^point: expected"):
        Point.parse(text)


def test_a_point_is_read_as_it_is_written() -> None:
    assert Point.parse("0,2,4,8@2.5") == Point((0, 2, 4, 8), 2.5)
    assert str(Point((2, 4, 8), 3.0)) == "2,4,8@3"
    assert Point.parse("2,4,8@3a8") == Point((2, 4, 8), 3.0, 8)
    for text in ("2,4,8@3a8", "2,4,8@3t4", "2,4,8@3t2a8"):
        assert str(Point.parse(text)) == text
    assert Point.parse("2,4,8@3t2a8") == Point((2, 4, 8), 3.0, 8, 2)


def test_a_row_is_judged_once(data: Dataset, folder: Path) -> None:
    runs = [folder / "run0", folder / "run1"]
    assert list(study(data, runs, [POINT], folder / "out")) == []
    place = folder / "out" / "run1" / "rows" / str(POINT)
    before = read_row(place / f"{OWN}.npz")
    (place / "ridge.done").unlink()
    (place / f"{OWN}.npz").unlink()
    assert [done.row for done in study(data, runs, [POINT], folder / "out")] == [OWN]
    after = read_row(place / f"{OWN}.npz")
    assert np.array_equal(before.ranks, after.ranks)
    assert np.array_equal(before.log_likelihood, after.log_likelihood)


def test_rows_of_the_same_model_agree_and_seeds_are_pooled(data: Dataset, folder: Path, verdict: Verdict) -> None:
    rows = {row.name: row for row in verdict.rows}
    assert rows["float32"].ndcg_at_10.mean == pytest.approx(rows["8 bits for all"].ndcg_at_10.mean, abs=0.02)
    assert verdict.log_likelihood["2 bits for all"] != verdict.log_likelihood["8 bits for all"]
    each = [read_row(folder / "out" / run / "rows" / str(POINT) / f"{OWN}.npz").mean_likelihood for run in ("run0", "run1")]
    assert verdict.log_likelihood[OWN] == pytest.approx(np.mean(each))
    assert rows[OWN].cases == len(data.split().test)


def test_a_row_is_shown_as_a_share_of_float32(verdict: Verdict) -> None:
    (whole, shares), *others = verdict.shares.items()
    assert (whole, others) == ("float32", [])
    mean = {row.name: row.ndcg_at_10.mean for row in verdict.rows}
    assert shares.keys() == mean.keys() - {"float32"}
    for name, share in shares.items():
        assert share.mean == pytest.approx(mean[name] / mean["float32"])
        assert share.low <= share.mean <= share.high
    tables = [line for line in chord_lines(verdict) if isinstance(line, Table)]
    names, cells = (list(column.cells) for column in tables[-1].columns)
    own = shares[OWN]
    assert cells[names.index(OWN)] == f"{own.mean:.1%} ({own.low:.1%} … {own.high:.1%})"
    assert cells[names.index("float32")] == ""


def test_nothing_is_personal_where_users_are_random(verdict: Verdict) -> None:
    (gap,) = (each for each in verdict.comparisons if (each.name, each.versus) == (OWN, ANOTHER))
    assert gap.ndcg_at_10.low <= 0 <= gap.ndcg_at_10.high
    assert gap.log_likelihood is not None
    assert gap.log_likelihood.mean < 0.02


def test_a_payload_ages(folder: Path, verdict: Verdict) -> None:
    rows = folder / "out" / "run0" / "rows" / str(POINT)
    fresh, two, five = (read_row(rows / f"{name}.npz").log_likelihood for name in (OWN, AGED.format(2), AGED.format(5)))
    assert 0 < (two != fresh).mean() <= (five != fresh).mean() or (fresh == five).all()
    held = {name: {each.versus for each in verdict.comparisons if each.name == name} for name in (OWN, AGED.format(5))}
    assert {AGED.format(2), AGED.format(5), ANOTHER} <= held[OWN]
    assert ANOTHER in held[AGED.format(5)]
    assert not {OWN, AGED.format(2), AGED.format(5)} & held[AGED.format(5)]


def test_a_level_is_held_against_the_whole(verdict: Verdict) -> None:
    rivals = {each.versus for each in verdict.comparisons if "without element level" in each.name}
    assert rivals == {"own widths (chord)"}


def test_a_study_from_before_lengths_were_chosen_is_refused(data: Dataset, folder: Path, tmp_path: Path) -> None:
    older = copytree(folder / "out", tmp_path / "out")
    spread = older / "run0" / "rows" / str(POINT) / "spread-ridge.json"
    spread.write_text('{"entropy":1,"distance":0.5,"churn":0.3}')
    with pytest.raises(UsageError, match=r"spread-ridge\.json: expected a spread with its length"):
        conclude(data, older, ["run0", "run1"], POINT)


def test_two_runs_of_one_name_are_refused(data: Dataset, folder: Path) -> None:
    with pytest.raises(UsageError, match="different names, got run0, run0"):
        next(study(data, [folder / "run0", folder / "run0"], [POINT], folder / "other"))


def test_activations_of_8_bits_change_little_and_of_2_bits_much_and_the_ridge_is_judged_alone(
    data: Dataset, folder: Path
) -> None:
    points = [Point((2, 8), 4.0, bits) for bits in (8, 2)]
    done = list(study(data, [folder / "run0"], points, folder / "out", ["ridge"]))
    assert len(done) == 2 * 10
    assert not [each for each in done if "chord" in each.row]
    places = [folder / "out" / "run0" / "rows" / str(point) for point in (POINT, *points)]
    plain, fine, coarse = (read_row(place / f"{OWN}.npz").log_likelihood for place in places)
    assert 0 < np.abs(fine - plain).mean() < 0.2 * np.abs(coarse - plain).mean()


def test_item_rows_of_4_bits_change_little_and_of_2_bits_more(data: Dataset, folder: Path) -> None:
    points = [Point((2, 8), 4.0, table=bits) for bits in (4, 2)]
    done = list(study(data, [folder / "run0"], points, folder / "out", ["ridge"]))
    assert [each.row for each in done].count("8 bits for all, item rows too") == 2
    rows = folder / "out" / "run0" / "rows"
    whole = read_row(rows / "same-for-every-point" / "8 bits for all.npz").log_likelihood
    fine, coarse = (read_row(rows / str(point) / "8 bits for all, item rows too.npz").log_likelihood for point in points)
    assert 0 < np.abs(fine - whole).mean() < 0.5 * np.abs(coarse - whole).mean()


def test_without_a_personal_part_own_widths_are_the_global_ones(
    data: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ossia.training.sensitivities.LENGTHS", (0.0,))
    list(study(data, [folder / "run0"], [Point((2, 8), 5.0)], folder / "out", ["ridge"]))
    rows = folder / "out" / "run0" / "rows" / "2,8@5"
    own, alike = (read_row(rows / f"{name}.npz").log_likelihood for name in (OWN, "global widths"))
    assert np.array_equal(own, alike)


def test_the_papers_random_encoder_is_a_row_and_a_trained_one_is_refused(data: Dataset, folder: Path) -> None:
    runs, recipe = [folder / "run0", folder / "run1"], load_run(folder / "run0").recipe
    for _ in train_backbone(data, replace(recipe, moving="items"), folder / "random"):
        pass
    others = [folder / "random"] * 2
    done = list(study_others(data, runs, others, folder / "out", RANDOM_ENCODER))
    assert [each.row for each in done] == ["float32, random encoder"] * 2
    assert not list(study_others(data, runs, others, folder / "out", RANDOM_ENCODER))
    comparisons = conclude(data, folder / "out", ["run0", "run1"], POINT).comparisons
    assert (OWN, "float32, random encoder") in [(each.name, each.versus) for each in comparisons]
    with pytest.raises(UsageError, match="moving=items"):
        next(study_others(data, runs[:1], runs[1:], folder / "out", RANDOM_ENCODER))
    with pytest.raises(UsageError, match="expected 2 runs"):
        next(study_others(data, runs, others[:1], folder / "out", RANDOM_ENCODER))


def test_the_float32_run_that_a_master_was_started_from_is_a_row_and_another_is_refused(data: Dataset, folder: Path) -> None:
    start = load_run(folder / "run0")
    for _ in train_backbone(data, replace(start.recipe, widths=Widths()), folder / "master", start=start, teacher=start):
        pass
    list(study_others(data, [folder / "master"], [folder / "run0"], folder / "masters", BEFORE))
    before = read_row(folder / "masters" / "master" / "rows" / COMMON / f"{BEFORE}.npz")
    as_trained = read_row(folder / "out" / "run0" / "rows" / COMMON / "float32.npz")
    assert np.array_equal(before.ranks, as_trained.ranks)
    with pytest.raises(UsageError, match="expected the run that this one was started from"):
        next(study_others(data, [folder / "master"], [folder / "run1"], folder / "masters", BEFORE))
    for _ in train_backbone(data, start.recipe, folder / "taught", start=start, teacher=start):
        pass
    done = study_others(data, [folder / "master"], [folder / "taught"], folder / "masters", SAME_TEACHER)
    assert [each.row for each in done] == ["float32, same teacher"]
    for _ in train_backbone(data, replace(start.recipe, dropout=0.0), folder / "otherwise", start=start, teacher=start):
        pass
    for other in ("run0", "master", "otherwise"):  # not taught; with widths; at another setting
        with pytest.raises(UsageError, match="expected a run with the start, the teacher and every setting of this one"):
            next(study_others(data, [folder / "master"], [folder / other], folder / "others", SAME_TEACHER))


def test_another_personalizer_is_refused(data: Dataset, folder: Path) -> None:
    with pytest.raises(UsageError, match=r"^personalizer: expected ridge or chord, got duet"):
        next(study(data, [folder / "run0"], [POINT], folder / "out", ["duet"]))


def test_the_static_control_takes_no_step_where_there_is_nothing_to_learn(data: Dataset, folder: Path) -> None:
    material = Material.prepare(data, folder / "run0", folder / "out" / "run0")
    shift = material.static_shift(material.observed(2, 8), material.test)
    states = material.frozen.states(material.test.batch(np.arange(8)).histories)
    assert float(shift.norm(dim=1).mean()) < float(states.norm(dim=1).mean())


def test_the_page_holds_every_row_and_nothing_from_outside(verdict: Verdict, tmp_path: Path) -> None:
    provenance = Provenance("ossia study chord", (), "a machine", {"torch": "2"}, "synthetic", "0" * 8, "2026-01-01")
    write_page(tmp_path / "chord.html", verdict, "synthetic", provenance)
    text = (tmp_path / "chord.html").read_text("utf-8")
    assert all(row.name.replace("'", "&#x27;") in text for row in verdict.rows)
    assert "log-likelihood, nats" in text
    assert "http:" not in text
    assert "https:" not in text
