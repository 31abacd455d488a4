"""A trained personalizer becomes a folder that the service can read: graphs, manifest, controls, figures.

    BASE/personalizers/NAME/     manifest.json · model.onnx · constant.safetensors · history.jsonl

A generator has other graphs. The folder appears whole or not at all. The manifest holds what is needed to make it again
(recipe, seed, data, base, versions) and what was measured on validation. `constant.safetensors` is the answer for nobody in
particular: the mean importance over users, for channels and for rows of the table, or the mean profile. Whoever claims that an
answer is personal must beat it.
"""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np

import ossia
from ossia.adaptation.manifests import tensor_bytes, write_files, write_manifest
from ossia.adaptation.personalizer_manifest import CONSTANT, HISTORY, Generated, PersonalizerManifest, personalizer_folder
from ossia.evaluation import ndcg_at_k
from ossia.files import folder_whole
from ossia.training.course import Course
from ossia.training.personalizer_checkpoint import PersonalizerEpoch

LIBRARIES = ("torch", "numpy", "onnx", "safetensors")


def release(
    course: Course,
    epochs: tuple[PersonalizerEpoch, ...],
    graphs: Mapping[str, bytes],
    constant: dict[str, np.ndarray],
    *,
    alphabet: tuple[int, ...] = (),
    beta: float = 0.0,
    rows: Mapping[str, float] | None = None,
    generated: Generated | None = None,
) -> Path:
    """Install a personalizer beside its base; one of the same name is replaced.

    Args:
        course: of its training.
        epochs: what happened, oldest first.
        graphs: what the service runs, by file name.
        constant: the answer for nobody in particular.
        alphabet: widths that a channel may have.
        beta: weight of log popularity in the importance of rows.
        rows: what was measured when β was chosen.
        generated: what a generator generates.

    Returns:
        the personalizer's folder.
    """
    base, recipe = course.frozen.base, course.recipe
    history = b"".join(msgspec.json.encode(epoch) + b"\n" for epoch in epochs)
    folder = personalizer_folder(course.path, str(recipe.name))
    with folder_whole(folder, replace=True) as fresh:
        manifest = PersonalizerManifest(
            method=recipe.personalizer,
            base=base.id.hex(),
            profile_dim=base.manifest.shape["dim"],
            channels=base.channels,
            alphabet=alphabet,
            beta=beta,
            temperature=course.frozen.temperature,
            recipe=msgspec.to_builtins(recipe),
            data=course.data.hash,
            versions=_versions(),
            validation=_figures(course, max(epochs, key=lambda epoch: epoch.own)) | dict(rows or {}),
            files=write_files(fresh, {**graphs, CONSTANT: tensor_bytes(constant), HISTORY: history}),
            generated=generated,
        )
        write_manifest(fresh / "manifest.json", manifest)
    return folder


def _figures(course: Course, best: PersonalizerEpoch) -> dict[str, float]:
    """Collect the figures of validation: the best epoch's choices, and the base at 8 bits."""
    whole = course.frozen.judge(course.select)
    return {
        "cases": float(len(course.select)),
        "own_log_likelihood": best.own,
        "another_log_likelihood": best.another,
        "constant_log_likelihood": best.constant,
        "own_ndcg": best.validation_ndcg,
        "base_log_likelihood": whole.mean_likelihood,
        "base_ndcg": ndcg_at_k(whole.ranks, 10),
    }


def _versions() -> dict[str, str]:
    """Name what could change the result."""
    here = {"python": platform.python_version(), "ossia": ossia.__version__, "machine": platform.machine()}
    return here | {name: version(name) for name in LIBRARIES}
