"""Cloud hypernetworks, in torch: from a profile to what an adaptation is made of.

A personalizer is a `torch.nn.Module` on the slots of a frozen base with

    importance(profiles) -> users × channels                 what matters to whom; `adaptation.allocate` makes it exact
    relax(profiles, average_bits, temperature) -> masks      the same within a budget, with gradients, for `relaxed_slot`
"""

from ossia.personalizers.chord import Chord
from ossia.personalizers.relaxed import relaxed_slot, steps_to_codes, weights_at

PERSONALIZERS = {"chord": Chord}
"""Every personalizer, by the name that recipes and manifests use."""

__all__ = ["PERSONALIZERS", "Chord", "relaxed_slot", "steps_to_codes", "weights_at"]
