"""From a trained run to a published base: fp32 weights onto the nested grid, and the catalog beside them.

The backbone's slots become 8-bit masters, its item vectors the item table; biases, norms and positions stay float32. The
profile's clip comes from the data: the bound that 99.9 % of all values of users' states keep, so that one outlier does not
take the int8 grid's steps from everybody else.
"""

from pathlib import Path

import numpy as np
import torch

from ossia.adaptation import Base, write_base
from ossia.backbones import Backbone
from ossia.backbones.ranker import encode
from ossia.data import Dataset, Histories, item_counts, with_validation
from ossia.errors import ArtifactError
from ossia.training.run import load_run

CLIP_PERCENTILE = 99.9
CHUNK = 512
ITEMS = "items.weight"


def publish(run: Path | str, data: Dataset, out: Path | str) -> Base:
    """Publish a run's best weights as a base with its item table.

    Args:
        run: the run's folder.
        data: what it was trained on: item ids, titles, popularity.
        out: the base's folder, new or empty.

    Returns:
        the base, as loaded back from the disk.

    Raises:
        ArtifactError: the run is damaged or has no weights yet, or was trained on other data.
        UsageError: `out` is not empty.
    """
    trained = load_run(run)
    if trained.data_hash != data.hash:
        raise ArtifactError(f"{run}: expected a run on data {data.hash[:12]}…, got one on {trained.data_hash[:12]}…")
    backbone, split = trained.backbone, data.split()
    train = with_validation(split) if trained.recipe.refit else split.train
    weights = {name: tensor.numpy() for name, tensor in backbone.state_dict().items()}
    return write_base(
        Path(out),
        backbone=backbone.kind,
        shape=backbone.shape,
        slots=backbone.slots(),
        gates=backbone.gates(),
        weights={name: array for name, array in weights.items() if name != ITEMS},
        profile_clip=profile_clip(backbone, train),
        item_vectors=weights[ITEMS],
        item_ids=data.item_ids,
        titles=data.titles,
        item_counts=item_counts(train, data.items).astype(np.float32),
    )


def profile_clip(backbone: Backbone, histories: Histories) -> float:
    """Find the bound that 99.9 % of the values of all users' states keep.

    Args:
        backbone: trained, in evaluation mode.
        histories: training histories, one per user.

    Returns:
        the 99.9th percentile of |state| over users and dimensions; users without events don't count.
    """
    by_length = [int(user) for user in np.argsort(histories.lengths, kind="stable") if histories.lengths[user]]
    chunks = [by_length[start : start + CHUNK] for start in range(0, len(by_length), CHUNK)]
    states = torch.cat([encode(backbone, [histories[user] for user in chunk]) for chunk in chunks])
    return float(np.percentile(states.abs().cpu().numpy(), CLIP_PERCENTILE))
