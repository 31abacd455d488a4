"""Every backbone, by the name that recipes and bases use: the one line that a new one adds."""

from ossia.backbones.backbone import Backbone
from ossia.backbones.caser import Caser
from ossia.backbones.gru4rec import GRU4Rec
from ossia.backbones.sasrec import SASRec

BACKBONES: dict[str, type[Backbone]] = {"sasrec": SASRec, "caser": Caser, "gru4rec": GRU4Rec}
"""Module by kind; made with `items`, the other sizes of its `shape` by name, and `dropout`."""
