"""The runs of a study: trainings that differ in their seed, each known by its folder's name, each published once."""

from collections.abc import Sequence
from pathlib import Path

from ossia.adaptation import Base
from ossia.data import Dataset
from ossia.errors import UsageError
from ossia.training import publish


def names_of(runs: Sequence[Path]) -> list[str]:
    """Name the runs of a study.

    Args:
        runs: their folders.

    Returns:
        one name each; what a study finds of a run lies in a folder of that name.

    Raises:
        UsageError: two runs of one name, or none.

    Example:
        >>> names_of([Path("/runs/seed-0"), Path("/runs/seed-1")])
        ['seed-0', 'seed-1']
    """
    names = [run.resolve().name for run in runs]
    if len(set(names)) != len(names) or not names:
        raise UsageError(f"study: expected runs in folders of different names, got {', '.join(names) or 'none'}")
    return names


def published(run: Path, data: Dataset, folder: Path) -> Base:
    """Publish a run, unless that is done.

    Args:
        run: the run's folder.
        data: what it was trained on.
        folder: its part of the study.

    Returns:
        its base.

    Raises:
        ArtifactError: the run was trained on other data.
    """
    return Base.load(folder / "base") if (folder / "base").exists() else publish(run, data, folder / "base")
