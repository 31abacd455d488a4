"""The study of widths trains a lesson once, judges each slice once, and pools its seeds."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from ossia.backbones import TorchRanker
from ossia.cli import main
from ossia.data import Dataset, synthetic
from ossia.errors import UsageError
from ossia.evaluation import ndcg_at_k, target_ranks
from ossia.files import sha256_file
from ossia.studies.widths import ALONE, ALONE_TAUGHT, FLOAT, LESSONS, Settings, conclude, study
from ossia.training import BackboneRecipe, load_run, train_backbone
from ossia.training.run import BEST

SETTINGS = Settings((ALONE, ALONE_TAUGHT, "by step, taught", "shared exponent"), epochs=1)
ROWS = [
    "float32", "post-training, 8 bits", "post-training, 4 bits", "post-training, 2 bits", "2 bits alone", "2 bits, taught",
    "by step, taught, 8 bits", "by step, taught, 4 bits", "by step, taught, 2 bits",
    "shared exponent, 8 bits", "shared exponent, 4 bits", "shared exponent, 2 bits",
]  # fmt: skip


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic(60, 30, 8, predictability=0.8, seed=0)


@pytest.fixture(scope="module")
def folder(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short runs, and a study of them."""
    folder = tmp_path_factory.mktemp("study")
    for seed in (0, 1):
        recipe = BackboneRecipe(dim=8, length=6, blocks=1, heads=1, hidden=8, batch=128, epochs=2, seed=seed)
        list(train_backbone(data, recipe, folder / f"run{seed}"))
    done = list(study(data, runs_of(folder), SETTINGS, folder / "out"))
    assert len([each for each in done if each.what.endswith("judged")]) == 2 * len(ROWS)
    return folder


def runs_of(folder: Path) -> list[Path]:
    return [folder / "run0", folder / "run1"]


def test_what_was_trained_and_judged_is_not_again(data: Dataset, folder: Path) -> None:
    assert list(study(data, runs_of(folder), SETTINGS, folder / "out")) == []
    lost = folder / "out" / "run1" / "rows" / "by step, taught, 2 bits.npz"
    before = np.load(lost)["ranks"]
    lost.unlink()
    assert [each.what for each in study(data, runs_of(folder), SETTINGS, folder / "out")] == ["by step, taught, 2 bits: judged"]
    assert np.array_equal(np.load(lost)["ranks"], before)


def test_every_slice_has_a_row_with_its_seeds_pooled(data: Dataset, folder: Path) -> None:
    verdict = conclude(data, folder / "out", ["run0", "run1"], SETTINGS)
    assert [row.name for row in verdict.rows] == ROWS
    test = data.split().test
    each = [ndcg_at_k(target_ranks(TorchRanker(load_run(run).backbone), test, data.items), 10) for run in runs_of(folder)]
    assert verdict.rows[0].ndcg_at_10.mean == pytest.approx(np.mean(each))
    assert verdict.rows[0].cases == len(test)


def test_two_bits_are_held_against_training_for_two_bits_and_all_else_against_float32(data: Dataset, folder: Path) -> None:
    verdict = conclude(data, folder / "out", ["run0", "run1"], SETTINGS)
    pairs = {(each.difference.name, each.difference.versus): each.share.mean for each in verdict.comparisons}
    narrow = {name for name in ROWS if name.endswith(", 2 bits")}
    assert set(pairs) == {(name, alone) for name in narrow for alone in (ALONE, ALONE_TAUGHT)} | {
        (name, FLOAT) for name in ROWS if name != FLOAT and name not in narrow
    }
    quality = {row.name: row.ndcg_at_10.mean for row in verdict.rows}
    for (name, versus), share in pairs.items():
        assert share == pytest.approx(quality[name] / quality[versus])


def test_a_taught_lesson_has_its_run_in_float32_as_the_teacher(folder: Path) -> None:
    def recipe(lesson: str) -> BackboneRecipe:
        return load_run(folder / "out" / "run0" / lesson).recipe

    taught = recipe("by-step-taught").distillation
    assert taught and taught.teacher == sha256_file(folder / "run0" / BEST)
    assert recipe("2-bits-alone").distillation is None


def test_other_settings_and_unknown_lessons_are_refused(data: Dataset, folder: Path) -> None:
    with pytest.raises(UsageError, match="lesson: expected one of '2 bits alone', '2 bits, taught', 'by step'"):
        list(study(data, runs_of(folder), Settings(("fast",)), folder / "out"))
    with pytest.raises(UsageError, match="expected epochs 1"):
        list(study(data, runs_of(folder), Settings((ALONE,), epochs=2), folder / "out"))
    with pytest.raises(UsageError, match="different names"):
        list(study(data, [folder / "run0", folder / "run0"], SETTINGS, folder / "out"))
    with pytest.raises(UsageError, match="expected a run on data"):
        list(study(synthetic(60, 30, 8, predictability=0.8, seed=1), runs_of(folder), SETTINGS, folder / "out"))


def test_a_lesson_keeps_its_runs_recipe_but_for_widths_epochs_and_step_size(folder: Path) -> None:
    run = load_run(folder / "run1")
    for lesson in LESSONS:
        recipe = msgspec.structs.asdict(SETTINGS.recipe(run, lesson))
        assert {name for name, value in msgspec.structs.asdict(run.recipe).items() if recipe[name] != value} == {
            "widths", "epochs", "patience", "lr",
        }  # fmt: skip


def test_the_command_prints_one_table(data: Dataset, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data.save(folder / "data")
    runs = [option for run in runs_of(folder) for option in ("--run", str(run))]
    lessons = [option for lesson in SETTINGS.lessons for option in ("--lesson", lesson)]
    typed = ["study", "widths", str(folder / "data"), *runs, *lessons, "--epochs", "1", "--out", str(folder / "out")]
    said = [_say(command, capsys) for command in (typed, [*typed, "--json"])]
    assert all(row in said[0] for row in ROWS)
    assert [row["name"] for row in msgspec.json.decode(said[1])["verdict"]["rows"]] == ROWS


def _say(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main(command)
    assert end.value.code == 0
    return capsys.readouterr().out
