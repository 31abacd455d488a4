"""What many tests share: shapes checked at run time, and small published bases made from a seed, without training."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

# Before any ossia module is imported: from here on every annotated shape and dtype is checked on every call.
install_import_hook("ossia", "beartype.beartype")

from ossia.adaptation import Base, singular_basis, write_base
from ossia.adaptation.tail import Tail
from ossia.types import Slot

# Two workers on two cores wait for each other: a slow example is no failure.
settings.register_profile("ossia", deadline=None)
settings.load_profile("ossia")

MakeBase = Callable[..., Base]

SMALL = {
    "sasrec": {"dim": 8, "length": 6, "blocks": 2, "heads": 2, "hidden": 16},
    "caser": {"dim": 8, "length": 4, "vertical": 3, "horizontal": 5},
    "gru4rec": {"dim": 8, "length": 6, "layers": 2, "hidden": 12},
    "sasrec with valves": {"dim": 8, "length": 6, "blocks": 2, "heads": 2, "hidden": 16, "valves": 1},
    "sasrec with a tail": {"dim": 8, "length": 6, "blocks": 1, "heads": 2, "hidden": 16},
    "sasrec with a basis": {"dim": 8, "length": 6, "blocks": 2, "heads": 2, "hidden": 16},
}
"""Small sizes of every backbone, by its name and what is special about it."""


@pytest.fixture(scope="session")
def make_base(tmp_path_factory: pytest.TempPathFactory) -> MakeBase:
    """Return a function that publishes a SASRec of random weights; equal arguments give the same base."""

    def make(
        *, items: int = 40, dim: int = 8, length: int = 6, blocks: int = 2, heads: int = 2, hidden: int = 16, seed: int = 0
    ) -> Base:
        rng = np.random.default_rng(seed)
        slots, weights = [], {"positions.weight": _normal(rng, length, dim), **_norm(rng, "norm", dim)}
        for block in range(blocks):
            for part, channels, inputs, gate in _parts(dim, hidden):
                name = f"blocks.{block}.{part}"
                slots.append(Slot(name, channels, inputs, f"blocks.{block}.{gate}"))
                weights |= {f"{name}.weight": _normal(rng, channels, inputs) / np.float32(inputs**0.5)}
                weights |= {f"{name}.bias": 0.1 * _normal(rng, channels)}
            for gate in ("attention", "feed_forward"):
                weights |= _norm(rng, f"blocks.{block}.{gate}_norm", dim)
        return write_base(
            tmp_path_factory.mktemp("base") / "BASE",
            backbone="sasrec",
            shape={"items": items, "dim": dim, "length": length, "blocks": blocks, "heads": heads, "hidden": hidden},
            slots=slots,
            gates=[f"blocks.{block}.{gate}" for block in range(blocks) for gate in ("attention", "feed_forward")],
            weights=weights,
            profile_clip=3.0,
            item_vectors=_normal(rng, items, dim),
            item_ids=[f"item-{row}" for row in range(items)],
            item_counts=np.sort(rng.integers(1, 100, items)).astype(np.float32)[::-1].copy(),
            titles=[f"Title {row}" for row in range(items)],
        )

    return make


@pytest.fixture(scope="session")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> MakeBase:
    """Return a function that publishes any backbone with random weights, at its own small sizes or at others."""

    def make(kind: str, *, items: int = 40, **sizes: int) -> Base:
        import torch

        from ossia.backbones import BACKBONES

        torch.manual_seed(0)
        model = BACKBONES[kind.split()[0]](items, **{**SMALL[kind], **sizes})
        rng = np.random.default_rng(0)
        names = [name for name in model.state_dict() if name != "items.weight"]
        weights = {name: _near_initial(rng, name, model.state_dict()[name].numpy()) for name in names}
        return write_base(
            tmp_path_factory.mktemp("base") / "BASE",
            backbone=model.kind,
            shape=model.shape,
            slots=model.slots(),
            gates=model.gates(),
            weights=weights,
            profile_clip=3.0,
            item_vectors=_normal(rng, items, model.shape["dim"]),
            item_ids=[f"item-{row}" for row in range(items)],
            item_counts=np.sort(rng.integers(1, 100, items)).astype(np.float32)[::-1].copy(),
            tail=random_tail(rng, items, model.shape["dim"]) if kind.endswith("tail") else None,
            basis={slot.name: singular_basis(weights[f"{slot.name}.weight"], 5) for slot in model.slots()}
            if kind.endswith("basis")
            else None,
        )

    return make


def random_tail(rng: np.random.Generator, rows: int, dim: int, parts: int = 4, words: int = 7) -> Tail:
    """A coarse tail that has nothing to do with any rows."""
    codewords, rotation = (
        rng.standard_normal(shape).astype(np.float16) for shape in ((parts, words, dim // parts), (dim, dim))
    )
    return Tail(rng.integers(0, words, (rows, parts)).astype(np.uint8), codewords, rotation)


@pytest.fixture(scope="session")
def base(make_base: MakeBase) -> Base:
    """A tiny base: 8 wide, 2 blocks, 40 items."""
    return make_base()


@pytest.fixture(scope="session")
def reference_base(make_base: MakeBase) -> Base:
    """The reference ranker's shape: 64 wide, 2 blocks, feed-forward 256, 50 events, 1,152 channels."""
    return make_base(items=300, dim=64, length=50, hidden=256)


def _parts(dim: int, hidden: int) -> list[tuple[str, int, int, str]]:
    attention = [(part, dim, dim, "attention") for part in ("query", "key", "value", "output")]
    return [*attention, ("expand", hidden, dim, "feed_forward"), ("contract", dim, hidden, "feed_forward")]


def _near_initial(rng: np.random.Generator, name: str, array: np.ndarray) -> np.ndarray:
    """Leave matrices as they are made, and move norms and biases away from their special values."""
    return array.copy() if array.ndim > 1 and name != "positions.weight" else array + 0.2 * _normal(rng, *array.shape)


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def _norm(rng: np.random.Generator, name: str, dim: int) -> dict[str, np.ndarray]:
    return {f"{name}.weight": 1 + 0.1 * _normal(rng, dim), f"{name}.bias": 0.1 * _normal(rng, dim)}
