"""Do structures pull a layer's weights in different directions? The cosine of their gradients, with and without a mapper.

The same events are run under two structures that both keep a layer, and the gradient of the loss is taken with respect to what
writes the layer's delta: with a mapper the layer's own generator, which sees the structure in z; without one the Δ that all
structures share. Structures are all blocks, and all but one. A cosine below 0 is a conflict: what helps one hurts the other.

Not measured here: whether training suffers from it. That is the row "shared weights, no mapper" of the study.
"""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor

from ossia.personalizers.forward_ofa import ForwardOfa, layers_of
from ossia.studies.forward_ofa_variants import SharedWeights
from ossia.training.events import EventBatch, Events
from ossia.training.frozen import FrozenBase
from ossia.training.generator_answers import answered_states
from ossia.training.losses import full_softmax

BATCHES = 8
BATCH = 2_000


class Conflict(Struct, frozen=True):
    """One layer of one network.

    Attributes:
        network: its row's name.
        layer: the gate's name.
        cosine: mean over pairs of structures and batches.
        opposed: share of these below 0.
    """

    network: str
    layer: str
    cosine: float
    opposed: float


def measure_conflict(frozen: FrozenBase, networks: Mapping[str, ForwardOfa], events: Events, *, seed: int) -> list[Conflict]:
    """Measure every layer of some networks.

    Args:
        frozen: the base.
        networks: trained, by name.
        events: to take gradients on.
        seed: of which.

    Returns:
        a line per network and layer.
    """
    found = []
    for name, network in networks.items():
        every = events.batches(BATCH, np.random.default_rng((seed, 5)))
        cosines = [
            _cosines(frozen, network.requires_grad_(True), batch) for batch, _ in zip(every, range(BATCHES), strict=False)
        ]
        for layer, gate in enumerate(_layer_gates(network)):
            each = torch.cat([batch[layer] for batch in cosines])
            found.append(Conflict(name, gate, float(each.mean()), float((each < 0).float().mean())))
        network.requires_grad_(False)
    return found


def _layer_gates(network: ForwardOfa) -> list[str]:
    """Name the layers that have a delta."""
    return [layer.slots[0].gate or layer.slots[0].name for layer in layers_of(network.layout)]


def _cosines(frozen: FrozenBase, network: ForwardOfa, batch: EventBatch) -> list[Tensor]:
    """Compare the gradients of all pairs of structures that keep a layer, for each layer."""
    gates = network.gates
    structures = [torch.ones(len(gates)), *(1 - torch.eye(len(gates)))] if len(gates) > 1 else [torch.ones(1), torch.ones(1)]
    gradients = [_gradients(frozen, network, batch, structure) for structure in structures]
    cosines = []
    for layer, gate in enumerate(_layer_gates(network)):
        keeps = [
            mine[layer]
            for mine, kept in zip(gradients, structures, strict=True)
            if gate not in gates or kept[gates.index(gate)]
        ]
        pairs = [torch.cosine_similarity(one, other, dim=0) for one, other in combinations(keeps, 2)]
        cosines.append(torch.stack(pairs))
    return cosines


def _gradients(frozen: FrozenBase, network: ForwardOfa, batch: EventBatch, structure: Tensor) -> list[Tensor]:
    """Take the gradient of the loss with respect to what writes each layer's delta, under one structure."""
    kept = structure.expand(len(batch.targets), -1)
    states = answered_states(frozen, network, batch, batch.profiles, kept)
    loss = full_softmax(states / frozen.temperature, batch.targets, frozen.vectors)
    if isinstance(network, SharedWeights):
        (whole,) = torch.autograd.grad(loss, [network.shared])
        return list(torch.split(whole, [layer.numbers for layer in layers_of(network.layout)]))
    writers = [list(generator.parameters()) for generator in network.parameters_of.generators]
    flat = torch.autograd.grad(loss, [each for writer in writers for each in writer], allow_unused=True)
    found, parts = [], iter(zip([each for writer in writers for each in writer], flat, strict=True))
    for writer in writers:
        mine = [next(parts) for _ in writer]
        found.append(
            torch.cat([(torch.zeros_like(each) if gradient is None else gradient).flatten() for each, gradient in mine])
        )
    return found
