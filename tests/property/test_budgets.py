"""Budgets are hard for every user, all at once, and what binds is used."""

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ossia.adaptation import Adaptation, CostTable, Device, Importance, allocate, costs, encode_payload
from ossia.adaptation.allocate import LIMITS
from ossia.errors import BudgetError, UsageError
from ossia.types import Budget

TABLE = CostTable(
    "imagined",
    "numpy",
    100.0,
    {f"blocks.{b}.{g}": 40.0 for b in (0, 1) for g in ("attention", "feed_forward")},
    0.05,
    {"blocks.0.expand": 0.02},
)
HOLDS = {"everything": Adaptation(), "nothing": None, "the base": Adaptation(rows=np.zeros(300, np.uint8))}
SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def importance(seed):
    """Random users, from even ones to very pointed ones."""
    rng = np.random.default_rng(seed)
    return Importance(rng.exponential(size=1152) ** rng.uniform(0, 4), rng.exponential(size=300) ** rng.uniform(0, 6))


def priced(base, adaptation, device):
    found = costs(base, adaptation, on_device=device.holds, cost_table=device.cost_table)
    return {name: getattr(found, name) for name in LIMITS}


limit = st.floats(0.0, 1.1)


@SLOW
@given(
    seed=st.integers(0, 2**32),
    shares=st.tuples(limit, limit, limit, limit),
    asked=st.sets(st.sampled_from(LIMITS)),
    holds=st.sampled_from(sorted(HOLDS)),
    alphabet=st.sampled_from([(2, 4, 8), (0, 2, 4, 8), (2, 8)]),
)
@example(0, (0.0, 0.75, 0.0, 0.0), {"weight_bytes"}, "everything", (0, 2, 4, 8))  # a step narrower than the one below it
def test_no_budget_is_ever_exceeded_and_a_binding_one_is_used(reference_base, seed, shares, asked, holds, alphabet):
    base, device = reference_base, Device(HOLDS[holds], TABLE)
    top = priced(base, Adaptation(), device)
    limits = {name: share * top[name] + 1 for name, share in zip(LIMITS, shares, strict=True) if name in asked}
    budget = Budget(**limits)
    try:
        adaptation = allocate(base, importance(seed), budget, alphabet=alphabet, device=device)
    except BudgetError as error:
        assert error.floor > getattr(budget, error.budget)
        return
    spent = priced(base, adaptation, device)
    assert all(spent[name] <= limits[name] for name in asked)
    for name in binding(base, adaptation, limits, device, alphabet):
        assert spent[name] >= 0.97 * limits[name], (name, spent, limits)


def binding(base, adaptation, limits, device, alphabet):
    """Name the limits that alone keep some channel or row from its next width."""
    spent = np.array([priced(base, adaptation, device)[name] for name in limits])
    allowed = np.array(list(limits.values()))
    found = set()
    for field, widths in (("codes", alphabet), ("rows", (0, 2, 4, 8))):
        codes = getattr(adaptation, field)
        if codes is None:
            continue
        ladder = [(0, 2, 4, 8).index(width) for width in widths]
        for thing in np.random.default_rng(0).permutation(np.flatnonzero(codes < 3))[:12]:
            more = codes.copy()
            more[thing] = min(code for code in ladder if code > codes[thing])
            richer = Adaptation(**{"codes": adaptation.codes, "rows": adaptation.rows, field: more})
            over = np.array([priced(base, richer, device)[name] for name in limits]) > allowed
            if over.sum() == 1:
                found.add(list(limits)[int(over.argmax())])
            assert over.any() or (spent == allowed).any(), "a step that fits every limit was left out"
    return found


@SLOW
@given(st.integers(0, 2**32), st.floats(0.02, 1))
def test_the_payload_is_as_long_as_it_was_priced(reference_base, seed, share):
    budget = Budget(table_bytes=4000 + share * 20000, weight_bytes=50000 + share * 80000)
    adaptation = allocate(reference_base, importance(seed), budget)
    data = encode_payload(reference_base, adaptation, issued=1, expiry=2)
    assert len(data) == costs(reference_base, adaptation).payload_bytes


@pytest.mark.parametrize("name", LIMITS)
def test_a_budget_that_can_not_be_met_names_its_floor_and_the_floor_can_be_met(reference_base, name):
    device = Device(None, TABLE)
    with pytest.raises(BudgetError) as caught:
        allocate(reference_base, importance(0), Budget(**{name: 1.0}), device=device)
    assert caught.value.budget == name
    adaptation = allocate(reference_base, importance(0), Budget(**{name: caught.value.floor}), device=device)
    assert priced(reference_base, adaptation, device)[name] <= caught.value.floor


def test_a_latency_budget_needs_a_measured_cost_table(reference_base):
    with pytest.raises(UsageError, match="cost table"):
        allocate(reference_base, importance(0), Budget(latency_us=100.0))


def test_a_generous_budget_leaves_the_base_as_it_is(reference_base):
    adaptation = allocate(reference_base, importance(0), Budget(weight_bytes=1e9, table_bytes=1e9, download_bytes=1e9))
    assert adaptation.codes is None and adaptation.rows is None


def test_more_important_channels_of_one_slot_never_get_fewer_bits(reference_base):
    wanted = importance(3)
    adaptation = allocate(reference_base, wanted, Budget(weight_bytes=60000))
    span = reference_base.spans["blocks.0.expand"]
    by_importance = adaptation.codes[span][np.argsort(-wanted.channels[span])].astype(int)
    falls = np.diff(by_importance)
    assert (falls <= 0).mean() > 0.98  # but for the last few bytes, filled with whatever still fits
