"""GRU4Rec: torch's own recurrent unit, run over histories of any length at once."""

import torch
from torch import nn

from ossia.backbones import GRU4Rec
from ossia.backbones.gru4rec import update_memory
from ossia.types import Slot


def make(layers: int = 2) -> GRU4Rec:
    torch.manual_seed(0)
    model = GRU4Rec(30, dim=8, length=8, layers=layers, hidden=12)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


def test_a_layer_is_torchs_gru_on_the_normalized_stream_and_a_way_back() -> None:
    model, history = make(layers=1), torch.tensor([[3, 1, 4, 1, 5]])
    layer = model.layers[0]
    unit = nn.GRU(8, 12, batch_first=True)
    unit.load_state_dict(
        {
            "weight_ih_l0": layer.input.weight,
            "weight_hh_l0": layer.hidden.weight,
            "bias_ih_l0": layer.input.bias,
            "bias_hh_l0": layer.hidden.bias,
        }
    )
    stream = model.items(history)
    expected = model.norm(stream + layer.output(unit(layer.norm(stream))[0]))
    assert (model(history) - expected).abs().max() <= 1e-5


def test_a_step_is_torchs_cell() -> None:
    torch.manual_seed(0)
    cell, x, memory = nn.GRUCell(5, 7), torch.randn(3, 5), torch.randn(3, 7)
    inputs = x @ cell.weight_ih.T + cell.bias_ih
    hidden = memory @ cell.weight_hh.T + cell.bias_hh
    assert (update_memory(inputs, hidden, memory) - cell(x, memory)).abs().max() <= 1e-6


def test_an_old_event_is_remembered_and_its_place_matters() -> None:
    model = make()
    states = [model(torch.tensor([row]))[0, -1] for row in ([1, 2, 3, 4], [5, 2, 3, 4], [2, 1, 3, 4])]
    assert all((states[0] - other).abs().max() > 1e-3 for other in states[1:])


def test_no_work_is_done_on_padding() -> None:
    model, read = make(), []
    model.norm.register_forward_hook(lambda _module, inputs, _output: read.append(inputs[0].shape[0]))
    padded = torch.full((10, 8), -1)
    padded[:, -2:] = 7
    model(padded)
    assert read == [20]


def test_the_default_has_its_published_slots_and_gates() -> None:
    model = GRU4Rec(10)
    assert model.slots() == (
        Slot("layers.0.input", 384, 64, "layers.0"),
        Slot("layers.0.hidden", 384, 128, "layers.0"),
        Slot("layers.0.output", 64, 128, "layers.0"),
    )
    assert model.gates() == ("layers.0",)
    assert model.shape == {"items": 10, "dim": 64, "length": 50, "layers": 1, "hidden": 128}
