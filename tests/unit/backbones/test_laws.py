"""The laws that every backbone keeps: causal, blind to padding and to neighbors, and adapted only where it says."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ossia.backbones import BACKBONES, Backbone, plain
from ossia.errors import UsageError

ITEMS, LENGTH = 30, 8
SIZES: dict[str, dict[str, int]] = {
    "sasrec": {"blocks": 2, "heads": 2, "hidden": 16},
    "caser": {"vertical": 3, "horizontal": 4},
    "gru4rec": {"layers": 2, "hidden": 12},
    "sasrec with valves": {"blocks": 2, "heads": 2, "hidden": 16, "valves": 1},
}
KINDS = pytest.mark.parametrize("kind", SIZES)
kinds = st.sampled_from(list(SIZES))
histories = st.lists(st.integers(0, ITEMS - 1), min_size=1, max_size=LENGTH)


def make(kind: str, seed: int = 0, *, dropout: float = 0.2) -> Backbone:
    """Make a model whose weights are large enough that every law could be broken visibly."""
    torch.manual_seed(seed)
    model = BACKBONES[kind.split()[0]](ITEMS, dim=8, length=LENGTH, **SIZES[kind], dropout=dropout)
    for name, parameter in model.named_parameters():
        if not name.startswith("positions"):  # SASRec's positions count from the newest: see its own tests
            nn.init.normal_(parameter, std=0.5)
    return model.eval()


def through_joints(name: str, linear: nn.Linear, x: Tensor) -> Tensor:
    """`plain` by another name, so that a model can't know that nothing is adapted; and the axes that joints are promised."""
    assert x.ndim == 3
    return plain(name, linear, x)


JOINTS = st.sampled_from([plain, through_joints])


@settings(max_examples=25)
@given(kind=kinds, history=histories, padding=st.integers(0, LENGTH), slot=JOINTS)
def test_left_padding_changes_no_state(kind: str, history: list[int], padding: int, slot: Callable) -> None:
    model, padding = make(kind), min(padding, LENGTH - len(history))
    bare = model(torch.tensor([history]), slot=slot)
    padded = model(torch.tensor([[-1] * padding + history]), slot=slot)
    assert (padded[:, padding:] - bare).abs().max() <= 1e-5


@settings(max_examples=25)
@given(kind=kinds, history=histories, other=histories, slot=JOINTS)
def test_a_neighbor_in_the_batch_changes_no_state(kind: str, history: list[int], other: list[int], slot: Callable) -> None:
    model, time = make(kind), max(len(history), len(other))
    together = model(torch.tensor([[-1] * (time - len(row)) + row for row in (history, other)]), slot=slot)
    assert (together[0, time - len(history) :] - model(torch.tensor([history]))[0]).abs().max() <= 1e-5


@settings(max_examples=25)
@given(kind=kinds, history=histories.filter(lambda history: len(history) > 1), slot=JOINTS)
def test_a_later_item_changes_no_earlier_state(kind: str, history: list[int], slot: Callable) -> None:
    model = make(kind)
    if kind.startswith("sasrec"):  # what a later item moves there is positions, and nothing else
        nn.init.zeros_(model.get_parameter("positions.weight"))
    pair = ([*history[:-1], newest] for newest in (history[-1], (history[-1] + 1) % ITEMS))
    states, changed = (model(torch.tensor([row]), slot=slot) for row in pair)
    assert (states[:, :-1] - changed[:, :-1]).abs().max() <= 1e-5
    assert not torch.allclose(states[:, -1], changed[:, -1])


@settings(max_examples=25)
@given(kind=kinds, pieces=st.lists(histories, min_size=1, max_size=6), slot=JOINTS, seed=st.integers(0, 99))
def test_histories_end_to_end_get_the_states_that_they_get_alone(
    kind: str, pieces: list[list[int]], slot: Callable, seed: int
) -> None:
    model, rng = make(kind), np.random.default_rng(seed)
    items, positions, owners = (np.full((2, 6 * LENGTH), empty) for empty in (-1, 0, -1))
    ends, places = [0, 0], []
    for number, piece in enumerate(pieces):  # into either row, with a gap now and then
        row = int(rng.integers(2))
        start = ends[row] + int(rng.integers(2)) * (6 * LENGTH - sum(map(len, pieces)) >= len(pieces))
        span = slice(start, start + len(piece))
        items[row, span], positions[row, span], owners[row, span] = piece, np.arange(len(piece))[::-1], number
        ends[row] = span.stop
        places.append((row, span))
    vectors = model.items(torch.from_numpy(items).clamp_min(0))
    states = model.encode(vectors, torch.from_numpy(positions), torch.from_numpy(owners), slot=slot)
    for (row, span), piece in zip(places, pieces, strict=True):
        assert (states[row, span] - model(torch.tensor([piece]))[0]).abs().max() <= 1e-5


@settings(max_examples=25)
@given(kind=kinds, rows=st.lists(histories, min_size=1, max_size=5))
def test_the_way_through_the_joints_gives_the_same_states_and_gradients(kind: str, rows: list[list[int]]) -> None:
    time = max(map(len, rows))
    padded = torch.tensor([[-1] * (time - len(row)) + row for row in rows])
    found = []
    for slot in (plain, through_joints):
        model = make(kind, dropout=0.0)
        states = model(padded, slot=slot)[padded >= 0]
        states.square().sum().backward()
        found.append((states.detach(), *(parameter.grad for parameter in model.parameters() if parameter.grad is not None)))
    assert len(found[0]) == len(found[1])
    for fast, through in zip(*found, strict=True):
        assert (fast - through).abs().max() <= 1e-5 * max(1.0, float(through.abs().max()))


@KINDS
def test_rows_of_pure_padding_are_finite_and_so_are_their_gradients(kind: str) -> None:
    for rows in ([[-1, -1, -1], [-1, 2, 3]], [[-1, -1, -1]]):
        model = make(kind, dropout=0.0)
        states = model(torch.tensor(rows))
        states.sum().backward()
        assert torch.isfinite(states).all()
        assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)


@KINDS
def test_padding_gets_no_gradient_and_every_parameter_that_can_be_read_gets_one(kind: str) -> None:
    model = make(kind, dropout=0.0)
    torch.manual_seed(5)  # not a plain sum: a layer norm has none
    (model(torch.tensor([[-1, -1, 2, 3, 4, 5, 6, 7]]))[:, 2:] * torch.randn(6, 8)).sum().backward()
    assert model.items.weight.grad is not None
    assert torch.nonzero(model.items.weight.grad.abs().sum(1)).flatten().tolist() == [2, 3, 4, 5, 6, 7]
    blind = [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert blind == []


@KINDS
def test_a_history_longer_than_the_model_reads_is_refused(kind: str) -> None:
    with pytest.raises(UsageError, match="expected at most 8 columns, got 9"):
        make(kind)(torch.zeros(1, 9, dtype=torch.int64))


@KINDS
@pytest.mark.parametrize("change", [{"dim": 0}, {"length": 0}, {"dropout": 1.0}, {"dropout": -0.1}], ids=str)
def test_sizes_that_make_no_network_are_refused(kind: str, change: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(change))}: expected"):
        BACKBONES[kind.split()[0]](**{"items": 5, "dim": 8, **SIZES[kind], **change})


@KINDS
def test_the_published_names_are_those_of_the_parameters(kind: str) -> None:
    model = make(kind)
    slots, parameters = model.slots(), dict(model.named_parameters())
    assert len({slot.name for slot in slots}) == len(slots)
    for slot in slots:
        assert parameters[f"{slot.name}.weight"].shape == (slot.channels, slot.inputs)
        assert parameters[f"{slot.name}.bias"].shape == (slot.channels,)
    assert {slot.gate for slot in slots} - {None} == set(model.gates())
    matrices = {name for name, parameter in parameters.items() if parameter.ndim == 2}
    assert matrices - {f"{slot.name}.weight" for slot in slots} <= {"items.weight", "positions.weight"}
    assert BACKBONES[model.kind] is type(model)
    assert BACKBONES[model.kind](**model.shape, dropout=0.0).shape == model.shape


@KINDS
def test_every_slot_and_gate_passes_its_joint_in_wire_order(kind: str) -> None:
    model, slots, gates = make(kind), [], []

    def slot(name: str, linear: nn.Linear, x: Tensor) -> Tensor:
        assert linear is model.get_submodule(name)
        slots.append(name)
        return plain(name, linear, x)

    def gate(name: str, branch: Tensor) -> Tensor:
        gates.append(name)
        return branch

    model(torch.tensor([[3, 1, 4]]), slot=slot, gate=gate)
    assert list(dict.fromkeys(slots)) == [each.name for each in model.slots()]
    assert gates == list(model.gates())


@pytest.mark.parametrize(("kind", "skipped"), [(kind, gate) for kind in SIZES for gate in make(kind).gates()])
@pytest.mark.parametrize("slot", [plain, through_joints])
def test_a_gate_skips_what_its_last_slot_ends(kind: str, skipped: str, slot: Callable) -> None:
    model, history = make(kind), torch.tensor([[3, 1, 4]])
    gated = model(history, slot=slot, gate=lambda name, branch: branch * (name != skipped))
    assert not torch.allclose(gated, model(history))
    last = model.get_submodule([each.name for each in model.slots() if each.gate == skipped][-1])
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    assert torch.allclose(gated, model(history), atol=1e-6)


@KINDS
def test_dropout_is_for_training_only_and_reaches_what_the_model_adds(kind: str) -> None:
    model, history = make(kind, dropout=0.5), torch.tensor([[3, 1, 4]])
    assert torch.equal(model(history), model(history))
    model.train()
    assert not torch.equal(model(history), model(history))
