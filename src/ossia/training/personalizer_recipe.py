"""The personalizer's recipe: every setting of its training, as one frozen value that can be written down."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from ossia.errors import UsageError
from ossia.training.recipes import Size, check_device
from ossia.types import WIDTHS

Bits = Annotated[float, Meta(ge=0, le=8)]


class PersonalizerRecipe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to train a personalizer on a frozen base. The defaults are what did best on validation.

    Attributes:
        personalizer: a name in `PERSONALIZERS`.
        name: the folder below `BASE/personalizers`; None: the personalizer's own name.
        alphabet: widths that a channel may have, rising; (0, 2, 4, 8) lets channels be dropped.
        hidden: width of the hypernetworks' trunk.
        filter_level: whether each channel has an importance of its own.
        element_level: whether each weight has one (rank one).
        layer_level: whether each slot has one.
        events: what to learn from: `unseen` events, which the base was not trained on, or `training` events.
        cuts: with `training`, how many events of each user, the newest.
        learn: from first-order `sensitivities` alone (`sensitivities.py`), from `codes` straight-through alone, or `both`:
            sensitivities first, and codes from there.
        warm_steps: optimizer steps in which a hypernetwork learns what sensitivities say; a ridge needs none.
        fewest_bits: average widths are drawn per user and step from this …
        most_bits: … to this.
        validation_bits: the average width at which validation compares.
        temperature: τ of the straight-through gradient, in nats of value per bit.
        lr: Adam's step size.
        batch: history events per optimizer step, about.
        epochs: the most passes over the events to learn codes; the one for sensitivities is not counted.
        patience: epochs without a better log-likelihood on validation before training stops.
        validation_users: the most users that validation reads after each epoch.
        seed: of everything that is random.
        device: `cpu`, `cuda` or `cuda:N`.
    """

    personalizer: Literal["chord", "ridge"] = "chord"
    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")] | None = None
    alphabet: tuple[int, ...] = (2, 4, 8)
    hidden: Size = 128
    filter_level: bool = True
    element_level: bool = True
    layer_level: bool = True
    events: Literal["unseen", "training"] = "unseen"
    cuts: Size = 5
    learn: Literal["sensitivities", "codes", "both"] = "both"
    warm_steps: Size = 600
    fewest_bits: Bits = 2.25
    most_bits: Bits = 5.0
    validation_bits: Bits = 3.0
    temperature: Annotated[float, Meta(gt=0)] = 0.5
    lr: Annotated[float, Meta(gt=0, le=1)] = 1e-3
    batch: Size = 3200
    epochs: Size = 8
    patience: Size = 2
    validation_users: Size = 5_000
    seed: Annotated[int, Meta(ge=0)] = 0
    device: Annotated[str, Meta(pattern=r"^(cpu|cuda(:\d+)?)$")] = "cpu"

    @property
    def most_epochs(self) -> int:
        """How many epochs there can be, the pass over sensitivities counted.

        Example:
            >>> PersonalizerRecipe(epochs=8).most_epochs, PersonalizerRecipe(learn="sensitivities").most_epochs
            (9, 1)
        """
        return {"sensitivities": 1, "codes": self.epochs, "both": 1 + self.epochs}[self.learn]

    def resolve(self) -> "PersonalizerRecipe":
        """Check every setting and decide what was left open.

        Returns:
            the recipe as it will be run and written down.

        Raises:
            UsageError: a setting is out of range, or the device is not there; names it.

        Example:
            >>> PersonalizerRecipe(alphabet=(0, 2, 4, 8)).resolve().name
            'chord'
        """
        try:
            recipe = msgspec.convert(msgspec.to_builtins(self), PersonalizerRecipe)  # ranges are checked on decoding only
        except msgspec.ValidationError as error:
            raise UsageError(f"recipe: {error}") from error
        widths = recipe.alphabet
        if len(widths) < 2 or not set(widths) <= set(WIDTHS) or list(widths) != sorted(set(widths)):
            raise UsageError(f"recipe: expected an alphabet of two or more rising widths out of {WIDTHS}, got {widths}")
        if not widths[0] <= recipe.fewest_bits <= recipe.most_bits:
            asked = f"{recipe.fewest_bits} … {recipe.most_bits}"
            raise UsageError(f"recipe: expected fewest_bits ≤ most_bits, from {widths[0]} upward, got {asked}")
        check_device(recipe.device)
        return msgspec.structs.replace(recipe, name=recipe.name or recipe.personalizer)
