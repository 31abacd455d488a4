"""The study of Forward-OFA: do a structure and weights of one's own rank better, and which part of it does?

For each run (the seeds of the study) and each share of the blocks' cost that a device can afford the rows are

    uniform depth                  the base itself, its first blocks
    lookup table                   the base itself; of all structures that fit the budget the likeliest on validation
    own payload                    Forward-OFA
    another user's … · average user's payload      the same answers for the wrong person, or for the mean profile
    lookup table, own weights      the table's structure, weights generated for it
    without …, …                   Forward-OFA without one of its parts, trained alike (`forward_ofa_variants.py`)
    static model of the same size  no payload: an adapter behind the user state, learnt from the same events

All are judged on every test event: rank in the whole catalog, and log-likelihood. `fine-tuned on the device` (all blocks, some
users) is the slow comparison: a delta of the same slots, learnt by gradient steps on the user's own history. What is chosen
at all (epochs, the table, steps and step size of fine-tuning) the fifth of the users with other validation events chose. Each
row is written down when it is judged, each variant when it is trained, so that an interrupted study goes on.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product
from pathlib import Path

import msgspec
import numpy as np
import torch
from jaxtyping import Float
from msgspec import Struct
from safetensors.torch import load_file
from torch import Tensor

from ossia.adaptation import Base, CostTable
from ossia.adaptation.prices import block_latency
from ossia.data import Dataset
from ossia.errors import UsageError
from ossia.evaluation.controls import another_user
from ossia.files import write_whole
from ossia.personalizers.forward_ofa import ForwardOfa
from ossia.service.contenders import draw_cases
from ossia.studies.chord import Done, write_row
from ossia.studies.fine_tuning import fine_tune
from ossia.studies.forward_ofa_conflict import measure_conflict
from ossia.studies.forward_ofa_variants import VARIANTS, Static
from ossia.training import publish
from ossia.training.checkpoint import snapshot, tensor_bytes
from ossia.training.fit import fit, seeded
from ossia.training.frozen import EventBatch, Events, FrozenBase, Judged, fit_temperature, take_cases
from ossia.training.generator import generated_states, make_generator, objective
from ossia.training.generator_recipe import GeneratorRecipe
from ossia.training.personalizer_events import choose_events

FINE_TUNED = "fine-tuned on the device"
FINE_TUNED_USERS = 1_000
FEW = 6
"""Gates whose structures are all tried for the lookup table: 64."""


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
        learn: events that are learnt from.
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
        base = Base.load(folder / "base") if (folder / "base").exists() else publish(run, data, folder / "base")
        frozen = FrozenBase.load(base, (8,), torch.device("cpu"))
        learn, select = (frozen.events(cases) for cases in choose_events(data, recipe))
        frozen = replace(frozen, temperature=fit_temperature(frozen, select))
        test = draw_cases(data.split().test, cases)
        return cls(folder, recipe, frozen, learn, select, frozen.events(test), prices)

    @cached_property
    def untrained(self) -> ForwardOfa:
        """Forward-OFA before it has learnt anything: it adds nothing to the base."""
        base, prices = self.frozen.base, self.prices
        made = make_generator(base, self.recipe, None if prices is None else block_latency(base, prices))
        assert isinstance(made, ForwardOfa), "the recipe's personalizer is forward-ofa"
        return made.eval()

    def trained(self, name: str) -> ForwardOfa:
        """Train a variant, or read what it learnt.

        Args:
            name: in `VARIANTS`.

        Returns:
            the variant.
        """
        network, path = self.make(name), self.folder / f"{name}.safetensors"
        if not path.exists():
            write_whole(path, tensor_bytes(self._train(network)))
        network.load_state_dict(load_file(path))
        return network.eval().requires_grad_(False)

    def make(self, name: str) -> ForwardOfa:
        """Make a variant that has learnt nothing: it adds nothing to the base.

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
    def table(self) -> dict[tuple[int, ...], float]:
        """Structures, and validation's likelihood with the base's own weights: all of few gates, of many a sensible few."""
        path, gates = self.folder / "table.json", len(self.untrained.gates)
        if not path.exists():
            tried = (
                {kept: self._likelihood(kept) for kept in product((0, 1), repeat=gates)} if gates <= FEW else self._thin_out()
            )
            write_whole(path, msgspec.json.encode(list(tried.items())))
        return dict(msgspec.json.decode(path.read_bytes(), type=list[tuple[tuple[int, ...], float]]))

    def _thin_out(self) -> dict[tuple[int, ...], float]:
        """Drop one block after another, each time the one that is missed least; and take the first blocks, of any number."""
        kept = (1,) * len(self.untrained.gates)
        tried = {first: self._likelihood(first) for first in (_first(count, len(kept)) for count in range(len(kept) + 1))}
        while any(kept):
            fewer = [(*kept[:gate], 0, *kept[gate + 1 :]) for gate, runs in enumerate(kept) if runs]
            tried |= {each: self._likelihood(each) for each in fewer}
            kept = max(fewer, key=lambda each: tried[each])
        return tried

    def _likelihood(self, kept: tuple[int, ...]) -> float:
        """Judge a structure of the base on validation."""
        structure = torch.tensor(kept, dtype=torch.float32)
        return float(self.judge(self.untrained, self.select, self.select.profiles, kept=structure).mean_likelihood)

    def looked_up(self, share: float) -> Float[Tensor, " gates"]:
        """Look up the structure for a budget: the likeliest on validation that fits.

        Args:
            share: of what all blocks cost together, what each device can afford.

        Returns:
            the structure.
        """
        structures = {kept: torch.tensor(kept, dtype=torch.float32) for kept in self.table}
        fit = [kept for kept, each in structures.items() if float(each @ self.untrained.costs) <= share + 1e-6]
        return structures[max(fit, key=lambda kept: self.table[kept])]

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
            return run(self.frozen, network, batch, profiles, chosen.expand(len(profiles), -1))

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
            for _ in fit(network, self._loss(epoch), batches, optimizer, seed=(recipe.seed, 3, epoch)):
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

    def _loss(self, epoch: int) -> Callable[[ForwardOfa, EventBatch, torch.Generator], Tensor]:
        """Make the loss of training, for anything that `run` runs."""
        frozen, recipe, temperature = self.frozen, self.recipe, self.recipe.temperature(epoch)

        def loss(network: ForwardOfa, batch: EventBatch, generator: torch.Generator) -> Tensor:
            share = (1.5 * torch.rand(len(batch.targets), generator=generator)).clamp_max(1)
            kept = network.relax(batch.profiles, share, temperature, generator)
            states = run(frozen, network, batch, batch.profiles, kept)
            return objective(frozen, recipe, batch, states, kept @ network.costs)

        return loss


def _first(count: int, gates: int) -> tuple[int, ...]:
    """Keep the first blocks."""
    return (1,) * count + (0,) * (gates - count)


def run(
    frozen: FrozenBase,
    network: ForwardOfa,
    batch: EventBatch,
    profiles: Float[Tensor, "events dim"],
    kept: Float[Tensor, "events gates"],
) -> Float[Tensor, "events dim"]:
    """Run the base with a variant's answers to some profiles.

    Args:
        frozen: the base.
        network: the variant.
        batch: the events.
        profiles: that are asked about.
        kept: which blocks run.

    Returns:
        user states to score with.
    """
    states = generated_states(frozen, network, batch, kept, network.numbers(profiles, kept))
    return network.after(states) if isinstance(network, Static) else states


def study(
    data: Dataset,
    runs: Sequence[Path],
    shares: Sequence[float],
    folder: Path,
    recipe: GeneratorRecipe,
    *,
    cases: int | None = None,
    variants: Sequence[str] = tuple(VARIANTS),
    prices: CostTable | None = None,
) -> Iterator[Done]:
    """Judge every row of every run at every share, or those that are missing; iterate to watch.

    Args:
        data: the prepared log.
        runs: trained on it; the seeds of the study.
        shares: of the blocks' cost that devices can afford, 0 … 1.
        folder: where everything goes.
        recipe: of every variant; its personalizer is `forward-ofa`.
        cases: test events to draw, for a quick look; None: all.
        variants: what to train, of `VARIANTS`; gradients and fine-tuning are measured where all of them are.
        prices: what each block costs where it runs; None: what it weighs.

    Yields:
        each row, when it is written down.

    Raises:
        UsageError: two runs of one name, none, a share out of range, an unknown variant, or other settings than the study
            began with.
        ArtifactError: a run was trained on other data.
    """
    names = [run.resolve().name for run in runs]
    if len(set(names)) != len(names) or not names:
        raise UsageError(f"study: expected runs in folders of different names, got {', '.join(names) or 'none'}")
    if wrong := [share for share in shares if not 0 <= share <= 1]:
        raise UsageError(f"study: expected shares of 0 … 1, got {wrong[0]:g}")
    if unknown := sorted(set(variants) - set(VARIANTS)):
        raise UsageError(f"study: expected variants among {', '.join(VARIANTS)}, got {unknown[0]!r}")
    _keep_settings(folder / "study.json", {"recipe": recipe.resolve(), "cases": cases, "prices": prices})
    for name, path in zip(names, runs, strict=True):
        desk = Desk.prepare(data, path, folder / name, recipe.resolve(), cases=cases, prices=prices)
        for place, make in _rows(desk, shares, variants):
            if not place.exists():
                make(place)
                yield Done(name, place.parent.name, place.stem)


def _keep_settings(path: Path, made_with: Mapping[str, object]) -> None:
    """Write down what the rows were made with, or refuse to mix them with others."""
    settings = msgspec.json.encode(made_with)
    if path.exists() and path.read_bytes() != settings:
        raise UsageError(f"{path}: expected the settings that this study began with, got others; choose another folder")
    write_whole(path, settings)


def _rows(desk: Desk, shares: Sequence[float], variants: Sequence[str]) -> Iterator[tuple[Path, Callable[[Path], None]]]:
    """Name every file of a run's results, and say how it is made. Cheap ones first: what is expensive comes last."""
    for share in shares:
        place = desk.folder / "rows" / f"{share:g}"
        yield place / "uniform depth.npz", partial(_judge, desk, "without controller", share, trained=False)
        yield place / "uniform depth.json", partial(_write_spent, desk, "without controller", share, trained=False)
        yield place / "lookup table.npz", partial(_judge_table, desk, "own payload", share, trained=False)
        yield place / "lookup table.json", partial(_write_looked_up, desk, share)
    for name in variants:
        for share in shares:
            place = desk.folder / "rows" / f"{share:g}"
            yield place / f"{name}.npz", partial(_judge, desk, name, share)
            yield place / f"{name}.json", partial(_write_spent, desk, name, share)
            if name == "own payload":
                yield place / "another user's payload.npz", partial(_judge, desk, name, share, whose="another")
                yield place / "average user's payload.npz", partial(_judge, desk, name, share, whose="average")
                yield place / "lookup table, own weights.npz", partial(_judge_table, desk, name, share)
    if set(variants) == set(VARIANTS):
        yield desk.folder / "conflict.json", partial(_write_conflict, desk)
        yield desk.folder / "rows" / "1" / f"{FINE_TUNED}.npz", partial(_judge_fine_tuned, desk)


def _judge(desk: Desk, name: str, share: float, path: Path, *, trained: bool = True, whose: str = "own") -> None:
    """Judge a variant; untrained, it is the base with that variant's structure."""
    network = desk.trained(name) if trained else desk.make(name)
    own = desk.test.profiles
    asked = {
        "own": lambda: own,
        "another": lambda: own[another_user(len(own), seed=desk.recipe.seed)],
        "average": lambda: desk.learn.profiles.mean(dim=0).expand_as(own),
    }[whose]()
    write_row(path, desk.judge(network, desk.test, asked, share=share))


def _judge_table(desk: Desk, name: str, share: float, path: Path, *, trained: bool = True) -> None:
    """Judge the table's structure, with generated weights or with the base's."""
    network = desk.trained(name) if trained else desk.untrained
    write_row(path, desk.judge(network, desk.test, desk.test.profiles, kept=desk.looked_up(share)))


def _write_spent(desk: Desk, name: str, share: float, path: Path, *, trained: bool = True) -> None:
    """Write down what a variant's structures cost."""
    write_whole(path, msgspec.json.encode(desk.spent(desk.trained(name) if trained else desk.make(name), share)))


def _write_looked_up(desk: Desk, share: float, path: Path) -> None:
    """Write down what the table's structure costs."""
    write_whole(path, msgspec.json.encode(desk.spent(desk.untrained, share, desk.looked_up(share))))


def _write_conflict(desk: Desk, path: Path) -> None:
    """Write down the cosines between gradients of different structures."""
    nets = {name: desk.trained(name) for name in ("own payload", "shared weights, no mapper")}
    write_whole(path, msgspec.json.encode(measure_conflict(desk.frozen, nets, desk.learn, seed=desk.recipe.seed)))


def _judge_fine_tuned(desk: Desk, path: Path) -> None:
    """Fine-tune some test users' own deltas; the rows of the others are left at −1."""
    chosen = np.sort(np.random.default_rng(desk.recipe.seed).permutation(len(desk.test))[:FINE_TUNED_USERS])
    some = Events(take_cases(desk.test.cases, chosen), desk.test.profiles[chosen], desk.test.length)
    judged = fine_tune(desk.frozen, desk.untrained.layout, desk.select, some, seed=desk.recipe.seed)
    likelihood, ranks = np.full(len(desk.test), np.nan, np.float32), np.full(len(desk.test), -1, np.int64)
    likelihood[chosen], ranks[chosen] = judged.log_likelihood, judged.ranks
    write_row(path, Judged(likelihood, ranks))
