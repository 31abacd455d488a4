"""What the study of CHORD knows of one trained run before anything is judged: its base, its events, its sensitivities.

    FOLDER/NAME/base/                       the run, published
    FOLDER/NAME/observed-LOW-HIGH.safetensors     one pass over unseen events between two widths (below)

One pass gives four answers, each for everybody and at once:

    mean s_c           what one more bit would have done on average: the best allocation that is the same for all
    mean s_c²          the empirical Fisher information of a rounding: usual post-training mixed precision
    ridge              ŝ(p), what it would have done for a user with profile p (`ossia.training.sensitivities`)
    static             −∂ loss / ∂ state, predicted from the same features: one boosting step on the user state

The static control has a personal answer too, and the same events, features and solve, but changes no width. What codes gain
beyond it is due to precision; what they gain without it may be due to seeing more events than the base has.

Learned from are the validation events of four users in five; the fifth user's choose penalties and the length of the boosting
step. Test events are read once, for the figures.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from ossia.adaptation.allocate_codes import GAIN
from ossia.backbones import Backbone
from ossia.data import Cases, Dataset
from ossia.files import write_whole
from ossia.personalizers import Ridge
from ossia.studies.runs import published
from ossia.training import load_run
from ossia.training.checkpoint import tensor_bytes
from ossia.training.events import Events
from ossia.training.frozen import FrozenBase, fit_temperature
from ossia.training.personalizer import choose_events
from ossia.training.personalizer_recipe import PersonalizerRecipe
from ossia.training.ridge_fit import fit_ridge
from ossia.training.sensitivities import observe, solve
from ossia.types import WIDTHS

BATCH = 3_200
LENGTHS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Lengths of the static control's boosting step that validation chooses from."""


@dataclass(frozen=True, eq=False)
class Observed:
    """What one pass over unseen events taught, between two widths.

    Attributes:
        mean: mean sensitivity of each channel, nats.
        square: mean squared sensitivity.
        ridge: predicts sensitivities.
        static: coefficients that predict the gradient with respect to the user state from the ridge's features.
    """

    mean: Float[Tensor, " channels"]
    square: Float[Tensor, " channels"]
    ridge: Ridge
    static: Float[Tensor, "features dim"]


@dataclass(frozen=True, eq=False)
class Material:
    """One run of the study.

    Attributes:
        folder: where its files lie.
        backbone: as it was trained, in float32.
        frozen: its base at 2 and 8 bits, calibrated.
        learn: events that are learned from.
        select: events that settings are chosen on.
        test: events that are reported.
        before: the validation events of `test`'s users, one event earlier: for churn.
        seed: of everything random.
    """

    folder: Path
    backbone: Backbone
    frozen: FrozenBase
    learn: Events
    select: Events
    test: Events
    before: Events
    seed: int

    @classmethod
    def prepare(cls, data: Dataset, run: Path, folder: Path, *, seed: int = 0) -> "Material":
        """Publish a run, unless that is done, and compute profiles.

        Args:
            data: what the run was trained on.
            run: the run's folder.
            folder: where its part of the study goes.
            seed: of who is learned from.

        Returns:
            the material.

        Raises:
            ArtifactError: the run was trained on other data.
        """
        base = published(run, data, folder)
        split, recipe = data.split(), PersonalizerRecipe(seed=seed, validation_users=data.users)
        frozen = FrozenBase.load(base, (2, 8), torch.device("cpu"))
        learn, select = (frozen.events(cases) for cases in choose_events(data, recipe))
        frozen = replace(frozen, temperature=fit_temperature(frozen, select))
        backbone = load_run(run).backbone
        return cls(
            folder, backbone, frozen, learn, select, frozen.events(split.test), _together(split.validation, learn, select), seed
        )

    @cached_property
    def inputs(self) -> Float[Tensor, " channels"]:
        """How many weights each channel has."""
        slots = self.frozen.base.manifest.slots
        return torch.cat([torch.full((slot.channels,), float(slot.inputs)) for slot in slots])

    def at(self, alphabet: tuple[int, ...], table: int = 8) -> FrozenBase:
        """Give the base at other widths.

        Args:
            alphabet: widths that a channel may have.
            table: bits of every item row, scored or read.

        Returns:
            the frozen base, calibrated.
        """
        frozen = FrozenBase.load(self.frozen.base, alphabet, torch.device("cpu"), table=table)
        return replace(frozen, temperature=fit_temperature(frozen, self.select) if table < 8 else self.frozen.temperature)

    def observed(self, low: int, high: int) -> Observed:
        """Observe sensitivities between two widths, or read what was observed.

        Args:
            low: the narrowest width of an alphabet; widths between make no difference half-way.
            high: its widest.

        Returns:
            what was learned.
        """
        path = self.folder / f"observed-{low}-{high}.safetensors"
        base = self.frozen.base
        gains = {bits: GAIN[WIDTHS.index(bits)] for bits in (low, high)}
        ridge = Ridge(base.manifest.slots, {}, base.manifest.shape["dim"], gains=gains)
        if not path.exists():
            write_whole(path, tensor_bytes(self._observe(ridge, (low, high))))
        found = load_file(path)
        tensors = {name: found.pop(name) for name in ("mean", "square", "static")}
        ridge.load_state_dict(found)
        return Observed(tensors["mean"], tensors["square"], ridge.requires_grad_(False), tensors["static"])

    def _observe(self, ridge: Ridge, ends: tuple[int, int]) -> dict[str, Tensor]:
        """Go over the events once for the codes, once for the static control."""
        total, square = torch.zeros(len(self.inputs)), torch.zeros(len(self.inputs))

        def noted() -> Iterator[tuple[Tensor, Tensor]]:
            for profiles, found in observe(self.at(ends), self.learn, size=BATCH, steps=1, seed=self.seed):
                total.add_(found.sum(dim=0))
                square.add_(found.square().sum(dim=0))
                yield profiles, found

        solve(ridge, self.learn, noted(), seed=self.seed)
        static = fit_ridge(ridge.features, self.frozen.vectors.shape[1], self._pulls())
        count = len(self.learn)
        kept = {name: tensor.detach().contiguous() for name, tensor in ridge.state_dict().items()}
        return kept | {"mean": total / count, "square": square / count, "static": static.coefficients}

    @torch.no_grad()
    def _pulls(self) -> Iterator[tuple[Float[Tensor, "events dim"], Float[Tensor, "events dim"]]]:
        """Find what would move each user state toward the next item: −∂ loss / ∂ state = (E_next − Σ_i p_i E_i) / T."""
        vectors = self.frozen.vectors
        for batch in self.learn.batches(BATCH, np.random.default_rng((self.seed, 4))):
            shares = self.frozen.logits(self.frozen.states(batch.histories)).softmax(dim=1)
            yield batch.profiles, (vectors[batch.targets] - shares @ vectors) / self.frozen.temperature

    def static_shift(self, observed: Observed, events: Events) -> Float[Tensor, "events dim"]:
        """Predict the static control's change of each user state, as long as validation likes it best.

        Args:
            observed: with the static coefficients.
            events: whose states.

        Returns:
            what is added to the states.
        """

        def step(at: Events, length: float) -> Tensor:
            return length * (observed.ridge.features(at.profiles) @ observed.static)

        quality = {size: self.frozen.judge(self.select, shift=step(self.select, size)).mean_likelihood for size in LENGTHS}
        return step(events, max(quality, key=lambda size: quality[size]))


def _together(cases: Cases, *parts: Events) -> Events:
    """Put events in the order of the cases that they are a part of, so that no profile is computed twice."""
    row_of = {user: row for row, user in enumerate(cases.users.tolist())}
    profiles = torch.zeros(len(cases), parts[0].profiles.shape[1])
    for part in parts:
        profiles[[row_of[user] for user in part.cases.users.tolist()]] = part.profiles
    return Events(cases, profiles, parts[0].length)
