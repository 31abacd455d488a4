"""From histories to published artifacts, in torch: losses, batches, the loop, checkpoints, recipes.

for epoch in train_backbone(data, BackboneRecipe(), RUN): ...       resumable; load_run(RUN).backbone
base = publish(RUN, data, BASE)
"""

from ossia.training.backbone import train_backbone
from ossia.training.checkpoint import Epoch
from ossia.training.fit import Step, fit
from ossia.training.publish import publish
from ossia.training.recipes import BackboneRecipe
from ossia.training.run import Run, load_run

__all__ = ["BackboneRecipe", "Epoch", "Run", "Step", "fit", "load_run", "publish", "train_backbone"]
