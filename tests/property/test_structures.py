"""Structures, generated weights, widths and rows together keep every budget, for any user and any network.

`OSSIA_BUDGETS=10000` tries as many budgets as the bar asks for (minutes); left out, two hundred. What the networks say is
drawn at random here: whatever they say, arithmetic decides.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ossia.adaptation import Adaptation, Base, CostTable, Importance, costs, encode_payload
from ossia.adaptation.allocate import LIMITS, Device
from ossia.adaptation.delta_layout import DeltaLayout
from ossia.adaptation.personalizer_manifest import PersonalizerManifest
from ossia.adaptation.structure import StructurePlan
from ossia.errors import BudgetError, UsageError
from ossia.service.generator import Generator
from ossia.service.personalizer import Personalizer
from ossia.types import Budget, Profile

BUDGETS = int(os.environ.get("OSSIA_BUDGETS", "200"))
PRICES = CostTable(
    "imagined", "numpy", 20.0, {f"blocks.{b}.{g}": 7.0 + b for b in (0, 1) for g in ("attention", "feed_forward")}, 0.02
)
FIELDS: Any = {
    "base": "",
    "beta": 0.3,
    "temperature": 1.0,
    "recipe": {},
    "data": "",
    "versions": {},
    "validation": {},
    "files": {},
}


class Drawn:
    """In the place of a network: numbers drawn anew at each question."""

    def __init__(self, width: int, spread: float, rng: np.random.Generator, *, positive: bool = False) -> None:
        self.width, self.spread, self.rng, self.positive = width, spread, rng, positive

    def run(self, _names: None, asked: dict[str, np.ndarray]) -> list[np.ndarray]:
        drawn = self.spread * self.rng.standard_normal((len(asked["profiles"]), self.width)).astype(np.float32)
        return [np.exp(drawn) if self.positive else drawn]


def draw_generator(base: Base, rng: np.random.Generator) -> Generator:
    """Make a generator of random form, half of them beside a personalizer of codes, some without a controller."""
    slots, gates = base.manifest.slots, len(base.manifest.gates)
    names = [slot.name for slot in slots if rng.random() < 0.5] or [slots[-1].name]
    rank, coordinates = int(rng.integers(0, 3)), bool(base.basis) and rng.random() < 0.5
    layout = DeltaLayout.of(slots, names, int(base.manifest.basis) if coordinates else rank, coordinates=coordinates)
    dim = base.manifest.shape["dim"]
    alphabet = ((2, 4, 8), (0, 2, 4, 8))[rng.integers(2)]
    about = PersonalizerManifest(method="drawn", profile_dim=dim, channels=base.channels, alphabet=alphabet, **FIELDS)
    even = Importance(np.ones(base.channels, np.float32), np.ones(len(base.table), np.float32))
    codes = Personalizer(base, about, even, Drawn(base.channels, 2.0, rng, positive=True)) if rng.random() < 0.5 else None
    controller = Drawn(gates, 3.0, rng) if rng.random() < 0.8 else None
    average = np.zeros((1, dim), np.float32)
    return Generator(base, about, layout, average, codes, Drawn(layout.numbers, 0.1, rng), controller)


def draw_budget(base: Base, rng: np.random.Generator) -> Budget:
    """Limit anything, from nothing at all to more than everything."""
    whole = costs(base, Adaptation(), cost_table=PRICES)
    top = {name: getattr(whole, name) for name in LIMITS} | {"download_bytes": 40_000}
    return Budget(**{name: float(top[name] * rng.uniform(0.02, 1.1)) for name in LIMITS if rng.random() < 0.6})


def draw_profile(base: Base, rng: np.random.Generator) -> Profile:
    return Profile(rng.integers(-127, 128, base.manifest.shape["dim"]).astype(np.int8), np.float32(0.02))


@pytest.mark.parametrize("part", range(4))
def test_no_budget_is_ever_exceeded(base: Base, base_of: Callable[..., Base], part: int) -> None:
    base = base_of("sasrec with a basis") if part == 3 else base
    rng, met, refused = np.random.default_rng(part), 0, 0
    for _ in range(BUDGETS // 4):
        generator, budget, device = draw_generator(base, rng), draw_budget(base, rng), Device(cost_table=PRICES)
        signed = bool(rng.integers(2))
        try:
            answer = generator.personalize(draw_profile(base, rng), budget, device=device, signed=signed)
        except BudgetError as error:
            assert error.floor > getattr(budget, error.budget)
            refused += 1
            continue
        met += 1
        spent = costs(base, answer, cost_table=PRICES, signed=signed)
        for name in LIMITS:
            limit = getattr(budget, name)
            assert limit is None or getattr(spent, name) <= limit, (name, budget, answer)
        sent = encode_payload(base, answer, issued=0, expiry=1, sign=(lambda _: bytes(64)) if signed else None)
        assert len(sent) == spent.payload_bytes
    assert met > 10 and refused > 5


def test_a_floor_that_is_named_can_be_met(base: Base) -> None:
    rng, device = np.random.default_rng(9), Device(cost_table=PRICES)
    for name in LIMITS:
        generator = draw_generator(base, rng)
        with pytest.raises(BudgetError) as caught:
            generator.personalize(draw_profile(base, rng), Budget(**{name: 1.0}), device=device)
        assert caught.value.budget == name
        floor = Budget(**{name: caught.value.floor})
        answer = generator.personalize(draw_profile(base, rng), floor, device=device)
        assert getattr(costs(base, answer, cost_table=PRICES), name) <= caught.value.floor


def test_without_a_limit_a_structure_is_what_the_controller_wants(base: Base) -> None:
    plan = StructurePlan(np.zeros((3, 0)), np.zeros(0))
    assert plan.choose(np.array([0.1, -0.1, 5.0])).tolist() == [1, 0, 1]
    assert plan.share == 1.0


def test_what_fits_is_used_in_the_order_of_log_odds_for_the_price() -> None:
    plan = StructurePlan(np.array([[4.0], [2.0], [1.0]]), np.array([5.0]))
    assert plan.choose(np.array([4.1, 2.0, 0.9])).tolist() == [1, 0, 1]  # 1.02, 1.0 and .9 for one; the second no longer fits
    assert plan.choose(np.array([4.0, 2.2, 0.9])).tolist() == [0, 1, 1]
    assert plan.share == pytest.approx(5 / 7)


def test_latency_without_a_cost_table_is_refused(base: Base) -> None:
    generator = draw_generator(base, np.random.default_rng(0))
    with pytest.raises(UsageError, match="cost table"):
        generator.personalize(draw_profile(base, np.random.default_rng(0)), Budget(latency_us=100.0))


@pytest.mark.parametrize(("blocks", "most"), [(2, 4_000), (8, 12_288)])
def test_payload_sizes_of_the_reference_ranker(make_base: Any, blocks: int, most: int) -> None:
    """Gates alone cost their bits; a rank-1 delta where each layer ends stays within 12 KB for eight blocks."""
    base = make_base(items=50, dim=64, length=50, hidden=256, blocks=blocks)
    gates = Adaptation(gates=np.eye(1, 2 * blocks, dtype=np.uint8)[0])
    assert len(encode_payload(base, gates, issued=0, expiry=1)) == 80 + -(-2 * blocks // 8) <= 84
    names = [slot.name for slot in base.manifest.slots if slot.name.endswith(("output", "contract"))]
    layout = DeltaLayout.of(base.manifest.slots, names, 1)
    numbers = layout.read(np.ones(layout.numbers, np.float32))
    size = len(encode_payload(base, Adaptation(gates=gates.gates, deltas=numbers), issued=0, expiry=1))
    head = 2 + -(-6 * blocks // 8)
    assert size == 80 + -(-2 * blocks // 8) + head + 2 * blocks * (64 + 64 + 64 + 256) <= most


@pytest.mark.parametrize(("blocks", "most"), [(2, 210), (8, 600)])
def test_coordinates_of_every_slot_take_less_than_a_rank_one_delta_of_the_last_ones(
    base_of: Callable[..., Base], blocks: int, most: int
) -> None:
    """Five coordinates for each slot of eight blocks are 480 bytes, in a payload of 570."""
    base = base_of("sasrec with a basis", items=50, dim=64, length=50, hidden=256, blocks=blocks)
    names = [slot.name for slot in base.manifest.slots]
    layout = DeltaLayout.of(base.manifest.slots, names, 5, coordinates=True)
    gates = np.eye(1, 2 * blocks, dtype=np.uint8)[0]
    sent = Adaptation(gates=gates, deltas=layout.read(np.ones(layout.numbers, np.float32)))
    size = len(encode_payload(base, sent, issued=0, expiry=1))
    assert size == 80 + -(-2 * blocks // 8) + 2 + -(-6 * blocks // 8) + 6 * blocks * 2 * 5 <= most
