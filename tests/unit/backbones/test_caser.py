"""Caser: the paper's filters, and nothing of an event that lies further back than it reads."""

import torch
from torch import nn

from ossia.backbones import Caser
from ossia.types import Slot


def make(length: int = 4) -> Caser:
    torch.manual_seed(0)
    model = Caser(30, dim=8, length=length, vertical=3, horizontal=5)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


def test_the_filters_are_convolutions_over_an_image_of_events_and_features() -> None:
    """The paper's own picture, with torch's `conv2d`: L × 1 filters, and k × dim filters with a maximum over places."""
    model, history = make(), torch.tensor([[3, 1, 4, 1]])
    image = model.items(history)[:, None]
    vertical = nn.functional.conv2d(image, model.vertical.weight[:, None, :, None], model.vertical.bias)
    said = [vertical[0, :, 0].T.flatten()]  # feature by feature
    for height in range(1, 5):
        layer = model.horizontal[str(height)]
        answers = nn.functional.conv2d(image, layer.weight.view(5, 1, height, 8), layer.bias)
        said.append(answers.relu().amax(dim=(0, 2, 3)))
    expected = model.norm(image[0, 0, -1] + model.combine(torch.cat(said)))
    assert (model(history)[0, -1] - expected).abs().max() <= 1e-5


def test_only_the_newest_events_speak_wherever_they_lie_in_a_row() -> None:
    model = make()
    pieces = torch.zeros(1, 9, dtype=torch.int64)
    items = torch.tensor([[9, 8, 7, 6, 5, 3, 1, 4, 1]])
    states = model.encode(model.items(items), pieces, pieces)
    for end in range(4, 10):
        assert (states[0, end - 1] - model(items[:, end - 4 : end])[0, -1]).abs().max() <= 1e-5


def test_the_window_of_a_young_history_begins_with_zeros() -> None:
    model = make()
    nn.init.zeros_(model.items.weight.data[0])
    assert torch.allclose(model(torch.tensor([[0, 0, 3, 1]]))[0, -1], model(torch.tensor([[3, 1]]))[0, -1], atol=1e-6)


def test_the_default_has_its_published_slots_and_gates() -> None:
    model = Caser(10)
    heights = [Slot(f"horizontal.{k}", 16, 64 * k, f"horizontal.{k}") for k in range(1, 6)]
    assert model.slots() == (Slot("vertical", 4, 5, "vertical"), *heights, Slot("combine", 64, 4 * 64 + 5 * 16, None))
    assert model.gates() == ("vertical", *(f"horizontal.{k}" for k in range(1, 6)))
    assert model.shape == {"items": 10, "dim": 64, "length": 5, "vertical": 4, "horizontal": 16}
