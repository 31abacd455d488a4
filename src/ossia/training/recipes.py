"""Recipes: every setting of a training, as one frozen value that can be written down.

The defaults are what did best on validation for its time, on ML-100K and Amazon Beauty. A run keeps its *resolved* recipe, in
which nothing is left to decide (`loss="auto"` has become a loss).
"""

from typing import Annotated, Literal, TypeAlias

import msgspec
import torch
from msgspec import Meta, Struct

from ossia.errors import UsageError

Size: TypeAlias = Annotated[int, Meta(ge=1)]

FULL_SOFTMAX_ITEMS = 5_000
"""Up to here the exact loss costs about what sampling does."""

WINDOW = 50
"""Events in a training window of a backbone that reads fewer: its states are made each from its own last few events."""

SIZES: dict[str, dict[str, int]] = {
    "sasrec": {"length": 50, "blocks": 2, "heads": 2, "hidden": 256},
    "caser": {"length": 5, "vertical": 4, "horizontal": 16},
    "gru4rec": {"length": 50, "layers": 1, "hidden": 128},
}
"""The sizes that each backbone has besides `dim`, and what they are where a recipe leaves them open."""


class BackboneRecipe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to train a backbone.

    A size that is None is the backbone's own (`SIZES`); one that the backbone does not have must be None.

    Attributes:
        backbone: a name in `BACKBONES`.
        dim: width of item vectors and user states.
        length: the longest history the model reads, in events.
        blocks: SASRec's transformer blocks.
        heads: SASRec's attention heads; divides `dim`.
        hidden: inner width of SASRec's feed-forward networks; width of GRU4Rec's memories.
        layers: GRU4Rec's recurrent layers.
        vertical: Caser's vertical filters.
        horizontal: Caser's horizontal filters of each height.
        dropout: probability of dropping a value in training.
        loss: `auto` is `full_softmax` up to 5,000 items and `sampled_softmax` above.
        negatives: draws per batch, shared by its events, for the sampled losses.
        alpha: negatives are drawn by popularity to this power: 0 uniformly, 1 as they occur.
        lr: Adam's step size.
        averaging: how much of the weights' running mean is kept at every step; 0 validates and publishes the latest weights.
        batch: events (targets) per optimizer step, about.
        epochs: the most passes over the data.
        patience: epochs without a better validation NDCG@10 before training stops.
        validation_users: the most users that validation reads after each epoch, a sample fixed by the seed.
        seed: of everything that is random.
        device: `cpu`, `cuda` or `cuda:N`.
    """

    backbone: Literal["sasrec", "caser", "gru4rec"] = "sasrec"
    dim: Size = 64
    length: Size | None = None
    blocks: Size | None = None
    heads: Size | None = None
    hidden: Size | None = None
    layers: Size | None = None
    vertical: Size | None = None
    horizontal: Size | None = None
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.2
    loss: Literal["auto", "full_softmax", "sampled_softmax", "bce"] = "auto"
    negatives: Size = 768
    alpha: Annotated[float, Meta(ge=0, le=2)] = 0.75
    lr: Annotated[float, Meta(gt=0, le=1)] = 3e-3
    averaging: Annotated[float, Meta(ge=0, lt=1)] = 0.998
    batch: Size = 1024
    epochs: Size = 100
    patience: Size = 5
    validation_users: Size = 10_000
    seed: Annotated[int, Meta(ge=0)] = 0
    device: Annotated[str, Meta(pattern=r"^(cpu|cuda(:\d+)?)$")] = "cpu"

    def resolve(self, items: int) -> "BackboneRecipe":
        """Check every setting and decide what was left open.

        Args:
            items: rows of the item table.

        Returns:
            the recipe as it will be run and written down.

        Raises:
            UsageError: a setting is out of range, the backbone has no such size, or the device is not there; names it.

        Example:
            >>> BackboneRecipe(epochs=3).resolve(items=12_000).loss
            'sampled_softmax'
        """
        try:
            recipe = msgspec.convert(msgspec.to_builtins(self), BackboneRecipe)  # ranges are checked on decoding only
        except msgspec.ValidationError as error:
            raise UsageError(f"recipe: {error}") from error
        recipe = msgspec.structs.replace(recipe, **recipe.sizes)
        if recipe.heads and recipe.dim % recipe.heads:
            raise UsageError(f"recipe: expected heads that divide dim {recipe.dim}, got {recipe.heads}")
        check_device(recipe.device)
        if recipe.loss == "auto":
            loss = "full_softmax" if items <= FULL_SOFTMAX_ITEMS else "sampled_softmax"
            return msgspec.structs.replace(recipe, loss=loss)
        return recipe

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes of the recipe's backbone, besides `dim`: those that were chosen, and its own for the others.

        Raises:
            UsageError: a size was chosen that this backbone does not have; names it.

        Example:
            >>> BackboneRecipe(backbone="gru4rec", hidden=64).sizes
            {'length': 50, 'layers': 1, 'hidden': 64}
        """
        own = SIZES[self.backbone]
        chosen = {name: getattr(self, name) for name in dict.fromkeys(name for sizes in SIZES.values() for name in sizes)}
        for name in (name for name, value in chosen.items() if value is not None and name not in own):
            raise UsageError(f"recipe: expected a size that {self.backbone} has (dim, {', '.join(own)}), got {name}")
        return {name: default if chosen[name] is None else chosen[name] for name, default in own.items()}

    @property
    def window(self) -> int:
        """Events per training window, at the most."""
        length = self.sizes["length"]
        return max(length, WINDOW) if self.backbone == "caser" else length


def check_device(name: str) -> torch.device:
    """Find a device by its name.

    Args:
        name: `cpu`, `cuda` or `cuda:N`.

    Returns:
        the device.

    Raises:
        UsageError: this machine has no such device.
    """
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device: expected one that is here (cpu, {torch.cuda.device_count()} cuda), got {name}")
    return device
