"""The run folder: what a training leaves behind, and how it is read again.

    RUN/recipe.json              the resolved settings, seed included
    RUN/run.json                 the data's identity and size; library versions and machine of every session that trained here
    RUN/history.jsonl            a line per epoch
    RUN/best.safetensors         the weights of the best epoch on validation
    RUN/checkpoint.safetensors   everything that is needed to go on (`checkpoint.py`)

Every file is written whole, also the growing ones: a kill never leaves a torn line.
"""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
import torch
from msgspec import Struct

import ossia
from ossia.adaptation.tail import Tail
from ossia.backbones import BACKBONES, Backbone
from ossia.data import Dataset
from ossia.errors import ArtifactError, UsageError
from ossia.files import sha256_file, write_whole
from ossia.training.checkpoint import Epoch, read_tensors
from ossia.training.coarse import take_tail
from ossia.training.fit import seeded
from ossia.training.recipes import BackboneRecipe

RECIPE, RECORD, HISTORY, BEST, CHECKPOINT = (
    "recipe.json",
    "run.json",
    "history.jsonl",
    "best.safetensors",
    "checkpoint.safetensors",
)
LIBRARIES = ("torch", "numpy", "safetensors", "polars")


class Environment(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a session trained: what could change the last digits.

    Attributes:
        first_epoch: the first epoch that this session ran.
        versions: of Python, ossia and the libraries.
        machine: the processor's architecture and the operating system.
        threads: torch's threads on the CPU.
    """

    first_epoch: int
    versions: dict[str, str]
    machine: str
    threads: int


class Record(Struct, frozen=True, forbid_unknown_fields=True):
    """`run.json`: what was trained on, and where.

    Attributes:
        data_hash: the data's identity, 64 hexadecimal digits.
        users: users in the data.
        items: rows of the item table.
        sessions: every session, oldest first.
    """

    data_hash: str
    users: int
    items: int
    sessions: tuple[Environment, ...]
    kind: Literal["ossia-run"] = "ossia-run"
    version: Literal[1] = 1


@dataclass(frozen=True, eq=False)
class Run:
    """A training's result.

    Attributes:
        path: the run's folder.
        backbone: the best epoch's weights, on the CPU, in evaluation mode.
        recipe: the resolved settings.
        data_hash: identity of the data that it was trained on.
        epochs: what happened, oldest first.
        tail: product codes of its table that were trained along, of the same epoch; None where there were none.
    """

    path: Path
    backbone: Backbone
    recipe: BackboneRecipe
    data_hash: str
    epochs: tuple[Epoch, ...]
    tail: Tail | None = None


def load_run(path: Path | str) -> Run:
    """Read a run: one that is finished, or the best of one that is not.

    Args:
        path: the run's folder.

    Returns:
        the run.

    Raises:
        ArtifactError: it is no run folder, no epoch has ended yet, or a file is damaged; names the file.
    """
    path = Path(path)
    recipe, record = read_json(path / RECIPE, BackboneRecipe), read_json(path / RECORD, Record)
    backbone = build(recipe, record.items)
    weights, _ = read_tensors(path / BEST)
    tail = take_tail(weights)
    try:
        backbone.load_state_dict(weights)
    except RuntimeError as error:
        raise ArtifactError(f"{path / BEST}: expected the weights of {recipe.backbone}, got: {error}") from error
    return Run(path, backbone.eval(), recipe, record.data_hash, read_history(path / HISTORY), tail)


def build(recipe: BackboneRecipe, items: int) -> Backbone:
    """Make a recipe's backbone with its first weights, on the CPU.

    Args:
        recipe: shape and seed.
        items: rows of the item table.

    Returns:
        the module; equal recipes give equal weights.
    """
    with seeded((recipe.seed,), torch.device("cpu")):
        return BACKBONES[recipe.backbone](items, dim=recipe.dim, **recipe.sizes, dropout=recipe.dropout)


def open_run(path: Path, data: Dataset, recipe: BackboneRecipe, *, resume: bool) -> None:
    """Make a run's folder, or check that one that is there is of the same training.

    Args:
        path: the run's folder.
        data: what will be trained on.
        recipe: the resolved settings.
        resume: take up a run that is there; without it, only a new or empty folder will do.

    Raises:
        UsageError: a setting or the data differs from the folder's (names the field), or the folder is something else.
        ArtifactError: a file of the run is damaged.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        write_json(path / RECORD, Record(data.hash, data.users, data.items, ()))
        write_json(path / RECIPE, recipe)  # last: a folder with a recipe is a run
        return
    if not resume or not (path / RECORD).exists():
        wanted = "a run's folder, or a new or empty one" if resume else "a new or empty folder"
        raise UsageError(f"{path}: expected {wanted}, found an existing one")
    if not (path / RECIPE).exists():  # killed between the two files, before anything was trained
        write_json(path / RECIPE, recipe)
    _refuse_differences(path, data, recipe)


def with_start(recipe: BackboneRecipe, start: Run | None, data_hash: str) -> BackboneRecipe:
    """Write down in a recipe at whose weights training begins.

    Args:
        recipe: resolved.
        start: the run, if there is one.
        data_hash: the data's identity.

    Returns:
        the recipe, which names the weights.

    Raises:
        UsageError: the run is of other sizes or data, or has seen the validation events that are still to choose by.
    """
    if start is None and recipe.coarse:
        raise UsageError("coarse: expected a run to start at, to whose table codes are fitted (--start RUN), got none")
    if start is None:
        return msgspec.structs.replace(recipe, start="")
    ours, theirs = ((each.backbone, each.dim, each.sizes) for each in (recipe, start.recipe))
    if ours != theirs:
        raise UsageError(f"start: expected a run of {ours}, got {theirs}")
    if start.data_hash != data_hash:
        raise UsageError(f"start: expected a run on data {data_hash[:12]}…, got one on {start.data_hash[:12]}…")
    if start.recipe.refit and not recipe.refit:
        raise UsageError(f"start: expected a run that has not seen validation events, got the refit {start.path}")
    return msgspec.structs.replace(recipe, start=sha256_file(start.path / BEST))


def add_session(path: Path, first_epoch: int) -> None:
    """Note in `run.json` that this process trains from now on.

    Args:
        path: the run's folder.
        first_epoch: the epoch it begins with.
    """
    record = read_json(path / RECORD, Record)
    earlier = tuple(session for session in record.sessions if session.first_epoch < first_epoch)
    write_json(path / RECORD, msgspec.structs.replace(record, sessions=(*earlier, _environment(first_epoch))))


def write_history(path: Path, epochs: Sequence[Epoch]) -> None:
    """Write a line of JSON per epoch, the whole file at once.

    Args:
        path: the file.
        epochs: oldest first.
    """
    write_whole(path, b"".join(msgspec.json.encode(epoch) + b"\n" for epoch in epochs))


def read_history(path: Path) -> tuple[Epoch, ...]:
    """Read what `write_history` wrote.

    Args:
        path: the file.

    Returns:
        the epochs, oldest first.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    return tuple(_decode(path, line, Epoch) for line in _bytes(path).splitlines())


Document = TypeVar("Document", bound=Struct)


def write_json(path: Path, document: Struct) -> None:
    """Write a document for people to read.

    Args:
        path: the file.
        document: what to write.
    """
    write_whole(path, msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")


def read_json(path: Path, kind: type[Document]) -> Document:
    """Read a document.

    Args:
        path: the file.
        kind: what it must be.

    Returns:
        the document.

    Raises:
        ArtifactError: the file is missing, no JSON, or has other fields.
    """
    return _decode(path, _bytes(path), kind)


def _refuse_differences(path: Path, data: Dataset, recipe: BackboneRecipe) -> None:
    """Hold a run's folder to the settings and the data of the training that would go on in it."""
    earlier = read_json(path / RECIPE, BackboneRecipe).resolve(
        data.items
    )  # a setting that is newer than the run is decided now
    before, now = (msgspec.to_builtins(settings) for settings in (earlier, recipe))
    for name in (name for name in before if before[name] != now[name]):
        raise UsageError(f"{path / RECIPE}: expected {name} {before[name]!r} as in the run so far, got {now[name]!r}")
    record = read_json(path / RECORD, Record)
    if record.data_hash != data.hash:
        raise UsageError(f"{path / RECORD}: expected data with hash {record.data_hash[:12]}…, got {data.hash[:12]}…")


def _environment(first_epoch: int) -> Environment:
    """Describe this process."""
    versions = {"python": platform.python_version(), "ossia": ossia.__version__}
    return Environment(
        first_epoch,
        versions | {name: _version(name) for name in LIBRARIES},
        f"{platform.machine()} {platform.system()}",
        torch.get_num_threads(),
    )


def _version(library: str) -> str:
    """Name a library's version."""
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"


def _bytes(path: Path) -> bytes:
    """Read a file of the run."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: expected a file of a run folder, got: {error.strerror or error}") from error


def _decode(path: Path, content: bytes, kind: type[Document]) -> Document:
    """Decode JSON."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: expected what training writes, got: {error}") from error
