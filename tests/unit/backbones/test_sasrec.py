"""SASRec obeys the laws of a causal encoder that counts positions from the newest item, and its joints are where they say."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ossia.backbones import BACKBONES, SASRec
from ossia.errors import UsageError
from ossia.types import Slot

ITEMS, LENGTH = 30, 8


def make(seed: int = 0, *, dropout: float = 0.2, valves: int = 0) -> SASRec:
    torch.manual_seed(seed)
    model = SASRec(ITEMS, dim=8, length=LENGTH, blocks=2, heads=2, hidden=16, dropout=dropout, valves=valves)
    for parameter in model.parameters():  # large enough that every law could be broken visibly
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


histories = st.lists(st.integers(0, ITEMS - 1), min_size=1, max_size=LENGTH)


@settings(max_examples=40)
@given(history=histories.filter(lambda history: len(history) > 1), seed=st.integers(0, 5))
def test_a_later_item_changes_no_earlier_state_when_positions_say_nothing(history: list[int], seed: int) -> None:
    model = make(seed)
    nn.init.zeros_(model.positions.weight)
    states, changed = (model(torch.tensor([[*history[:-1], newest]])) for newest in (history[-1], (history[-1] + 1) % ITEMS))
    assert (states[:, :-1] - changed[:, :-1]).abs().max() <= 1e-6
    assert not torch.allclose(states[:, -1], changed[:, -1])


def test_a_later_item_shifts_positions_and_nothing_else() -> None:
    model, shifted = make(), make()
    shifted.positions.weight.data[:-1] = model.positions.weight.data[1:]
    longer, shorter = model(torch.tensor([[3, 1, 4, 1, 5]])), shifted(torch.tensor([[3, 1, 4, 1]]))
    assert (longer[:, :-1] - shorter).abs().max() <= 1e-6


@pytest.mark.parametrize("position", [0, 1, 2, 3])
def test_position_0_is_the_newest_item(position: int) -> None:
    model = make()
    before = model(torch.tensor([[3, 1, 4, 1]]))
    model.positions.weight.data[position] += torch.randn(8)  # a constant would be normalized away
    moved = (model(torch.tensor([[3, 1, 4, 1]])) - before).abs().amax(dim=2)[0] > 1e-6
    assert moved.tolist() == [column >= 3 - position for column in range(4)]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"dim": 0}, "dim"),
        ({"heads": 3}, "heads"),
        ({"dropout": 1.0}, "dropout"),
        ({"blocks": 0}, "blocks"),
        ({"valves": 2}, "valves"),
    ],
)
def test_sizes_that_make_no_network_are_refused(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SASRec(**{"items": 5, "dim": 8, **sizes})  # type: ignore[arg-type]


def test_heads_own_neighboring_channels() -> None:
    model = make()
    block = model.blocks[0]
    seen: dict[str, Tensor] = {}

    def spy(name: str, linear: nn.Linear, x: Tensor) -> Tensor:
        seen[name] = x
        y: Tensor = linear(x)
        return y

    history = torch.tensor([[3, 1, 4]])
    model(history, slot=spy)
    before = seen["blocks.0.output"].detach().clone()
    block.value.weight.data[:4] += 1  # head 0
    model(history, slot=spy)
    moved = (seen["blocks.0.output"] - before).abs().amax(dim=(0, 1)) > 1e-6
    assert moved.tolist() == [True] * 4 + [False] * 4


def test_the_reference_ranker_has_its_published_slots_and_gates() -> None:
    model = SASRec(10)
    parts = ("query", "key", "value", "output", "expand", "contract")
    assert [slot.name for slot in model.slots()] == [f"blocks.{block}.{part}" for block in (0, 1) for part in parts]
    assert sum(slot.channels for slot in model.slots()) == 1152
    assert model.slots()[4:6] == (
        Slot("blocks.0.expand", 256, 64, "blocks.0.feed_forward"),
        Slot("blocks.0.contract", 64, 256, "blocks.0.feed_forward"),
    )
    assert {slot.gate for slot in model.slots()} == set(model.gates())
    assert model.gates() == ("blocks.0.attention", "blocks.0.feed_forward", "blocks.1.attention", "blocks.1.feed_forward")
    assert {f"{slot.name}.weight" for slot in model.slots()} <= set(model.state_dict())
    assert model.shape == {"items": 10, "dim": 64, "length": 50, "blocks": 2, "heads": 2, "hidden": 256}
    assert BACKBONES[model.kind] is SASRec


def test_with_valves_a_block_has_three_more_slots_under_the_same_gates() -> None:
    model = SASRec(10, blocks=1, hidden=256, valves=1)
    attention = ("query", "key", "value", "attention_valve", "output")
    feed_forward = ("expand", "up", "feed_forward_valve", "contract")
    assert [slot.name for slot in model.slots()] == [f"blocks.0.{part}" for part in (*attention, *feed_forward)]
    assert [slot.gate for slot in model.slots()] == 5 * ["blocks.0.attention"] + 4 * ["blocks.0.feed_forward"]
    assert model.slots()[6] == Slot("blocks.0.up", 256, 64, "blocks.0.feed_forward")
    assert model.gates() == ("blocks.0.attention", "blocks.0.feed_forward")


def test_a_closed_valve_lets_nothing_through() -> None:
    model, history = make(valves=1), torch.tensor([[3, 1, 4]])
    for valve in (model.get_submodule(f"blocks.0.{branch}_valve") for branch in ("attention", "feed_forward")):
        nn.init.zeros_(valve.weight)  # type: ignore[arg-type]
        nn.init.constant_(valve.bias, -200.0)  # type: ignore[arg-type]
    skipped = model(history, gate=lambda name, branch: branch * ("blocks.0" not in name))
    assert torch.equal(model(history), skipped)


def test_every_slot_and_gate_passes_its_joint_once_in_the_forward() -> None:
    model, slots, gates = make(), [], []

    def slot(name: str, linear: nn.Linear, x: Tensor) -> Tensor:
        assert linear is model.get_submodule(name)
        slots.append(name)
        y: Tensor = linear(x)
        return y

    def gate(name: str, branch: Tensor) -> Tensor:
        gates.append(name)
        return branch

    history = torch.tensor([[3, 1, 4]])
    assert torch.equal(model(history, slot=slot, gate=gate), model(history))
    assert slots == [each.name for each in model.slots()]
    assert gates == list(model.gates())


@pytest.mark.parametrize("skipped", make().gates())
def test_a_gate_skips_exactly_its_branch(skipped: str) -> None:
    model, history = make(), torch.tensor([[3, 1, 4]])
    gated = model(history, gate=lambda name, branch: branch * (name != skipped))
    block, branch = skipped.rsplit(".", 1)
    last: nn.Linear = model.get_submodule(f"{block}.{'output' if branch == 'attention' else 'contract'}")  # type: ignore[assignment]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    assert torch.equal(gated, model(history))


def textbook(model: SASRec, history: Tensor) -> Tensor:
    """The module's equations once more, one user, without batch or mask tricks."""
    weight: Callable[[str], Tensor] = model.get_parameter
    norm: Callable[[str, Tensor], Tensor] = lambda name, x: (  # noqa: E731
        (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt() * weight(f"{name}.weight")
        + weight(f"{name}.bias")
    )
    linear: Callable[[str, Tensor], Tensor] = lambda name, x: x @ weight(f"{name}.weight").T + weight(f"{name}.bias")  # noqa: E731
    time, dim, heads, valves = len(history), model.shape["dim"], model.shape["heads"], "valves" in model.shape
    h = weight("items.weight")[history] + weight("positions.weight")[:time].flip(0)
    for block in (f"blocks.{index}" for index in range(model.shape["blocks"])):
        n = norm(f"{block}.attention_norm", h)
        mixed = []
        for own in torch.arange(dim).chunk(heads):
            q, k, v = (linear(f"{block}.{part}", n)[:, own] for part in ("query", "key", "value"))
            scores = (q @ k.T / (dim / heads) ** 0.5).masked_fill(torch.ones(time, time).triu(1) > 0, -torch.inf)
            mixed.append(scores.softmax(-1) @ v)
        attention = linear(f"{block}.output", torch.cat(mixed, -1))
        h = h + (attention / (1 + (-linear(f"{block}.attention_valve", h)).exp()) if valves else attention)
        n = norm(f"{block}.feed_forward_norm", h)
        inner = linear(f"{block}.expand", n)
        inner = inner / (1 + (-inner).exp()) * linear(f"{block}.up", n) if valves else inner.relu()
        feed_forward = linear(f"{block}.contract", inner)
        h = h + (feed_forward / (1 + (-linear(f"{block}.feed_forward_valve", h)).exp()) if valves else feed_forward)
    return norm("norm", h)


@settings(max_examples=30)
@given(history=histories, seed=st.integers(0, 3), valves=st.integers(0, 1))
def test_the_module_computes_its_equations(history: list[int], seed: int, valves: int) -> None:
    model = make(seed, valves=valves)
    expected = textbook(model, torch.tensor(history))
    assert (model(torch.tensor([history]))[0] - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_dropout_works_in_training_and_only_there() -> None:
    model, history = make(dropout=0.5), torch.tensor([[3, 1, 4]])
    assert torch.equal(model(history), model(history))
    model.train()
    assert not torch.equal(model(history), model(history))
