"""From histories to published artifacts, in torch: losses, batches, the loop, checkpoints, recipes.

for epoch in train_backbone(data, BackboneRecipe(), RUN): ...       resumable; load_run(RUN).backbone
train_backbone(data, refit_recipe(load_run(RUN), data.hash), RUN2)          once more, on the validation events too
base = publish(RUN, data, BASE)
"""

from ossia.training.backbone import refit_recipe, train_backbone
from ossia.training.checkpoint import Epoch
from ossia.training.fit import Step, fit
from ossia.training.publish import publish
from ossia.training.recipes import BackboneRecipe
from ossia.training.run import Run, load_run

__all__ = ["BackboneRecipe", "Epoch", "Run", "Step", "fit", "load_run", "publish", "refit_recipe", "train_backbone"]
