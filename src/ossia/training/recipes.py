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

SIZES: dict[str, dict[str, int | None]] = {
    "sasrec": {"length": 50, "blocks": 2, "heads": 2, "hidden": 256, "valves": None},
    "caser": {"length": 5, "vertical": 4, "horizontal": 16},
    "gru4rec": {"length": 50, "layers": 1, "hidden": 128},
}
"""The sizes that each backbone has besides `dim`, and what they are where a recipe leaves them open; None: then it has none."""


DENSE_ITEMS = 100_000
"""Up to here the item table is moved as a whole at every step; above, a pass over it costs more than the rest of the step."""


class Distillation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a student learns from a teacher (`distill.py`).

    Attributes:
        teacher: SHA-256 of the teacher's weights, 64 hexadecimal digits; decided when training begins.
        loss: which of the three.
        top: items of the teacher's list that is kept for each training event.
        temperature: τ of `temperature`: above 1, what is far from the top counts for more.
        beta: of `rce`: how fast agreement moves its weight.
        weight: how much the teacher counts, and the next item the rest.
    """

    teacher: str = ""
    loss: Literal["temperature", "rrd", "rce"] = "temperature"
    top: Size = 20
    temperature: Annotated[float, Meta(gt=0, le=100)] = 1.0
    beta: Annotated[float, Meta(ge=0, le=100)] = 3.0
    weight: Annotated[float, Meta(gt=0, le=1)] = 0.5


class Widths(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the slices of a base are trained to be good at once (`widths.py`).

    Attributes:
        alphabet: the widths that are trained, rising; one alone is ordinary training for that width.
        draw: whose width is drawn: every `channel`'s and item row's; one for all at every `step`; or that one by what is left
            to gain at it (`search`). `all` draws none: every step reads every width, and costs so many.
        rows: whether item rows that are scored are rounded too.
        delay: at the narrowest width, gradients of so many steps are averaged into one.
        exploration: of `search`: how much a width that was seldom drawn counts.
        scales: of the grid: `free` is what a device has, `exponent` a comparison (`quantization/fake.py`).
    """

    alphabet: Annotated[tuple[Literal[2, 4, 8], ...], Meta(min_length=1)] = (2, 4, 8)
    draw: Literal["channel", "step", "search", "all"] = "step"
    rows: bool = True
    delay: Size = 1
    exploration: Annotated[float, Meta(ge=0, le=100)] = 3.0
    scales: Literal["free", "exponent"] = "free"


class Coarse(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How product codes of the item table are trained along with the model (`coarse.py`).

    Attributes:
        parts: bytes a row.
        weight: how much the next item's loss over coarse rows counts; that over the table's rows counts 1.
        lr: Adam's step size for codewords, in their spread; the rotation's is .3 of it.
    """

    parts: Size = 4
    weight: Annotated[float, Meta(gt=0, le=100)] = 3.0
    lr: Annotated[float, Meta(ge=0, le=1)] = 3e-3


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
        valves: 1 for a SASRec of LiGR blocks (`backbones/sasrec.py`); None for the plain ones.
        layers: GRU4Rec's recurrent layers.
        vertical: Caser's vertical filters.
        horizontal: Caser's horizontal filters of each height.
        dropout: probability of dropping a value in training.
        loss: `auto` is `full_softmax` up to 5,000 items and `sampled_softmax` above.
        calibration: of `gbce`: 0 is plain binary cross-entropy, 1 makes scores estimate probabilities.
        negatives: draws per batch, shared by its events, for the sampled losses.
        alpha: negatives are drawn by popularity to this power: 0 uniformly, 1 as they occur.
        lr: Adam's step size.
        item_optimizer: how the item table moves: `dense`, all of it at every step; `rows`, only what a batch touched
            (`rows.py`); `auto` is `dense` up to 100,000 items.
        averaging: how much of the weights' running mean is kept at every step; 0 validates and publishes the latest weights.
        batch: events (targets) per optimizer step, about.
        epochs: the most passes over the data.
        patience: epochs without a better validation NDCG@10 before training stops.
        validation_users: the most users that validation reads after each epoch, a sample fixed by the seed.
        seed: of everything that is random.
        device: `cpu`, `cuda` or `cuda:N`.
        refit: learn from the validation events too, for exactly `epochs` epochs; nothing is left to validate with.
        distillation: what is learned from a teacher beside the log; None without one.
        item_vectors: SHA-256 of the file of side vectors that item rows begin at; decided when training begins, empty without.
        start: SHA-256 of the weights that training begins at, those of another run; decided then, empty without.
        widths: how slices of fewer bits are trained along; None trains float32 alone.
        moving: what training moves: everything, or the item table alone. Then the encoder stays as the seed drew it, or as the
            run that training starts at left it.
        coarse: how product codes of the item table are trained along; None trains none.
        depth: `drawn` trains along what is left of a SASRec when only its first blocks run (`depth.py`); `whole` does not.
    """

    backbone: Literal["sasrec", "caser", "gru4rec"] = "sasrec"
    dim: Size = 64
    length: Size | None = None
    blocks: Size | None = None
    heads: Size | None = None
    hidden: Size | None = None
    valves: Literal[1] | None = None
    layers: Size | None = None
    vertical: Size | None = None
    horizontal: Size | None = None
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.2
    loss: Literal["auto", "full_softmax", "sampled_softmax", "bce", "gbce"] = "auto"
    calibration: Annotated[float, Meta(ge=0, le=1)] = 0.75
    negatives: Size = 768
    alpha: Annotated[float, Meta(ge=0, le=2)] = 0.75
    lr: Annotated[float, Meta(gt=0, le=1)] = 3e-3
    item_optimizer: Literal["auto", "dense", "rows"] = "auto"
    averaging: Annotated[float, Meta(ge=0, lt=1)] = 0.998
    batch: Size = 1024
    epochs: Size = 100
    patience: Size = 5
    validation_users: Size = 10_000
    seed: Annotated[int, Meta(ge=0)] = 0
    device: Annotated[str, Meta(pattern=r"^(cpu|cuda(:\d+)?)$")] = "cpu"
    refit: bool = False
    distillation: Distillation | None = None
    item_vectors: str = ""
    start: str = ""
    widths: Widths | None = None
    coarse: Coarse | None = None
    moving: Literal["everything", "items"] = "everything"
    depth: Literal["whole", "drawn"] = "whole"

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
        if recipe.distillation and recipe.loss in ("bce", "gbce"):
            raise UsageError(f"recipe: expected a softmax loss to distill beside, got {recipe.loss}")
        _check_paths(recipe)
        loss, optimizer = recipe.loss, recipe.item_optimizer
        if loss == "auto":
            loss = "full_softmax" if items <= FULL_SOFTMAX_ITEMS else "sampled_softmax"
        if optimizer == "auto":
            optimizer = "dense" if items <= DENSE_ITEMS or loss == "full_softmax" else "rows"
        if optimizer == "rows" and loss == "full_softmax":
            raise UsageError("recipe: expected item_optimizer dense for full_softmax, which touches every row, got rows")
        return msgspec.structs.replace(recipe, loss=loss, item_optimizer=optimizer)

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
        sizes = {name: default if chosen[name] is None else chosen[name] for name, default in own.items()}
        return {name: size for name, size in sizes.items() if size is not None}

    @property
    def window(self) -> int:
        """Events per training window, at the most."""
        return window_of(self.backbone, self.sizes["length"])


def _check_paths(recipe: BackboneRecipe) -> None:
    """Refuse widths, depths and product codes that do not go together with the rest."""
    widths, coarse = recipe.widths, recipe.coarse
    if coarse and recipe.dim % coarse.parts:
        raise UsageError(f"recipe: expected coarse.parts that divide dim {recipe.dim}, got {coarse.parts}")
    if coarse and (widths or recipe.distillation or recipe.depth == "drawn"):
        raise UsageError("recipe: expected coarse without widths, a distillation or depth drawn, got both")
    if recipe.depth == "drawn" and (recipe.backbone != "sasrec" or recipe.distillation):
        raise UsageError("recipe: expected depth drawn for sasrec, whose branches are residual, and without a distillation")
    if widths and list(widths.alphabet) != sorted(set(widths.alphabet)):
        raise UsageError(f"recipe: expected widths.alphabet rising, such as [2,4,8], got {list(widths.alphabet)}")
    if widths and widths.delay > 1 and widths.draw in ("channel", "all"):
        raise UsageError(f"recipe: expected widths.delay 1 for widths.draw {widths.draw}, where no step is a narrow one")


def window_of(kind: str, length: int) -> int:
    """Tell how many events a backbone takes in one window: those that it reads, or more where each state picks its own.

    Args:
        kind: the backbone's name in `BACKBONES`.
        length: the events that one state is made of.

    Returns:
        events, at the most.
    """
    return max(length, WINDOW) if kind == "caser" else length


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
