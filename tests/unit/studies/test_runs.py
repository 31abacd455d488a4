"""Runs are told apart by their names: two of one name would be judged as one, and counted as two."""

from pathlib import Path

import pytest

from ossia.data import synthetic
from ossia.errors import UsageError
from ossia.studies.catalog_study import study
from ossia.studies.runs import names_of


def test_a_run_is_called_like_its_folder_wherever_it_lies(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "run0")
    assert names_of([tmp_path / "link", tmp_path / "." / "run1"]) == ["run0", "run1"]


@pytest.mark.parametrize("runs", [[], ["a/run", "b/run"]])
def test_two_of_one_name_or_none_are_refused_by_every_study(runs: list[str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected runs in folders of different names, got (none|run, run)"):
        names_of([Path(run) for run in runs])
    with pytest.raises(UsageError, match="different names"):
        next(study(synthetic(10, 10, 5, predictability=0.5, seed=0), [tmp_path / run for run in runs], tmp_path))
