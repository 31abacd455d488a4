"""Profile and budget in, structure and weights out: DUET and Forward-OFA as the service runs them, without torch.

    gates       the controller's log-odds for this profile and budget, and then, hard, `ossia.adaptation.structure`
    numbers     the personalizer's network on profile and gates
    deltas      `ossia.adaptation.delta_layout`: which of the numbers goes where, as float16; skipped blocks have none
    codes, rows where a personalizer of codes stands beside it (`forward-ofa+ridge`): that one's importance, within what gates
                and deltas leave of the budget

What is generated is of one size for everybody with the same gates, so budgets are kept before a number is computed. Alone,
it leaves widths and rows as the base has them: a budget that the floor of that exceeds is a `BudgetError`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, UInt8

from ossia.adaptation.adaptation import Adaptation
from ossia.adaptation.allocate import Device, Importance, Plan, make_plan
from ossia.adaptation.base import Base
from ossia.adaptation.delta_layout import DeltaLayout
from ossia.adaptation.manifests import read_tensors
from ossia.adaptation.personalizer_manifest import CONSTANT, CONTROLLER, MODEL, PersonalizerManifest
from ossia.adaptation.structure import StructurePlan, delta_bytes, plan_structure
from ossia.errors import ArtifactError, UsageError
from ossia.service.answerer import FRESH, Answerer, RowCodes
from ossia.service.personalizer import Personalizer, open_graph, read_personalizer, stack_profiles
from ossia.types import Budget, Profile

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


@dataclass(frozen=True, eq=False)
class GeneratorPlan:
    """Everything about an answer that does not depend on the user.

    Attributes:
        structure: which blocks the budget allows.
        budget: what was asked.
        device: what is on it, and how fast it is.
        signed: whether a signature is counted.
    """

    structure: StructurePlan
    budget: Budget
    device: Device
    signed: bool


@dataclass(frozen=True, eq=False)
class Generator(Answerer[GeneratorPlan]):
    """A trained generator of weights, ready to answer. Immutable; threads may share it.

    Attributes:
        base: the base that it speaks of.
        manifest: how it was trained.
        layout: what its numbers mean.
        average: the mean profile over training users: the same answer for everybody, as a control.
        codes: who chooses widths and rows beside it; None: nobody.
    """

    PLANS = 64  # of budgets, and of structures within them

    base: Base
    manifest: PersonalizerManifest
    layout: DeltaLayout
    average: Float32[np.ndarray, "1 dim"]
    codes: Personalizer | None
    _parameters: "InferenceSession"
    _controller: "InferenceSession | None"

    @classmethod
    def load(cls, base: Base, name: str, codes: Personalizer | None = None) -> "Generator":
        """Read `BASE/personalizers/NAME`, every file held to its digest.

        Args:
            base: the base, loaded from its folder.
            name: the personalizer's name.
            codes: who chooses widths and rows beside it; None: nobody.

        Returns:
            the generator.

        Raises:
            UsageError: the base has no personalizer of that name; names those that it has.
            ArtifactError: a file is missing or changed, it was trained on another base, or its graphs have other shapes.
        """
        folder, manifest, content = read_personalizer(base, name)
        made, dim, gates = manifest.generated, manifest.profile_dim, len(base.manifest.gates)
        if made is None or (made.gates and CONTROLLER not in content):
            raise ArtifactError(f"{folder}: expected a personalizer that generates weights, got {manifest.method}")
        layout = _read_layout(folder, base, manifest)
        average = read_tensors(folder / CONSTANT, content[CONSTANT]).get("profile", np.zeros(0, np.float32))
        if average.shape != (dim,) or dim != base.manifest.shape["dim"]:
            raise ArtifactError(f"{folder}: expected profiles of {base.manifest.shape['dim']} values, got {average.shape}")
        inputs = {"profiles": dim} | ({"kept": gates} if made.gates else {})
        parameters = open_graph(folder / MODEL, content[MODEL], inputs, {"numbers": layout.numbers})
        controller = None
        if made.gates:
            asked, answers = {"profiles": dim, "share": 1}, {"log_odds": gates}
            controller = open_graph(folder / CONTROLLER, content[CONTROLLER], asked, answers)
        return cls(base, manifest, layout, average[None], codes, parameters, controller)

    def allocate_many(
        self, profiles: Sequence[Profile], plans: Sequence[GeneratorPlan], held: Sequence[RowCodes | None] | None = None
    ) -> list[Adaptation]:
        """Generate for many users by plans made before.

        Args:
            profiles: one per user.
            plans: one per user, from `plan`.
            held: one per user: the width code of each row that the device has, and may keep; None: it has none.

        Returns:
            one adaptation per user.

        Raises:
            UsageError: a profile of another length.
        """
        if not profiles:
            return []
        answers = self._generate(stack_profiles(profiles, self.manifest.profile_dim), plans)
        if self.codes is None:
            return answers
        channels = self.codes.channel_importance(profiles)
        mine = [None] * len(plans) if held is None else held
        return [
            self._with_codes(answer, plan, Importance(channels[user], self.codes.row_importance(profiles[user])), mine[user])
            for user, (answer, plan) in enumerate(zip(answers, plans, strict=True))
        ]

    def personalize_nobody(self, budget: Budget, *, device: Device = FRESH, signed: bool = False) -> Adaptation:
        """Generate for the average profile: the control that personal answers must beat.

        Args:
            budget: what the device can afford.
            device: what is on it already, and how fast it is.
            signed: leave room for a signature.

        Returns:
            one adaptation for everybody with this budget.

        Raises:
            BudgetError: nothing fits.
        """
        plan = self.plan(budget, device=device, signed=signed)
        answer = self._generate(self.average, [plan])[0]
        return answer if self.codes is None else self._with_codes(answer, plan, self.codes.constant)

    def _generate(self, states: Float32[np.ndarray, "users dim"], plans: Sequence[GeneratorPlan]) -> list[Adaptation]:
        """Choose blocks, then generate for those that run."""
        kept = self._choose(states, plans)
        asked = {"profiles": states} | ({} if self._controller is None else {"kept": kept.astype(np.float32)})
        numbers: Any = self._parameters.run(None, asked)[0]
        assert numbers.shape == (len(states), self.layout.numbers), f"{len(states)} requests, answers {numbers.shape}"
        names = np.array(self.base.manifest.gates)
        return [
            Adaptation(
                gates=None if gates.all() else gates, deltas=self.layout.read(mine, frozenset(names[gates == 0].tolist()))
            )
            for gates, mine in zip(kept, numbers, strict=True)
        ]

    def _choose(
        self, states: Float32[np.ndarray, "users dim"], plans: Sequence[GeneratorPlan]
    ) -> UInt8[np.ndarray, "users gates"]:
        """Choose each user's blocks; all of them where nothing was learned about that."""
        if self._controller is None:
            return np.ones((len(states), len(self.base.manifest.gates)), np.uint8)
        share = np.array([[plan.structure.share] for plan in plans], np.float32)
        log_odds: Any = self._controller.run(None, {"profiles": states, "share": share})[0]
        assert len(log_odds) == len(states), f"{len(states)} requests, {len(log_odds)} answers"
        return np.stack([plan.structure.choose(mine) for plan, mine in zip(plans, log_odds, strict=True)])

    def _with_codes(
        self, answer: Adaptation, plan: GeneratorPlan, importance: Importance, held: RowCodes | None = None
    ) -> Adaptation:
        """Spend what gates and deltas leave on widths of channels and rows."""
        assert self.codes is not None, "nobody chooses widths"
        gates = np.ones(len(self.base.manifest.gates), np.uint8) if answer.gates is None else answer.gates
        rest = self._rest_plan(plan, gates.tobytes()).allocate(importance, held)
        return replace(answer, codes=rest.codes, rows=rest.rows)

    def _make_plan(self, budget: Budget, device: Device, signed: bool) -> GeneratorPlan:
        """Work out what a budget means on a device."""
        structure = plan_structure(
            self.base,
            budget,
            self.layout,
            chosen=self._controller is not None,
            alphabet=(8,) if self.codes is None else self.codes.manifest.alphabet,
            rows=self.codes is not None and budget.table_bytes is not None,
            device=device,
            signed=signed,
        )
        return GeneratorPlan(structure, budget, device, signed)

    @cached_property
    def _rest_plan(self) -> Callable[[GeneratorPlan, bytes], Plan]:
        """From a plan and the gates chosen to the plan of widths; the last few are kept."""
        return lru_cache(maxsize=self.PLANS)(self._make_rest_plan)

    def _make_rest_plan(self, plan: GeneratorPlan, chosen: bytes) -> Plan:
        """Work out what is left for widths. Rows are chosen where the table is limited, and else stay whole."""
        assert self.codes is not None, "nobody chooses widths"
        gates, budget = np.frombuffer(chosen, np.uint8), plan.budget
        if budget.download_bytes is not None:
            budget = replace(budget, download_bytes=budget.download_bytes - delta_bytes(self.base, self.layout, gates))
        return make_plan(
            self.base,
            budget,
            alphabet=self.codes.manifest.alphabet,
            gates=gates,
            device=plan.device,
            signed=plan.signed,
            chosen=("channels",) if budget.table_bytes is None else ("channels", "rows"),
        )


def load_personalizer(base: Base, name: str) -> Personalizer | Generator:
    """Read a personalizer of either kind, or one of each: `forward-ofa+ridge` generates, and the ridge chooses widths.

    Args:
        base: the base, loaded from its folder.
        name: the personalizer's name, or two joined by a plus sign, the generator's first.

    Returns:
        what answers.

    Raises:
        UsageError: the base has no personalizer of that name; names those that it has.
        ArtifactError: a file is missing or changed, or it is not of the kind that its place asks for.
    """
    first, plus, second = name.partition("+")
    if plus:
        return Generator.load(base, first, Personalizer.load(base, second))
    _, manifest, _ = read_personalizer(base, name)
    return Personalizer.load(base, name) if manifest.generated is None else Generator.load(base, name)


def _read_layout(folder: Path, base: Base, manifest: PersonalizerManifest) -> DeltaLayout:
    """Lay out what the manifest names on the base's slots."""
    made = manifest.generated
    assert made is not None, "asked of a personalizer that generates nothing"
    try:
        if made.coordinates and made.rank != base.manifest.basis:
            raise UsageError(f"coordinates: expected a basis of {made.rank} directions, got {base.manifest.basis}")
        return DeltaLayout.of(base.manifest.slots, made.slots, made.rank, coordinates=made.coordinates)
    except UsageError as error:
        raise ArtifactError(f"{folder}: {error}") from error
