"""From a trained run to a published base: fp32 weights onto the nested grid, and the catalog beside them.

The backbone's slots become 8-bit masters, its item vectors the item table, with a coarse tail if asked for; biases, norms and
positions stay float32. The profile's clip comes from the data: the bound that 99.9 % of all values of users' states keep, so
that one outlier does not take the int8 grid's steps from everybody else.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ossia.adaptation import Base, singular_basis, write_base
from ossia.adaptation.tail import Tail
from ossia.backbones import Backbone
from ossia.backbones.ranker import encode
from ossia.data import Dataset, Histories, item_counts, with_validation
from ossia.errors import ArtifactError, UsageError
from ossia.training.product_codes import fit_product_codes, learn_order
from ossia.training.run import Run, load_run

CLIP_PERCENTILE = 99.9
CHUNK = 512
MAX_DIRECTIONS = 255
ITEMS = "items.weight"


def publish(run: Path | str, data: Dataset, out: Path | str, *, tail: int = 0, basis: int = 0) -> Base:
    """Publish a run's best weights as a base with its item table.

    Args:
        run: the run's folder.
        data: what it was trained on: item ids, titles, popularity.
        out: the base's folder, new or empty.
        tail: bytes a row of the table's coarse tail, by which a device ranks what it does not hold; 0: none.
        basis: directions of each slot for deltas that are coordinates; 0: none.

    Returns:
        the base, as loaded back from the disk.

    Raises:
        ArtifactError: the run is damaged or has no weights yet, or was trained on other data.
        UsageError: `out` is not empty, the bytes of the tail do not divide the width or are others than those of a tail that
            was trained along, or more than 255 directions.
    """
    if not 0 <= basis <= MAX_DIRECTIONS:
        raise UsageError(f"basis: expected 0 to {MAX_DIRECTIONS} directions, got {basis}")
    trained = load_run(run)
    if trained.data_hash != data.hash:
        raise ArtifactError(f"{run}: expected a run on data {data.hash[:12]}…, got one on {trained.data_hash[:12]}…")
    backbone, split = trained.backbone, data.split()
    train = with_validation(split) if trained.recipe.refit else split.train
    weights = {name: tensor.numpy() for name, tensor in backbone.state_dict().items()}
    states = user_states(backbone, train)
    return write_base(
        Path(out),
        backbone=backbone.kind,
        shape=backbone.shape,
        slots=backbone.slots(),
        gates=backbone.gates(),
        weights={name: array for name, array in weights.items() if name != ITEMS},
        profile_clip=profile_clip(states),
        item_vectors=weights[ITEMS],
        item_ids=data.item_ids,
        titles=data.titles,
        item_counts=item_counts(train, data.items).astype(np.float32),
        tail=tail_of(trained, states, tail) if tail else None,
        basis={slot.name: singular_basis(weights[f"{slot.name}.weight"], basis) for slot in backbone.slots()}
        if basis
        else None,
    )


def tail_of(run: Run, states: Float[Tensor, "users dim"], parts: int) -> Tail:
    """Give a run's table a coarse tail: the one that was trained along, or one that is fitted now and learns its order.

    Args:
        run: as it was trained.
        states: of many users, whose orders count.
        parts: bytes a row.

    Returns:
        the tail.

    Raises:
        UsageError: one of other bytes was trained along, or they do not divide the width.
    """
    if run.tail is None:
        vectors = run.backbone.items.weight.detach()
        return learn_order(fit_product_codes(vectors, states, parts), vectors, states)
    if run.tail.codes.shape[1] != parts:
        raise UsageError(f"tail: expected {run.tail.codes.shape[1]} parts, as they were trained with the run, got {parts}")
    return run.tail


def user_states(backbone: Backbone, histories: Histories) -> Float[Tensor, "users dim"]:
    """Encode everybody's history.

    Args:
        backbone: trained, in evaluation mode.
        histories: training histories, one per user.

    Returns:
        one state per user that has events, on the CPU, users in order of length.
    """
    by_length = [int(user) for user in np.argsort(histories.lengths, kind="stable") if histories.lengths[user]]
    chunks = [by_length[start : start + CHUNK] for start in range(0, len(by_length), CHUNK)]
    return torch.cat([encode(backbone, [histories[user] for user in chunk]) for chunk in chunks]).cpu()


def profile_clip(states: Float[Tensor, "users dim"]) -> float:
    """Find the bound that 99.9 % of the values of all users' states keep.

    Args:
        states: of the users that have events.

    Returns:
        the 99.9th percentile of |state| over users and dimensions.
    """
    return float(np.percentile(states.abs().numpy(), CLIP_PERCENTILE))
