"""What an interrupted training of a personalizer needs to go on, and what tells one training from another.

    BASE/.NAME.training/checkpoint.safetensors     model, best and optimizer tensors; epochs, recipe, data, base

One file, written whole after each epoch, like the backbone's. A training with other settings, other data or another base is
refused by the name of what differs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from torch import Tensor

from ossia.adaptation import Base
from ossia.adaptation.manifests import read_manifest
from ossia.adaptation.personalizer_manifest import PersonalizerManifest
from ossia.errors import ArtifactError, UsageError
from ossia.files import write_whole
from ossia.training.checkpoint import read_tensors, tensor_bytes

FORMAT = "ossia-personalizer-checkpoint-1"
CHECKPOINT = "checkpoint.safetensors"
GROUPS = ("model", "best", "optimizer")


class PersonalizerEpoch(Struct, frozen=True, forbid_unknown_fields=True):
    """What one pass over the events did; a line of `history.jsonl`.

    Attributes:
        index: 0 for the first epoch.
        loss: mean loss over the epoch's steps: nats, or the squared error of log importance in a warm start.
        own: mean log-likelihood of the next item on validation, every user with their own answer.
        another: the same, every user with another user's.
        constant: the same, everybody with the average user's.
        validation_ndcg: NDCG@10 on validation with their own.
        best: no earlier epoch's `own` was as good, so its weights were kept.
        seconds: what it took, validation included.
    """

    index: int
    loss: float
    own: float
    another: float
    constant: float
    validation_ndcg: float
    best: bool
    seconds: float

    def __str__(self) -> str:
        """Say it in a line, for people."""
        gains = f"{self.own - self.another:+.4f} over another user's, {self.own - self.constant:+.4f} over everybody's"
        mark = " (best)" if self.best else ""
        return f"epoch {self.index}: loss {self.loss:.3f}, own {self.own:.4f} nats, {gains}{mark}"


@dataclass(frozen=True, eq=False)
class State:
    """A training's whole state after an epoch: tensors by name, and what happened, oldest first."""

    model: Mapping[str, Tensor]
    best: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    epochs: tuple[PersonalizerEpoch, ...]


def training_folder(base: Path, name: str) -> Path:
    """Return where an unfinished training of a personalizer keeps its state.

    Args:
        base: the base's folder.
        name: the personalizer's name.

    Returns:
        a hidden folder in the base's.
    """
    return base / f".{name}.training"


def save_state(folder: Path, state: State, recipe: Struct, data_hash: str, base: Base) -> None:
    """Write the state in one step.

    Args:
        folder: the training's folder.
        state: what to write.
        recipe: the resolved settings.
        data_hash: identity of the data.
        base: the frozen base.
    """
    tensors = {f"{group}.{name}": tensor for group in GROUPS for name, tensor in getattr(state, group).items()}
    texts = {"epochs": state.epochs, "identity": _identity(recipe, data_hash, base)}
    encoded = {name: msgspec.json.encode(value).decode() for name, value in texts.items()}
    write_whole(folder / CHECKPOINT, tensor_bytes(tensors, format=FORMAT, **encoded))


def load_state(folder: Path, recipe: Struct, data_hash: str, base: Base) -> State | None:
    """Read the state of a training that was interrupted.

    Args:
        folder: the training's folder.
        recipe: the resolved settings of the training that would go on.
        data_hash: identity of its data.
        base: its base.

    Returns:
        the state, on the CPU; None if there is none.

    Raises:
        UsageError: the interrupted training was another one; names what differs.
        ArtifactError: the file is damaged.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    tensors, texts = read_tensors(path)
    groups: dict[str, dict[str, Tensor]] = {group: {} for group in GROUPS}
    try:
        identity = msgspec.json.decode(texts["identity"], type=dict[str, Any])
        epochs = msgspec.json.decode(texts["epochs"], type=tuple[PersonalizerEpoch, ...])
        for name, tensor in tensors.items():
            group, _, rest = name.partition(".")
            groups[group][rest] = tensor
    except (KeyError, msgspec.MsgspecError) as error:
        raise ArtifactError(f"{path}: expected what training writes, got: {error}") from error
    _refuse_differences(path, identity, _identity(recipe, data_hash, base))
    return State(groups["model"], groups["best"], groups["optimizer"], epochs)


def check_installed(folder: Path, base: Base, recipe: Struct, data_hash: str) -> bool:
    """Tell whether this very training is finished and installed.

    Args:
        folder: where the personalizer would be.
        base: the base.
        recipe: the resolved settings.
        data_hash: identity of the data.

    Returns:
        whether there is nothing left to do.

    Raises:
        UsageError: what is installed under that name was trained otherwise; names what differs.
        ArtifactError: its manifest is damaged.
    """
    path = folder / "manifest.json"
    if not path.exists():
        return False
    _, manifest = read_manifest(path, PersonalizerManifest)
    found = {**manifest.recipe, "data": manifest.data, "base": manifest.base}
    _refuse_differences(path, found, _identity(recipe, data_hash, base))
    return True


def _identity(recipe: Struct, data_hash: str, base: Base) -> dict[str, Any]:
    """Collect what must be equal for two trainings to be the same, as JSON has it."""
    settings = msgspec.json.decode(msgspec.json.encode(recipe), type=dict[str, Any])
    return {**settings, "data": data_hash, "base": base.id.hex()}


def _refuse_differences(path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise UsageError at the first difference."""
    for name in (name for name in now if before.get(name) != now[name]):
        raise UsageError(
            f"{path}: expected {name} {before.get(name)!r} as in the training so far, got {now[name]!r}; begin anew or"
            " choose another name"
        )
