"""A device that lowers its own budget decodes the same payload to less: never to more, no further than it must."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ossia.adaptation import Adaptation, Base, CostTable, Importance, allocate, costs, lower
from ossia.errors import BudgetError
from ossia.types import Budget

TABLE = CostTable("imagined", "numpy", 10.0, {}, 0.5)
MANY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def sent(base: Base, seed: int, alphabet: tuple[int, ...] = (2, 4, 8)) -> Adaptation:
    """What the cloud answered to a larger budget."""
    rng = np.random.default_rng(seed)
    wanted = Importance(rng.exponential(size=base.channels) ** 2, rng.exponential(size=len(base.table)) ** 3)
    return allocate(base, wanted, Budget(weight_bytes=90_000, table_bytes=14_000), alphabet=alphabet)


def lowest(base: Base, adaptation: Adaptation) -> Adaptation:
    """The least that the same payload can be brought to."""
    assert adaptation.codes is not None
    return Adaptation(codes=np.minimum(adaptation.codes, 1), rows=np.zeros(len(base.table), np.uint8))


@MANY
@given(st.integers(0, 2**32), st.floats(0, 1.2), st.floats(0, 1.2), st.sampled_from([(2, 4, 8), (0, 2, 4, 8)]))
def test_the_budget_holds_nothing_is_widened_and_one_step_less_would_be_too_much(
    reference_base: Base, seed: int, weights: float, table: float, alphabet: tuple[int, ...]
) -> None:
    before = sent(reference_base, seed, alphabet)
    least, most = costs(reference_base, lowest(reference_base, before)), costs(reference_base, before)
    budget = Budget(
        weight_bytes=least.weight_bytes + weights * (most.weight_bytes - least.weight_bytes),
        table_bytes=least.table_bytes + table * (most.table_bytes - least.table_bytes),
    )
    after = lower(reference_base, before, budget)
    found = costs(reference_base, after)
    assert found.weight_bytes <= budget.weight_bytes
    assert found.table_bytes <= budget.table_bytes
    assert (after.codes <= before.codes).all()
    assert set(np.unique(after.rows[after.rows != before.rows])) <= {0}
    assert ((after.codes >= 1) == (before.codes >= 1)).all()
    assert (after is before) == (weights >= 1 and table >= 1)
    if weights < 1:  # a channel of 64 weights gives up 32 bytes, one of 256 128
        assert found.weight_bytes > budget.weight_bytes - 129
    if table < 1:
        assert found.table_bytes > budget.table_bytes - 64 - 8 - 1


def test_the_widest_channels_fall_first_and_the_least_popular_of_the_narrowest_rows_go_first(reference_base: Base) -> None:
    base = reference_base
    codes, rows = np.full(base.channels, 2, np.uint8), np.full(len(base.table), 3, np.uint8)
    codes[[3, 700]], rows[base.table.popularity[:200]] = 3, 1
    before = Adaptation(codes=codes, rows=rows)
    spent = costs(base, before)
    once = lower(base, before, Budget(weight_bytes=spent.weight_bytes - 1))
    assert np.flatnonzero(once.codes != codes).tolist() == [700]
    assert once.codes[700] == 2
    thrice = lower(base, before, Budget(weight_bytes=costs(base, Adaptation(codes=np.full_like(codes, 2))).weight_bytes - 1))
    assert np.flatnonzero(thrice.codes == 1).tolist() == [base.channels - 1]
    assert (thrice.codes[:-1] == 2).all()
    fewer = lower(base, before, Budget(table_bytes=spent.table_bytes - 1))
    assert np.flatnonzero(fewer.rows != rows).tolist() == [base.table.popularity[199]]


def test_rows_go_for_latency_too_where_it_was_measured(reference_base: Base) -> None:
    before = sent(reference_base, 0)
    held = int((before.rows > 0).sum())
    after = lower(reference_base, before, Budget(latency_us=10 + 0.5 * (held - 5)), cost_table=TABLE)
    assert int((after.rows > 0).sum()) == held - 5
    assert lower(reference_base, before, Budget(latency_us=1)) is before


@pytest.mark.parametrize("name", ["weight_bytes", "table_bytes"])
def test_below_the_floor_the_floor_is_named_and_it_can_be_met(reference_base: Base, name: str) -> None:
    before = sent(reference_base, 1)
    with pytest.raises(BudgetError) as caught:
        lower(reference_base, before, Budget(**{name: 1}))
    assert caught.value.budget == name
    lowest = lower(reference_base, before, Budget(**{name: caught.value.floor}))
    assert getattr(costs(reference_base, lowest), name) == caught.value.floor
