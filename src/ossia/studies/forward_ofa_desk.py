"""One run of the study of Forward-OFA, and what its rows are made with: networks, the lookup table, events, judgements.

A desk has a folder. Each network is trained once and read from there afterwards, and so is the lookup table, so that an
interrupted study goes on.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
import torch
from jaxtyping import Float
from msgspec import Struct
from safetensors.torch import load_file
from torch import Tensor

from ossia.adaptation import CostTable
from ossia.adaptation.prices import block_latency
from ossia.data import Dataset
from ossia.files import write_whole
from ossia.personalizers import AbstractGenerator
from ossia.personalizers.forward_ofa import ForwardOfa
from ossia.personalizers.levels import Level
from ossia.service.contenders import draw_cases
from ossia.studies.forward_ofa_variants import VARIANTS, Static
from ossia.studies.runs import published
from ossia.training.checkpoint import snapshot, tensor_bytes
from ossia.training.events import EventBatch, Events
from ossia.training.fit import fit, seeded
from ossia.training.frozen import FrozenBase, Judged, fit_temperature
from ossia.training.generator import make_generator
from ossia.training.generator_answers import answered_states, levels_of, weights_loss
from ossia.training.generator_recipe import GeneratorRecipe
from ossia.training.personalizer_events import choose_events
from ossia.training.structures import Structure, Tried, look_up, try_structures


class Spent(Struct, frozen=True):
    """What a row's structures cost.

    Attributes:
        share: of the cost of all blocks, mean over events.
        structures: how many different ones there are.
        kept: how often each block runs, by gate.
        latency_us: of a ranking, without its rows; None where nobody has measured.
    """

    share: float
    structures: int
    kept: dict[str, float]
    latency_us: float | None


@dataclass(frozen=True, eq=False)
class Desk:
    """One run of the study, and what its rows are made with.

    Attributes:
        folder: where its files lie.
        recipe: of every variant.
        frozen: the base, calibrated.
        learn: events that are learned from.
        select: events that settings are chosen on.
        test: events that are reported.
        prices: what each block costs where it runs; None: what it weighs.
    """

    folder: Path
    recipe: GeneratorRecipe
    frozen: FrozenBase
    learn: Events
    select: Events
    test: Events
    prices: CostTable | None = None

    @classmethod
    def prepare(
        cls,
        data: Dataset,
        run: Path,
        folder: Path,
        recipe: GeneratorRecipe,
        *,
        cases: int | None = None,
        prices: CostTable | None = None,
    ) -> "Desk":
        """Publish a run, unless that is done, and compute profiles.

        Args:
            data: what the run was trained on.
            run: the run's folder.
            folder: where its part of the study goes.
            recipe: of every variant.
            cases: test events to draw, for a quick look; None: all.
            prices: what each block costs where it runs; None: what it weighs.

        Returns:
            the desk.

        Raises:
            ArtifactError: the run was trained on other data.
        """
        base = published(run, data, folder)
        frozen = FrozenBase.load(base, (8,), torch.device("cpu"))
        learn, select = (frozen.events(cases) for cases in choose_events(data, recipe))
        frozen = replace(frozen, temperature=fit_temperature(frozen, select))
        test = draw_cases(data.split().test, cases)
        return cls(folder, recipe, frozen, learn, select, frozen.events(test), prices)

    @cached_property
    def untrained(self) -> ForwardOfa:
        """Forward-OFA before it has learned anything: it adds nothing to the base."""
        base, prices = self.frozen.base, self.prices
        made = make_generator(base, self.recipe, None if prices is None else block_latency(base, prices))
        assert isinstance(made, ForwardOfa), "the recipe's personalizer is forward-ofa"
        return made.eval()

    def trained(self, name: str, *, held: bool = True) -> ForwardOfa:
        """Train a variant, or read what it learned.

        Args:
            name: in `VARIANTS`.
            held: whether its controller is held to levels of the budget, if it has one.

        Returns:
            the variant.
        """
        network, path = self.make(name), self.folder / f"{name}.safetensors"
        if not path.exists():
            write_whole(path, tensor_bytes(self._train(network)))
        network.load_state_dict(load_file(path))
        network.eval().requires_grad_(False)
        if held and hasattr(network, "controller"):
            network.hold_to(self._levels(name, network))
        return network

    def _levels(self, name: str, network: ForwardOfa) -> tuple[Level, ...]:
        """Find a variant's levels on validation, or read them."""
        path = levels_path(self.folder, name)
        if not path.exists():
            write_whole(path, msgspec.json.encode(levels_of(self.frozen, self.recipe, network, self.select)))
        return tuple(Level(*each) for each in msgspec.json.decode(path.read_bytes(), type=list[Level]))

    def make(self, name: str) -> ForwardOfa:
        """Make a variant that has learned nothing: it adds nothing to the base.

        Args:
            name: in `VARIANTS`.

        Returns:
            the variant.
        """
        like, sizes = self.untrained, {setting: getattr(self.recipe, setting) for setting in ForwardOfa.settings}
        dim = self.frozen.base.manifest.shape["dim"]
        with seeded((self.recipe.seed, 1), torch.device("cpu")):
            return VARIANTS[name](like.layout, like.gates, dim, costs=like.costs.tolist(), **sizes).eval()

    @cached_property
    def table(self) -> list[Tried]:
        """The base's own structures and what they are worth on validation; judged once, and written down."""
        path = self.folder / "table.json"
        if not path.exists():
            write_whole(path, msgspec.json.encode(try_structures(len(self.untrained.gates), self._likelihood)))
        return msgspec.json.decode(path.read_bytes(), type=list[Tried])

    def _likelihood(self, kept: Structure) -> float:
        """Judge a structure of the base on validation."""
        structure = torch.tensor(kept, dtype=torch.float32)
        return self.judge(self.untrained, self.select, self.select.profiles, kept=structure).mean_likelihood

    def looked_up(self, share: float) -> Float[Tensor, " gates"]:
        """Look up the structure for a budget: the likeliest on validation that fits.

        Args:
            share: of what all blocks cost together, what each device can afford.

        Returns:
            the structure.
        """
        return torch.tensor(look_up(self.table, self.untrained.costs.tolist(), share), dtype=torch.float32)

    def judge(
        self,
        network: ForwardOfa,
        events: Events,
        asked: Float[Tensor, "events dim"],
        *,
        share: float = 1.0,
        kept: Float[Tensor, " gates"] | None = None,
    ) -> Judged:
        """Judge every event with the answer to some profile.

        Args:
            network: who answers.
            events: what came next for whom.
            asked: the profile that is sent for each event.
            share: of the blocks' cost, what devices can afford.
            kept: a structure for everybody; None: the network's own choice.

        Returns:
            log-likelihood and rank of each target.
        """

        def states(batch: EventBatch) -> Tensor:
            profiles = asked[batch.rows]
            chosen = network.choose(profiles, torch.full((len(profiles),), share)) if kept is None else kept
            return _run(self.frozen, network, batch, profiles, chosen.expand(len(profiles), -1))

        return self.frozen.judge_states(events, states)

    @torch.no_grad()
    def spent(self, network: ForwardOfa, share: float, kept: Float[Tensor, " gates"] | None = None) -> Spent:
        """Say what a network's structures cost on test events.

        Args:
            network: whose.
            share: of what all blocks cost together, what each device can afford.
            kept: a structure for everybody; None: the network's own choice.

        Returns:
            its share of the cost, how many there are, and which blocks run.
        """
        runs = network.choose(self.test.profiles, torch.full((len(self.test),), share)) if kept is None else kept[None]
        often = dict(zip(network.gates, runs.mean(dim=0).tolist(), strict=True))
        spent = float((runs @ network.costs).mean())
        return Spent(spent, len(torch.unique(runs, dim=0)), often, self._latency(spent))

    def _latency(self, share: float) -> float | None:
        """Say how many microseconds a share of all blocks is, and what a ranking costs besides."""
        if self.prices is None:
            return None
        return self.prices.fixed_us + share * sum(block_latency(self.frozen.base, self.prices).values())

    def _train(self, network: ForwardOfa) -> dict[str, Tensor]:
        """Train a variant and return the weights of its best epoch on validation."""
        recipe, best, best_quality, since = self.recipe, snapshot(network), -np.inf, 0
        optimizer = torch.optim.Adam(network.parameters(), lr=recipe.lr)
        for epoch in range(recipe.epochs):
            batches = self.learn.batches(recipe.batch, np.random.default_rng((recipe.seed, 2, epoch)))
            for _ in fit(
                network, weights_loss(self.frozen, recipe, epoch, _run), batches, optimizer, seed=(recipe.seed, 3, epoch)
            ):
                pass
            network.eval()
            shares = recipe.validation_shares
            judged = [self.judge(network, self.select, self.select.profiles, share=share).mean_likelihood for share in shares]
            quality, since = float(np.mean(judged)), since + 1
            if quality > best_quality:
                best, best_quality, since = snapshot(network), quality, 0
            if since >= recipe.patience:
                break
        return best


def levels_path(folder: Path, name: str) -> Path:
    """Say where a variant's levels lie.

    Args:
        folder: the desk's.
        name: in `VARIANTS`.

    Returns:
        the file.
    """
    return folder / f"{name} levels.json"


def _run(
    frozen: FrozenBase,
    network: AbstractGenerator,
    batch: EventBatch,
    profiles: Float[Tensor, "events dim"],
    kept: Float[Tensor, "events gates"],
) -> Float[Tensor, "events dim"]:
    """Run the base with a variant's answers, and what is static behind it."""
    states = answered_states(frozen, network, batch, profiles, kept)
    return network.after(states) if isinstance(network, Static) else states
