"""Cloud hypernetworks, in torch: from a profile to what an adaptation is made of.

A personalizer (`personalizer.py`) is a `torch.nn.Module` on the slots of a frozen base with

    importance(profiles) -> users × channels                 what matters to whom; `adaptation.allocate` makes it exact
    relax(profiles, average_bits, temperature) -> masks      the same within a budget, with gradients, for `relaxed_slot`

chord    three-level hypernetworks
ridge    linear in random features of the profile; its training is a linear solve

A generator (`generator.py`) has another answer, the weights themselves:

    numbers(profiles, kept) -> users × numbers               of a delta; `adaptation.delta_layout` says which go where

duet           the head of the network
ridge-head     its last layer, linear in random features of the profile; its training is a linear solve
forward-ofa    which blocks run, and what is added to them
"""

from collections.abc import Mapping
from typing import Final

from ossia.personalizers.chord import Chord
from ossia.personalizers.duet import Duet
from ossia.personalizers.forward_ofa import ForwardOfa
from ossia.personalizers.generator import AbstractGenerator
from ossia.personalizers.personalizer import AbstractPersonalizer
from ossia.personalizers.relaxed import relaxed_slot, steps_to_codes, weights_at
from ossia.personalizers.ridge import Ridge
from ossia.personalizers.ridge_head import RidgeHead

PERSONALIZERS: Final[Mapping[str, type[Chord] | type[Ridge]]] = {"chord": Chord, "ridge": Ridge}
"""Every personalizer, by the name that recipes and manifests use; `settings` names what it takes from a recipe."""

GENERATORS: Final[Mapping[str, type[Duet] | type[RidgeHead] | type[ForwardOfa]]] = {
    "duet": Duet,
    "ridge-head": RidgeHead,
    "forward-ofa": ForwardOfa,
}
"""Every personalizer that generates weights, by the same kind of name."""

__all__ = [
    "GENERATORS",
    "PERSONALIZERS",
    "AbstractGenerator",
    "AbstractPersonalizer",
    "Chord",
    "Duet",
    "Ridge",
    "RidgeHead",
    "relaxed_slot",
    "steps_to_codes",
    "weights_at",
]
