"""History → user state → scores, in torch: textbook modules that know nothing of personalization.

A backbone names its slots and gates, and lets the caller in at two joints (`slot`, `gate`). It is a `Backbone` (`backbone.py`):

    forward(histories, *, slot, gate) -> states        left-padded item rows in, a user state per event out
    items.weight                                       the item table: score_i = state · items.weight[i]
    kind, shape, slots(), gates()                      what a published base says of it
"""

from ossia.backbones.backbone import Backbone, GateJoint, SlotJoint, keep, plain
from ossia.backbones.caser import Caser
from ossia.backbones.gru4rec import GRU4Rec
from ossia.backbones.kinds import BACKBONES
from ossia.backbones.ranker import TorchRanker
from ossia.backbones.sasrec import SASRec

__all__ = ["BACKBONES", "Backbone", "Caser", "GRU4Rec", "GateJoint", "SASRec", "SlotJoint", "TorchRanker", "keep", "plain"]
