"""History → user state → scores, in torch: textbook modules that know nothing of personalization.

A backbone names its slots and gates, and lets the caller in at two joints (`slot`, `gate`). It is a `torch.nn.Module` with

    forward(histories, *, slot, gate) -> states        left-padded item rows in, a user state per event out
    items.weight                                       the item table: score_i = state · items.weight[i]
    kind, shape, slots(), gates()                      what a published base says of it
"""

from ossia.backbones.ranker import TorchRanker
from ossia.backbones.sasrec import GateJoint, SASRec, SlotJoint, keep, plain

BACKBONES = {"sasrec": SASRec}
"""Every backbone, by the name that recipes and bases use."""

__all__ = ["BACKBONES", "GateJoint", "SASRec", "SlotJoint", "TorchRanker", "keep", "plain"]
