"""The cloud at serving time, without torch: profile and budget in, adaptation out; what devices then rank, judged.

    Personalizer.load(base, "chord").personalize(profile, budget) -> Adaptation

onnxruntime is loaded with the first personalizer, not with this package.
"""

from ossia.service.personalizer import Personalizer

__all__ = ["Personalizer"]
