"""The recipe of a personalizer that generates weights: every setting of its training, as one frozen value."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from ossia.errors import UsageError
from ossia.training.recipes import Size, check_device


class GeneratorRecipe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to train a personalizer that generates weights for a frozen base.

    Attributes:
        personalizer: a name in `GENERATORS`.
        name: the folder below `BASE/personalizers`; None: the personalizer's own name.
        slots: which slots have a delta; None: those that the method chooses.
        rank: of every delta; 0: dense.
        coordinates: whether deltas are coordinates in the basis that the base was published with; the rank is then its.
        hidden: inner width of the mapper.
        latent: length of z, what a user is like.
        decoders: DUET's decoders: `trained`, or `frozen` as in its public code.
        structure: length of Forward-OFA's structural vector.
        anchor: μ, what a squared distance of 1 between a user's state and the base's own costs, in nats. Without it likelihood
            grows and the ranking gets worse.
        sparsity: λ, nats that running every block costs Forward-OFA's loss.
        start_temperature: τ of its Gumbel-softmax in the first epoch …
        end_temperature: … and in the last, falling geometrically.
        validation_shares: of what all blocks cost, what the devices that validation compares can afford; means over these.
        events: what to learn from: `unseen` events, which the base was not trained on, or `training` events.
        cuts: with `training`, how many events of each user, the newest.
        lr: Adam's step size.
        batch: history events per optimizer step, about.
        epochs: the most passes over the events.
        patience: epochs without a better log-likelihood on validation before training stops.
        validation_users: the most users that validation reads after each epoch.
        seed: of everything that is random.
        device: `cpu`, `cuda` or `cuda:N`.
    """

    personalizer: Literal["duet", "ridge-head", "forward-ofa"] = "duet"
    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")] | None = None
    slots: tuple[str, ...] | None = None
    rank: Annotated[int, Meta(ge=0, le=255)] = 1
    coordinates: bool = False
    hidden: Size = 128
    latent: Size = 32
    decoders: Literal["trained", "frozen"] = "trained"
    anchor: Annotated[float, Meta(ge=0)] = 0.03
    structure: Size = 16
    sparsity: Annotated[float, Meta(ge=0)] = 0.01
    start_temperature: Annotated[float, Meta(gt=0)] = 2.0
    end_temperature: Annotated[float, Meta(gt=0)] = 0.3
    validation_shares: tuple[Annotated[float, Meta(ge=0, le=1)], ...] = (0.5, 1.0)
    events: Literal["unseen", "training"] = "unseen"
    cuts: Size = 5
    lr: Annotated[float, Meta(gt=0, le=1)] = 1e-3
    batch: Size = 3200
    epochs: Size = 12
    patience: Size = 3
    validation_users: Size = 5_000
    seed: Annotated[int, Meta(ge=0)] = 0
    device: Annotated[str, Meta(pattern=r"^(cpu|cuda(:\d+)?)$")] = "cpu"

    @property
    def most_epochs(self) -> int:
        """How many epochs there can be; a ridge head is solved in one."""
        return 1 if self.personalizer == "ridge-head" else self.epochs

    def temperature(self, epoch: int) -> float:
        """Say how soft structures are in an epoch.

        Args:
            epoch: from 0.

        Returns:
            τ.

        Example:
            >>> recipe = GeneratorRecipe(start_temperature=2.0, end_temperature=0.5, epochs=3)
            >>> [round(recipe.temperature(epoch), 6) for epoch in range(3)]
            [2.0, 1.0, 0.5]
        """
        return float(
            self.start_temperature * (self.end_temperature / self.start_temperature) ** (epoch / max(1, self.epochs - 1))
        )

    def resolve(self) -> "GeneratorRecipe":
        """Check every setting and decide what was left open; slots are the base's business.

        Returns:
            the recipe as it will be run and written down.

        Raises:
            UsageError: a setting is out of range, or the device is not there; names it.

        Example:
            >>> GeneratorRecipe().resolve().name
            'duet'
        """
        try:
            recipe = msgspec.convert(msgspec.to_builtins(self), GeneratorRecipe)  # ranges are checked on decoding only
        except msgspec.ValidationError as error:
            raise UsageError(f"recipe: {error}") from error
        if not recipe.validation_shares:
            raise UsageError("recipe: expected at least one of validation_shares, got none")
        check_device(recipe.device)
        return msgspec.structs.replace(recipe, name=recipe.name or recipe.personalizer)
