"""A small base with a personalizer beside it, shared by the service's tests."""

import numpy as np
import pytest
import torch

from ossia.adaptation import Base
from ossia.adaptation.allocate import GAIN
from ossia.adaptation.manifests import tensor_bytes, write_files, write_manifest
from ossia.adaptation.personalizer_manifest import PersonalizerManifest, personalizer_folder
from ossia.personalizers import Chord, weights_at
from ossia.training.export import export_onnx
from ossia.types import WIDTHS


@pytest.fixture(scope="session")
def chord(make_base) -> Chord:
    """Hypernetworks that no longer are at their start, on the base that `published` is."""
    base = make_base(seed=7)
    weights = {name: stacked[-1] for name, stacked in weights_at(base, (8,)).items()}
    torch.manual_seed(0)
    made = Chord(base.manifest.slots, weights, 8, gains=dict(zip(WIDTHS[1:], GAIN[1:], strict=True)), hidden=16)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made.eval()


@pytest.fixture(scope="session")
def published(make_base, chord: Chord) -> Base:
    """A base with a personalizer beside it, as `ossia.training.release` writes it."""
    base = make_base(seed=7)
    folder = personalizer_folder(base.path, "chord")
    rng = np.random.default_rng(0)
    shares = {"channels": rng.random(base.channels, np.float32), "rows": rng.random(len(base.table), np.float32)}
    content = {
        "model.onnx": export_onnx(chord, {"profiles": 8}, "importance"),
        "constant.safetensors": tensor_bytes(shares),
        "history.jsonl": b"{}\n",
    }
    manifest = PersonalizerManifest(
        method="chord",
        base=base.id.hex(),
        profile_dim=8,
        channels=base.channels,
        alphabet=(2, 4, 8),
        beta=0.5,
        temperature=1.5,
        recipe={},
        data="",
        versions={},
        validation={},
        files=write_files(folder, content),
    )
    write_manifest(folder / "manifest.json", manifest)
    return base
