"""A trained personalizer becomes a folder that the service can read: graph, manifest, controls, figures.

    BASE/personalizers/NAME/     manifest.json · model.onnx · constant.safetensors · history.jsonl

The folder appears whole or not at all. The manifest holds what is needed to make it again (recipe, seed, data, base, versions)
and what was measured on validation. `constant.safetensors` is the answer for nobody in particular: the mean importance over
users, for channels and for rows of the table. Whoever claims that an answer is personal must beat it.
"""

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

import ossia
from ossia.adaptation.manifests import tensor_bytes, write_files, write_manifest
from ossia.adaptation.personalizer_manifest import CONSTANT, HISTORY, MODEL, PersonalizerManifest, personalizer_folder
from ossia.evaluation import ndcg_at_k
from ossia.evaluation.controls import another_user
from ossia.files import folder_whole
from ossia.personalizers import AbstractPersonalizer
from ossia.training.course import Choices
from ossia.training.export import export_onnx
from ossia.training.frozen import Events, FrozenBase
from ossia.training.personalizer_checkpoint import PersonalizerEpoch
from ossia.training.personalizer_recipe import PersonalizerRecipe
from ossia.training.row_prior import RowPrior

LIBRARIES = ("torch", "numpy", "onnx", "safetensors")
MOST_USERS = 4_096
"""Users that a mean is taken over; more would not move it."""
CHUNK = 512


@torch.no_grad()
def compare_choices(
    frozen: FrozenBase, personalizer: AbstractPersonalizer, learn: Events, select: Events, bits: float, seed: int
) -> Choices:
    """Give every user their own widths, another user's, and the average user's.

    Args:
        frozen: the base.
        personalizer: the personalizer, on the base's device.
        learn: whose average is the average user.
        select: on whom to compare; at least two.
        bits: average width.
        seed: of who gets whose.

    Returns:
        the comparison.
    """
    importance = mean_importance(personalizer, learn.profiles)
    steps = own_steps(personalizer, select.profiles, bits)
    own = frozen.judge(select, steps)
    another = frozen.judge(select, steps[another_user(len(select), seed=seed)])
    constant = frozen.judge(select, personalizer.cut(importance[None], bits).cpu().expand_as(steps))
    return Choices(own.mean_likelihood, another.mean_likelihood, constant.mean_likelihood, ndcg_at_k(own.ranks, 10))


def release(
    path: Path,
    frozen: FrozenBase,
    personalizer: AbstractPersonalizer,
    learn: Events,
    select: Events,
    rows: RowPrior,
    recipe: PersonalizerRecipe,
    data_hash: str,
    epochs: Sequence[PersonalizerEpoch],
) -> Path:
    """Install a personalizer beside its base; one of the same name is replaced.

    Args:
        path: the base's folder.
        frozen: the base.
        personalizer: the best epoch's weights, on the CPU.
        learn: what was learned from.
        select: what epochs were chosen on.
        rows: the choice of β.
        recipe: the resolved settings.
        data_hash: identity of the data.
        epochs: what happened, oldest first.

    Returns:
        the personalizer's folder.
    """
    base, best = frozen.base, max(epochs, key=lambda epoch: epoch.own)
    constant = constant_importance(frozen, personalizer, learn, rows.beta)
    content = {
        MODEL: export_onnx(personalizer, {"profiles": base.manifest.shape["dim"]}, "importance"),
        CONSTANT: tensor_bytes(constant),
        HISTORY: b"".join(msgspec.json.encode(epoch) + b"\n" for epoch in epochs),
    }
    folder = personalizer_folder(path, str(recipe.name))
    with folder_whole(folder, replace=True) as fresh:
        manifest = PersonalizerManifest(
            method=recipe.personalizer,
            base=base.id.hex(),
            profile_dim=base.manifest.shape["dim"],
            channels=base.channels,
            alphabet=recipe.alphabet,
            beta=rows.beta,
            temperature=frozen.temperature,
            recipe=msgspec.to_builtins(recipe),
            data=data_hash,
            versions=versions(),
            validation=figures(frozen, select, best) | {f"rows_ndcg_beta_{b:g}": q for b, q in rows.quality.items()},
            files=write_files(fresh, content),
        )
        write_manifest(fresh / "manifest.json", manifest)
    return folder


@torch.no_grad()
def constant_importance(
    frozen: FrozenBase, personalizer: AbstractPersonalizer, events: Events, beta: float
) -> dict[str, np.ndarray]:
    """Average what users want, for channels and for rows.

    Args:
        frozen: the base.
        personalizer: the personalizer, on the CPU.
        events: whose profiles to average over; at most the first 4,096.
        beta: weight of log popularity in the rows' importance.

    Returns:
        one importance for everybody: `channels` and `rows`.
    """
    profiles = events.profiles[:MOST_USERS]
    vectors = frozen.vectors.cpu()
    prior = beta * torch.from_numpy(np.log1p(frozen.base.table.counts))
    shares = [
        ((chunk @ vectors.T + prior) / frozen.temperature).softmax(dim=1).sum(dim=0) for chunk in torch.split(profiles, CHUNK)
    ]
    rows = torch.stack(shares).sum(dim=0) / len(profiles)
    return {"channels": mean_importance(personalizer, profiles).numpy(), "rows": rows.numpy()}


@torch.no_grad()
def mean_importance(personalizer: AbstractPersonalizer, profiles: Float[Tensor, "users dim"]) -> Float[Tensor, " channels"]:
    """Average importance over users, each of whom has mean 1: nobody is louder than others.

    Args:
        personalizer: the personalizer.
        profiles: on the CPU; at most the first 4,096 are read.

    Returns:
        the mean, on the personalizer's device.
    """
    read = profiles[:MOST_USERS].to(personalizer.step_bits.device)
    return torch.stack([personalizer.importance(chunk).sum(dim=0) for chunk in torch.split(read, CHUNK)]).sum(dim=0) / len(read)


@torch.no_grad()
def own_steps(
    personalizer: AbstractPersonalizer, profiles: Float[Tensor, "users dim"], bits: float
) -> Float32[Tensor, "users steps channels"]:
    """Choose each user's widths at an average, hard.

    Args:
        personalizer: the personalizer.
        profiles: on the CPU.
        bits: average width.

    Returns:
        masks, on the CPU.
    """
    chunks = torch.split(profiles.to(personalizer.step_bits.device), CHUNK)
    return torch.cat([personalizer.cut(personalizer.importance(chunk), bits).cpu() for chunk in chunks])


def figures(frozen: FrozenBase, select: Events, best: PersonalizerEpoch) -> dict[str, float]:
    """Collect the figures of validation: the best epoch's choices, and the base at 8 bits.

    Args:
        frozen: the base.
        select: what epochs were chosen on.
        best: the epoch that is installed.

    Returns:
        by name.
    """
    whole = frozen.judge(select)
    return {
        "cases": float(len(select)),
        "own_log_likelihood": best.own,
        "another_log_likelihood": best.another,
        "constant_log_likelihood": best.constant,
        "own_ndcg": best.validation_ndcg,
        "base_log_likelihood": whole.mean_likelihood,
        "base_ndcg": ndcg_at_k(whole.ranks, 10),
    }


def versions() -> dict[str, str]:
    """Name what could change the result.

    Returns:
        versions by name.
    """
    here = {"python": platform.python_version(), "ossia": ossia.__version__, "machine": platform.machine()}
    return here | {name: version(name) for name in LIBRARIES}
