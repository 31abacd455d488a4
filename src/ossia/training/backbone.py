"""Training a backbone on a log: epochs, validation, early stopping, and a folder that remembers.

    w_0 = init(seed)      w_e = fit(w_{e−1}, batches of epoch e)      keep the running mean w̄_e with the best validation NDCG@10

`train_backbone` is a generator of epochs, so that a caller watches by iterating and stops by stopping. After each epoch the
folder holds everything; called again with the same data and recipe, it goes on where it stopped, and what comes out is equal
to the last bit to a training that nobody interrupted (on the same machine, versions and number of threads). A finished run
yields nothing.

Nothing is chosen on test events: they are not read here. One process trains in a folder at a time; nothing guards that.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import torch
from torch import nn
from torch.optim import Adam, Optimizer

from ossia.adaptation.tail import Tail
from ossia.backbones import Backbone
from ossia.data import Cases, Dataset, Histories, item_counts, with_validation
from ossia.errors import ArtifactError, DataError, UsageError
from ossia.files import sha256_file, write_whole
from ossia.training.averaging import blend, keep_at
from ossia.training.batches import Batch, Windows, cut_windows, epoch_batches
from ossia.training.checkpoint import (
    Checkpoint,
    Epoch,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
    snapshot,
    tensor_bytes,
)
from ossia.training.coarse import attach, steps_of, with_coarse
from ossia.training.depth import at_drawn_depth, close_branches
from ossia.training.distill import DistilledLoss, distilled_loss
from ossia.training.fit import Loss, Step, fit
from ossia.training.losses import NextItemLoss, Proposal, next_item_loss
from ossia.training.memory import keep_freed_memory
from ossia.training.publish import tail_of, user_states
from ossia.training.ranks import Ranks, add_gradients, join_ranks, parts, weighted
from ossia.training.recipes import BackboneRecipe
from ossia.training.rows import RowAdam, RowMean
from ossia.training.run import (
    BEST,
    CHECKPOINT,
    HISTORY,
    Run,
    add_session,
    build,
    load_run,
    open_run,
    with_start,
    write_history,
)
from ossia.training.side_vectors import read_side_vectors, start_rows
from ossia.training.teacher import TaughtBatch, read_lists, taught_batches, with_teacher
from ossia.training.validation import choose_cases, validation_quality
from ossia.training.widths import WidthPath

ALONE = Ranks()

__all__ = ["Run", "finished", "load_run", "train_backbone"]


def train_backbone(
    data: Dataset,
    recipe: BackboneRecipe,
    out: Path | str,
    *,
    teacher: Run | None = None,
    item_vectors: Path | None = None,
    start: Run | None = None,
    resume: bool = True,
) -> Iterator[Epoch]:
    """Train a backbone, or go on with a training that was interrupted.

    Args:
        data: the prepared log; its test events are never trained on, its validation events only in a refit.
        recipe: the settings; what they leave open is decided here, and written down.
        out: the run's folder: new, empty, or a run of the same data and settings.
        teacher: a run on the same data to distill from, always the same one; None without a teacher.
        item_vectors: a file of vectors by item id, at which item rows begin (`side_vectors.py`); always the same one.
        start: a run of the same sizes on the same data, at whose weights training begins; always the same one.
        resume: whether a run that is there may be taken up.

    Returns:
        the epochs that are still to be run, each yielded when it has been trained, validated and saved. Trains while it is
        iterated, and can be dropped at any time.

    Raises:
        UsageError: a setting is out of range, or differs from the folder's, or the data do; names the field.
        DataError: there is nothing to train on or to validate with, or the side vectors can't be used.
        ArtifactError: a file of the run is damaged.

    Example:
        `for epoch in train_backbone(data, BackboneRecipe(seed=1), Path("RUN")): print(epoch)`
    """
    side = read_side_vectors(item_vectors) if item_vectors else {}
    recipe = msgspec.structs.replace(recipe, item_vectors=sha256_file(item_vectors) if item_vectors else "")
    out, resolved = Path(out), with_start(with_teacher(recipe, teacher, data.hash).resolve(data.items), start, data.hash)
    material = _material(data, resolved, side, start)
    ranks = join_ranks(resolved.device)
    if ranks.size > 1 and resolved.widths and resolved.widths.draw == "search":
        raise UsageError(
            "torchrun: expected widths.draw step, all or channel for several processes, whose losses differ, got search"
        )
    if ranks.size > 1 and resolved.coarse:
        raise UsageError("torchrun: expected one process for coarse, got several")
    if ranks.first:
        open_run(out, data, resolved, resume=resume)
    ranks.wait()
    return _train(material, resolved, out, teacher, ranks)


def refit_recipe(run: Run, data_hash: str) -> BackboneRecipe:
    """Take from a run what a last training needs: its settings, and how many epochs were best on validation.

    A log's newest events say most about what comes next, and the first training spends them on choosing. Once the choice is
    made they can be learned from: `train_backbone(data, refit_recipe(load_run(RUN), data.hash), OUT)`.

    Args:
        run: a training with validation.
        data_hash: identity of the data that the refit will read.

    Returns:
        the recipe of the refit.

    Raises:
        UsageError: the run is a refit itself, or began at another run's weights or had a teacher, which would be needed again,
            or is of other data.
    """
    if run.data_hash != data_hash:
        raise UsageError(f"{run.path}: expected data with hash {run.data_hash[:12]}…, got {data_hash[:12]}…")
    if run.recipe.refit or run.recipe.distillation or run.recipe.start:
        wanted = "a training with validation, from its own first weights and without a teacher"
        raise UsageError(f"{run.path}: expected {wanted} to refit, got another")
    best = max(epoch.index for epoch in run.epochs if epoch.best)
    return msgspec.structs.replace(run.recipe, refit=True, epochs=best + 1)


def finished(epochs: tuple[Epoch, ...], recipe: BackboneRecipe) -> bool:
    """Tell whether a training is over: all epochs are run, or validation has not improved for `patience` epochs.

    Args:
        epochs: what happened so far, oldest first.
        recipe: the settings.

    Returns:
        whether to stop.
    """
    since_best = next((age for age, epoch in enumerate(reversed(epochs)) if epoch.best), 0)
    return len(epochs) >= recipe.epochs or since_best >= recipe.patience


@dataclass(frozen=True, eq=False)
class _Material:
    """What every epoch works with, and never changes."""

    item_ids: list[str]
    side: dict[str, np.ndarray]
    start: Run | None
    windows: Windows
    validation: Cases
    loss: NextItemLoss | DistilledLoss
    train: Histories


def _material(data: Dataset, recipe: BackboneRecipe, side: dict[str, np.ndarray], start: Run | None) -> _Material:
    """Split the log, cut windows, prepare negatives."""
    split = data.split()
    train = with_validation(split) if recipe.refit else split.train
    windows = cut_windows(train, recipe.window)
    if not len(windows) or not len(split.validation):
        raise DataError("data: expected a user with at least two training events and one to validate with, found none")
    counts = torch.from_numpy(item_counts(train, data.items)).to(recipe.device)
    proposal = Proposal.from_counts(counts, recipe.alpha)
    validation = choose_cases(split.validation, recipe.validation_users, recipe.seed)
    return _Material(data.item_ids, side, start, windows, validation, make_loss(recipe, proposal), train)


def make_loss(recipe: BackboneRecipe, proposal: Proposal) -> NextItemLoss | DistilledLoss:
    """Make what a recipe minimizes: the next item's loss, or that and a teacher's, or that over coarse rows as well.

    Args:
        recipe: the resolved settings.
        proposal: where negatives come from.

    Returns:
        the loss, for batches with the teacher's lists if there is a teacher.
    """
    assert recipe.loss != "auto", "the recipe is resolved before anything is built from it"
    if recipe.distillation is None:
        loss = next_item_loss(recipe.loss, proposal=proposal, negatives=recipe.negatives, calibration=recipe.calibration)
        return with_coarse(loss, recipe.coarse.weight) if recipe.coarse else loss
    assert recipe.loss in ("full_softmax", "sampled_softmax"), "resolve refuses others"
    return distilled_loss(recipe.distillation, recipe.loss, proposal=proposal, negatives=recipe.negatives)


def make_batches(
    windows: Windows, recipe: BackboneRecipe, lists: np.ndarray | None, epoch: int
) -> Iterator[Batch] | Iterator[TaughtBatch]:
    """Make the batches of an epoch.

    Args:
        windows: what to train on.
        recipe: their size, and the seed.
        lists: the teacher's (`teacher_lists`); None without a teacher.
        epoch: 0 for the first.

    Returns:
        the batches, in an order of their own for every epoch.
    """
    rng = np.random.default_rng((recipe.seed, epoch))
    if lists is None:
        return epoch_batches(windows, recipe.batch, rng)
    return taught_batches(windows, lists, recipe.batch, rng)


def _train(material: _Material, recipe: BackboneRecipe, out: Path, teacher: Run | None, ranks: Ranks) -> Iterator[Epoch]:
    """Run the epochs that are missing; rank 0 writes."""
    keep_freed_memory()
    tail = _fit_tail(material, recipe)
    model, average = (_begin(material, recipe, tail) for _ in range(2))
    optimizer = make_optimizer(model, recipe)
    best, epochs = _take_up(out, model, average, optimizer, ranks)
    if not finished(epochs, recipe):
        lists = _prepare(material, recipe, out, teacher, ranks, len(epochs))
    while not finished(epochs, recipe):
        started, index = time.perf_counter(), len(epochs)
        batches = make_batches(material.windows, recipe, lists, index)
        losses = train_epoch(model, average, material.loss, batches, optimizer, recipe, epochs, ranks)
        trained = round(time.perf_counter() - started, 3)
        ndcg = None if recipe.refit else ranks.agree(lambda: validation_quality(average, material.validation, recipe))
        is_best = ndcg is None or ndcg > max((epoch.validation_ndcg or 0.0 for epoch in epochs), default=-1.0)
        best = snapshot(average) if is_best else best
        seconds = round(time.perf_counter() - started, 3)
        epochs = (*epochs, Epoch(index, len(losses), float(np.mean(losses)), ndcg, is_best, seconds, trained))
        if ranks.first:
            checkpoint = Checkpoint(model.state_dict(), average.state_dict(), best, optimizer_tensors(optimizer), epochs)
            save_checkpoint(out / CHECKPOINT, checkpoint)
            _write_results(out, checkpoint, weights=is_best)
        yield epochs[-1]


def _fit_tail(material: _Material, recipe: BackboneRecipe) -> Tail | None:
    """Fit the codes that are trained along, if there are any; a training that goes on needs their first spread (`steps_of`)."""
    start = material.start
    if recipe.coarse is None or start is None:
        return None
    return tail_of(start, user_states(start.backbone, material.train), recipe.coarse.parts)


def _begin(material: _Material, recipe: BackboneRecipe, tail: Tail | None) -> Backbone:
    """Make the model as it is before the first step."""
    model = build(recipe, len(material.item_ids))
    if recipe.depth == "drawn":
        close_branches(model)
    if material.start:
        model.load_state_dict(material.start.backbone.state_dict())
    if material.side:
        start_rows(model.items.weight, material.item_ids, material.side)
    if recipe.moving == "items":
        model.requires_grad_(False)
        model.items.requires_grad_(True)
    if tail:
        attach(model, tail)
    return model.to(recipe.device)


def _prepare(
    material: _Material, recipe: BackboneRecipe, out: Path, teacher: Run | None, ranks: Ranks, first_epoch: int
) -> np.ndarray | None:
    """Note the session, and make or map the teacher's lists, if there is a teacher; rank 0 before the others."""
    if not ranks.first:
        ranks.wait()
        return read_lists(teacher, material.windows, recipe, out)
    add_session(out, first_epoch)
    lists = read_lists(teacher, material.windows, recipe, out)
    ranks.wait()
    return lists


def make_optimizer(model: Backbone, recipe: BackboneRecipe) -> Optimizer:
    """Make Adam over all of a model's parameters.

    Args:
        model: on the device where it will be trained.
        recipe: the step size.

    Returns:
        the optimizer; fused, because the item table is most of the parameters and one pass over it is cheaper than four. For
        a catalog so large that even one is too much, it moves touched rows alone.
    """
    if recipe.item_optimizer == "rows":
        model.items.sparse = True  # the gradient names its rows
    kind = RowAdam if recipe.item_optimizer == "rows" else Adam
    return kind(steps_of(model, recipe.coarse.lr) if recipe.coarse else model.parameters(), lr=recipe.lr, fused=True)


def train_epoch(
    model: Backbone,
    average: Backbone,
    loss: NextItemLoss | DistilledLoss,
    batches: Iterable[Batch],
    optimizer: Optimizer,
    recipe: BackboneRecipe,
    earlier: Sequence[Epoch],
    ranks: Ranks = ALONE,
) -> list[float]:
    """Train for one epoch, in place, and move the running mean of the weights along.

    Args:
        model: the latest weights.
        average: their running mean.
        loss: what to minimize.
        batches: the epoch's.
        optimizer: over the model's parameters.
        recipe: seed and averaging.
        earlier: the epochs before this one.
        ranks: which process this is, where several share every batch.

    Returns:
        the loss of each step, in nats.

    Raises:
        UsageError: the loss is not a finite number any more.
    """
    losses, before = [], sum(epoch.steps for epoch in earlier)
    rows = RowMean(average.items.weight, model.items.weight) if isinstance(optimizer, RowAdam) else None
    if isinstance(optimizer, RowAdam) and rows:
        optimizer.before_rows = rows.catch_up
    path = WidthPath(recipe.widths) if recipe.widths else None
    loss = at_drawn_depth(cast(NextItemLoss, loss)) if recipe.depth == "drawn" else loss  # has no teacher then
    for step in _fit(model, loss, batches, optimizer, (recipe.seed, len(earlier)), ranks, path):
        if not isfinite(step.loss):
            raise UsageError(
                f"epoch {len(earlier)}: expected a finite loss, got {step.loss}; a smaller lr than {recipe.lr} may help"
            )
        blend(average, model, keep_at(recipe.averaging, before + step.index, young=not recipe.start), rows)
        losses.append(step.loss)
    if rows:
        rows.catch_up_all()
    return ranks.add_up(losses)


def _fit(
    model: Backbone,
    loss: NextItemLoss | DistilledLoss,
    batches: Iterable[Batch],
    optimizer: Optimizer,
    seed: tuple[int, ...],
    ranks: Ranks,
    path: WidthPath | None,
) -> Iterator[Step]:
    """Train on whole batches, or on this rank's part of each; at the widths of a path, if there is one."""
    minimized: Loss = path.along(loss) if path else loss
    after = [path.hold_back] if path and path.widths.delay > 1 else []
    if ranks.size == 1:
        return fit(model, minimized, batches, optimizer, seed=seed, after=after)
    shares = parts(iter(batches), ranks)
    return fit(model, weighted(minimized, ranks), shares, optimizer, seed=seed, after=[add_gradients, *after])


def _take_up(
    out: Path, model: nn.Module, average: nn.Module, optimizer: Optimizer, ranks: Ranks
) -> tuple[dict[str, torch.Tensor], tuple[Epoch, ...]]:
    """Go back to the last checkpoint, if there is one: best weights so far, and the epochs behind us."""
    if not (out / CHECKPOINT).exists():
        return {}, ()
    checkpoint = load_checkpoint(out / CHECKPOINT)
    try:
        model.load_state_dict(checkpoint.model)
        average.load_state_dict(checkpoint.average)
        restore_optimizer(optimizer, checkpoint.optimizer)
    except (RuntimeError, ValueError) as error:
        raise ArtifactError(f"{out / CHECKPOINT}: expected a state of this run's recipe, got: {error}") from error
    if ranks.first:
        _write_results(out, checkpoint, weights=True)
    return dict(checkpoint.best), checkpoint.epochs


def _write_results(out: Path, checkpoint: Checkpoint, *, weights: bool) -> None:
    """Write what follows from a checkpoint: the history, and the best weights if they are new."""
    if weights:
        write_whole(out / BEST, tensor_bytes(checkpoint.best))
    write_history(out / HISTORY, checkpoint.epochs)
