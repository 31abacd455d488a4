"""The teacher's top lists: computed once, kept beside the student, read at every epoch.

    RUN/teacher.npy      for each training event, in the order of windows: items int32[K] · scores float16[K], best first

An epoch that asked the teacher again would cost three to five plain ones; reading its lists costs about nothing. They are made
in one pass over the training windows, a few thousand events at a time, and appended to `RUN/teacher.npy.part`: memory is
bounded by a chunk, and a pass that was killed goes on where it stopped. Only a whole file has the name without `.part`.

The teacher reads the student's windows, so it may be longer but not shorter. **Nothing is left out of its list**, not what the
user has had either: the student's softmax runs over the whole catalog, and lists without what most users have had teach it that
just those items are unlikely. K·6 bytes an event: 16 MB for Amazon Beauty at K = 20. The file is mapped, not loaded.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import msgspec
import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from ossia.backbones import Backbone
from ossia.errors import ArtifactError, UsageError
from ossia.files import sha256_file
from ossia.training.batches import Batch, Windows, group_at_random
from ossia.training.recipes import BackboneRecipe, Distillation, window_of
from ossia.training.run import BEST, Run
from ossia.types import ABSENT

LISTS = "teacher.npy"
CHUNK_SCORES = 1 << 24
"""Scores held at a time: 64 MB."""


@dataclass(frozen=True, eq=False)
class TaughtBatch(Batch):
    """A batch with the teacher's list for each of its events.

    Attributes:
        lists: item rows, the teacher's best first, for the real events in row order.
        scores: the teacher's scores of them.
    """

    lists: Int[Tensor, "events top"]
    scores: Float[Tensor, "events top"]

    def to(self, device: torch.device) -> "TaughtBatch":
        """Put the batch on a device.

        Args:
            device: where.

        Returns:
            the batch there.
        """
        plain = (self.inputs, self.targets, self.positions, self.pieces)
        return TaughtBatch(*(tensor.to(device) for tensor in (*plain, self.lists, self.scores)))


def record(top: int) -> np.dtype:
    """Describe what is kept of one event.

    Args:
        top: K.

    Returns:
        the record's type.
    """
    return np.dtype([("items", "<i4", (top,)), ("scores", "<f2", (top,))])


def with_teacher(recipe: BackboneRecipe, teacher: Run | None, data_hash: str) -> BackboneRecipe:
    """Write down in a recipe whom the student learns from.

    Args:
        recipe: the student's.
        teacher: the teacher's run, if there is one.
        data_hash: the data's identity.

    Returns:
        the recipe, with a distillation exactly if there is a teacher.

    Raises:
        UsageError: a distillation without a teacher, or a teacher that was trained on other data, or on the
            student's validation events.
    """
    if teacher is None:
        if recipe.distillation is not None:
            raise UsageError("distillation: expected a teacher's run to learn from, got none")
        return recipe
    if teacher.data_hash != data_hash:
        raise UsageError(f"teacher: expected data with hash {data_hash[:12]}…, got {teacher.data_hash[:12]}…")
    if teacher.recipe.refit and not recipe.refit:
        raise UsageError(f"teacher: expected one that has not seen validation events, got the refit {teacher.path}")
    distillation = recipe.distillation or Distillation()
    weights = sha256_file(teacher.path / BEST)
    return msgspec.structs.replace(recipe, distillation=msgspec.structs.replace(distillation, teacher=weights))


def read_lists(teacher: Run | None, windows: Windows, recipe: BackboneRecipe, out: Path) -> np.ndarray | None:
    """Return the lists that a recipe asks for, from the student's folder, made there if they are missing.

    Args:
        teacher: the teacher's run.
        windows: the student's.
        recipe: the student's, resolved.
        out: the student's run folder.

    Returns:
        see `teacher_lists`; None without a teacher.
    """
    if teacher is None or recipe.distillation is None:
        return None
    return teacher_lists(teacher.backbone.to(recipe.device), windows, recipe.distillation.top, out)


def teacher_lists(teacher: Backbone, windows: Windows, top: int, out: Path) -> np.ndarray:
    """Return the teacher's lists for all training events; made if they are not there, or not yet whole.

    Args:
        teacher: is put into evaluation mode.
        windows: the student's, at most as long as the teacher can read.
        top: items per list.
        out: the student's run folder.

    Returns:
        one `record` per event, in the order of the windows and, inside one, of its targets; mapped from the file.

    Raises:
        UsageError: the teacher can't read windows as long, or has no `top` items.
        ArtifactError: a file of that name holds something else.
    """
    longest, items = int(windows.sizes.max()), len(teacher.items.weight)
    if longest > window_of(teacher.kind, teacher.shape["length"]):
        raise UsageError(f"teacher: expected to read at least {longest} events, got length {teacher.shape['length']}")
    if top > items:
        raise UsageError(f"distillation: expected top of at most {items}, as many as there are items, got {top}")
    path, events = out / LISTS, int(windows.sizes.sum())
    if not path.exists():
        _append(teacher, windows, top, path.with_name(LISTS + ".part"), events)
        path.with_name(LISTS + ".part").replace(path)
    try:
        lists = np.load(path, mmap_mode="r")
    except (ValueError, OSError) as error:
        raise ArtifactError(f"{path}: expected the teacher's lists, got: {error}") from error
    if lists.dtype != record(top) or len(lists) != events:
        raise ArtifactError(f"{path}: expected lists of {top} for {events:,} events, got {lists.shape} of {lists.dtype}")
    return lists


def taught_batches(windows: Windows, lists: np.ndarray, events: int, rng: np.random.Generator) -> Iterator[TaughtBatch]:
    """Go once through all windows in random order, in the batches of `epoch_batches`, with the teacher's lists.

    Args:
        windows: what to train on.
        lists: of all training events.
        events: targets per batch, about.
        rng: the randomness.

    Yields:
        batches.
    """
    first = np.cumsum(windows.sizes) - windows.sizes
    for group in group_at_random(windows.sizes, events, rng):
        batch = windows.packed(group)
        chosen = lists[_targets_of(batch, windows, group, first)]
        items, scores = chosen["items"].astype(np.int64), chosen["scores"].astype(np.float32)
        plain = (batch.inputs, batch.targets, batch.positions, batch.pieces)
        yield TaughtBatch(*plain, torch.from_numpy(items), torch.from_numpy(scores))


def _targets_of(
    batch: Batch, windows: Windows, group: Int[np.ndarray, " chosen"], first: Int64[np.ndarray, " windows"]
) -> Int64[np.ndarray, " events"]:
    """Number the batch's targets, in row order, among all targets: `positions` counts them from a window's end."""
    real = batch.inputs.numpy() != ABSENT
    window = group[batch.pieces.numpy()[real]]
    return first[window] + windows.sizes[window] - 1 - batch.positions.numpy()[real]


def _append(teacher: Backbone, windows: Windows, top: int, path: Path, events: int) -> None:
    """Write the records that are missing, chunk by chunk."""
    header = BytesIO()
    shape = {"descr": np.lib.format.dtype_to_descr(record(top)), "fortran_order": False, "shape": (events,)}
    np.lib.format.write_array_header_1_0(header, shape)
    head, size, ends = header.getvalue(), record(top).itemsize, np.cumsum(windows.sizes)
    with path.open("r+b" if path.exists() else "w+b") as file:
        if file.read(len(head)) != head:
            file.seek(0)
            file.truncate()
            file.write(head)
        held = max(0, os.fstat(file.fileno()).st_size - len(head)) // size
        done = int(np.searchsorted(ends, held, side="right"))  # whole windows; a torn one is made again
        file.truncate(len(head) + int(ends[done - 1] if done else 0) * size)
        file.seek(0, os.SEEK_END)
        for chunk in _chunks(windows, done, max(1, CHUNK_SCORES // len(teacher.items.weight))):
            file.write(_records(teacher, windows.packed(chunk), windows.sizes[chunk], top).tobytes())
        file.flush()
        os.fsync(file.fileno())


def _chunks(windows: Windows, done: int, events: int) -> Iterator[Int64[np.ndarray, " chunk"]]:
    """Cut the windows from `done` on into runs of about `events` targets."""
    left = np.arange(done, len(windows))
    before = np.cumsum(windows.sizes[left]) - windows.sizes[left]
    return iter(np.split(left, np.flatnonzero(np.diff(before // events)) + 1) if len(left) else [])


@torch.no_grad()
def _records(teacher: Backbone, batch: Batch, sizes: Int64[np.ndarray, " chunk"], top: int) -> np.ndarray:
    """Rank the catalog for each event of a batch; the records come in the order of windows."""
    vectors = teacher.eval().items.weight
    batch = batch.to(vectors.device)
    real = batch.inputs != ABSENT
    states = teacher.encode(teacher.items(batch.inputs.clamp_min(0)), batch.positions, batch.pieces)[real]
    best, items = (states @ vectors.T).topk(top)
    ends = torch.from_numpy(np.cumsum(sizes)).to(real.device)
    order = (ends[batch.pieces[real]] - 1 - batch.positions[real]).cpu().numpy()
    records = np.empty(len(order), record(top))
    records["items"][order], records["scores"][order] = items.cpu().numpy(), best.cpu().numpy()
    return records
