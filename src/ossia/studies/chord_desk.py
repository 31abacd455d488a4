"""One operating point of one run in the study of CHORD: what its rows are made with, and how personal widths are judged there.

Every allocation is cut to the point's average by the same exact rule. The ridge's personal part is as long as validation likes
it best at this point; a hypernetwork learns to say what that ridge says, and is read wherever another point has the same ridge.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial

import msgspec
import numpy as np
import torch
from jaxtyping import Float, UInt8
from msgspec import Struct
from safetensors.torch import load_file
from torch import Tensor

from ossia.evaluation.controls import another_user, code_entropy, mean_distance, shuffle_codes
from ossia.evaluation.results import Family
from ossia.files import write_whole
from ossia.personalizers import AbstractPersonalizer, Ridge
from ossia.studies.chord_material import Material, Observed
from ossia.studies.chord_point import Point
from ossia.studies.judged_rows import AGES
from ossia.training.checkpoint import tensor_bytes
from ossia.training.events import Events, earlier
from ossia.training.frozen import FrozenBase, Judged
from ossia.training.imitation import imitate
from ossia.training.personalizer import make_personalizer
from ossia.training.personalizer_recipe import PersonalizerRecipe
from ossia.training.sensitivities import choose_length, with_length

LESSONS = 600
CHUNK = 1024


class Spread(Struct, frozen=True):
    """How much a recipe's codes differ.

    Attributes:
        length: of the personal part beside the mean, as validation chose it.
        entropy: of a channel's code over users, bits, mean over channels.
        distance: share of channels in which two users' codes differ.
        churn: share of channels whose code changes with a user's next event.
    """

    length: float
    entropy: float
    distance: float
    churn: float


@dataclass(frozen=True, eq=False)
class Row:
    """A row to judge: made when its turn comes."""

    name: str
    family: Family
    judge: Callable[[], Judged]


@dataclass(frozen=True, eq=False)
class Desk:
    """What all rows of a point are made with.

    Attributes:
        material: of one run.
        point: the widths.
    """

    material: Material
    point: Point

    @cached_property
    def frozen(self) -> FrozenBase:
        """The base as the point rounds it."""
        return replace(self.material.at(self.point.alphabet, self.point.table), activations=self.point.activations)

    @cached_property
    def observed(self) -> Observed:
        """What one pass over unseen events taught."""
        return self.material.observed(self.point.alphabet[0], self.point.alphabet[-1])

    @cached_property
    def ridge(self) -> tuple[Ridge, float]:
        """The ridge, its personal part as long as validation likes it best at this point, and that length."""

        def quality(ridge: AbstractPersonalizer) -> float:
            return self.frozen.judge(self.material.select, self._own(ridge, self.material.select)).mean_likelihood

        return choose_length(self.observed.ridge, self.material.learn.profiles, quality)

    @property
    def learned(self) -> Float[Tensor, " channels"]:
        """The importance that the ridge sees for everybody: without its personal part."""
        profiles = self.material.learn.profiles
        return with_length(self.observed.ridge, profiles, 0.0).importance(profiles[:1])[0].detach()

    @property
    def untrained(self) -> AbstractPersonalizer:
        """A CHORD that knows nothing but magnitudes, and how to cut."""
        return self._make(PersonalizerRecipe(alphabet=self.point.alphabet))

    def same(self, name: str, family: Family, importance: Float[Tensor, " channels"]) -> Row:
        """Make a row of one allocation for everybody.

        Args:
            name: of the row.
            family: what kind of thing it is.
            importance: of each channel.

        Returns:
            the row.
        """

        def judge() -> Judged:
            return self.frozen.judge(self.material.test, self._cut(importance[None]).expand(len(self.material.test), -1, -1))

        return Row(name, family, judge)

    def personal(self, recipe: str, make: Callable[[], AbstractPersonalizer]) -> Iterator[Row]:
        """Make the rows of a recipe: own widths, and their controls; the spread of its codes is written beside them.

        Args:
            recipe: its name.
            make: gives its personalizer, when the first row is judged.

        Yields:
            own, another user's, the average user's; of the ridge random and aged ones, too.
        """
        test, seed = self.material.test, self.material.seed
        personalizer = cache(make)

        @cache
        def own() -> Tensor:
            return self._own(personalizer(), test)

        def average() -> Tensor:
            mean = torch.cat(
                [personalizer().importance(chunk) for chunk in torch.split(self.material.learn.profiles[:4096], CHUNK)]
            )
            return self._cut(mean.mean(dim=0, keepdim=True)).expand(len(test), -1, -1)

        def random() -> Tensor:
            codes = own().sum(dim=1).to(torch.uint8).numpy()
            return _steps(shuffle_codes(codes, self.material.inputs.numpy().astype(np.int64), seed=seed), self.point)

        def judge_own() -> Judged:
            self._write_spread(recipe, own(), self._own(personalizer(), self.material.before))
            return self.frozen.judge(test, own())

        swapped = torch.from_numpy(another_user(len(test), seed=seed))
        yield Row(f"own widths ({recipe})", "personal", judge_own)
        yield Row(f"another user's widths ({recipe})", "control", lambda: self.frozen.judge(test, own()[swapped]))
        yield Row(f"average user's widths ({recipe})", "control", lambda: self.frozen.judge(test, average()))
        if recipe == "ridge":
            yield Row(f"random widths ({recipe})", "control", lambda: self.frozen.judge(test, random()))
            for age in AGES:
                yield Row(f"own widths, {age} events old ({recipe})", "personal", partial(self._judge_aged, personalizer, age))

    def hypernetwork(self, without: str = "") -> AbstractPersonalizer:
        """Teach a CHORD what the ridge says, or read what it learned from the same ridge at another point.

        Args:
            without: a level that it lacks: `filter`, `element`, `layer`, or none.

        Returns:
            the hypernetwork.
        """
        levels = {f"{without}_level": False} if without else {}
        made = self._make(msgspec.structs.replace(PersonalizerRecipe(alphabet=self.point.alphabet), **levels))
        low, high, (ridge, length) = self.point.alphabet[0], self.point.alphabet[-1], self.ridge
        path = self.material.folder / f"chord{'-without-' if without else ''}{without}-{low}-{high}-{length:g}.safetensors"
        if not path.exists():
            for _ in imitate(made, ridge, self.material.learn, steps=LESSONS, seed=self.material.seed):
                pass
            write_whole(path, tensor_bytes({name: tensor.detach() for name, tensor in made.named_parameters()}))
        made.load_state_dict(load_file(path), strict=False)  # buffers are the base's and the alphabet's
        return made.eval().requires_grad_(False)

    def judge_level(self, without: str) -> Judged:
        """Judge every user with their own widths by a CHORD that lacks a level.

        Args:
            without: the level.

        Returns:
            what came of it.
        """
        return self.frozen.judge(self.material.test, self._own(self.hypernetwork(without), self.material.test))

    def _make(self, recipe: PersonalizerRecipe) -> AbstractPersonalizer:
        weights = {name: every[-1] for name, every in self.material.at((2, 8)).weights.items()}
        return make_personalizer(self.frozen.base, recipe, weights)

    def _judge_aged(self, make: Callable[[], AbstractPersonalizer], age: int) -> Judged:
        """Judge widths that were answered to the profile of some events ago."""
        asked = self.material.frozen.events(earlier(self.material.test.cases, age))
        return self.frozen.judge(self.material.test, self._own(make(), asked))

    def _cut(self, importance: Float[Tensor, "users channels"]) -> Float[Tensor, "users steps channels"]:
        return self.untrained.cut(importance, self.point.bits)

    @torch.no_grad()
    def _own(self, personalizer: AbstractPersonalizer, events: Events) -> Float[Tensor, "users steps channels"]:
        untrained = self.untrained
        chunks = torch.split(events.profiles, CHUNK)
        return torch.cat([untrained.cut(personalizer.importance(chunk), self.point.bits) for chunk in chunks])

    def _write_spread(self, recipe: str, now: Tensor, then: Tensor) -> None:
        codes, earlier = (steps.sum(dim=1).to(torch.uint8).numpy() for steps in (now, then))
        assert np.array_equal(self.material.test.cases.users, self.material.before.cases.users), (
            "one test and one validation case"
        )
        spread = Spread(self.ridge[1], code_entropy(codes), mean_distance(codes), float((codes != earlier).mean()))
        write_whole(self.material.folder / "rows" / str(self.point) / f"spread-{recipe}.json", msgspec.json.encode(spread))


def _steps(codes: UInt8[np.ndarray, "users channels"], point: Point) -> Float[Tensor, "users steps channels"]:
    """Undo counting steps: step s is taken where more than s are."""
    taken = torch.from_numpy(codes)
    return torch.stack([(taken > step).float() for step in range(len(point.alphabet) - 1)], dim=1)
