"""Teaching any personalizer by gradient to say what a ridge says: log importance for log importance, on profiles that were met.

    loss = mean over channels of (log I_c(p) − log Î_c(p))²,     Î: the ridge's

Importances of channels may differ by orders of magnitude; their logarithms weigh all channels alike. The ridge has averaged the
noise of events away, so what is learned here is smooth, and a few hundred steps are enough.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ossia.personalizers import AbstractPersonalizer, Ridge
from ossia.training.events import Events
from ossia.training.fit import Step, fit

LR = 3e-3
BATCH = 256


def imitate(personalizer: AbstractPersonalizer, ridge: Ridge, events: Events, *, steps: int, seed: int) -> Iterator[Step]:
    """Teach a personalizer by gradient to say what a ridge says.

    Args:
        personalizer: is trained in place.
        ridge: the teacher, on the CPU.
        events: whose profiles are asked about.
        steps: optimizer steps.
        seed: of everything that is random.

    Yields:
        one step per optimizer step, whose loss is the mean squared error of log importance.
    """
    device = personalizer.step_bits.device
    chosen = np.random.default_rng((seed, 1)).integers(0, len(events), (steps, BATCH))
    lessons = (lesson.to(device) for lesson in _lessons(ridge, events.profiles, chosen))
    optimizer = torch.optim.Adam(personalizer.parameters(), lr=LR)
    for step in fit(personalizer, _log_error, lessons, optimizer, seed=(seed, 2)):
        optimizer.param_groups[0]["lr"] = LR * (1 - (step.index + 1) / (steps + 1))
        yield step


@dataclass(frozen=True, eq=False)
class _Lesson:
    """Profiles and the logarithm of the importance that the ridge sees for them."""

    profiles: Tensor
    goal: Tensor

    def to(self, device: torch.device) -> "_Lesson":
        """Put the lesson on a device."""
        return _Lesson(self.profiles.to(device), self.goal.to(device))


@torch.no_grad()
def _lessons(
    ridge: Ridge, profiles: Float[Tensor, "events dim"], rows: Int64[np.ndarray, "lessons chosen"]
) -> Iterator[_Lesson]:
    """Ask the ridge, batch by batch: for a long log all of it would not fit into memory."""
    for chosen in rows:
        yield _Lesson(profiles[chosen], ridge.importance(profiles[chosen]).log())


def _log_error(personalizer: AbstractPersonalizer, lesson: _Lesson, _generator: torch.Generator) -> Tensor:
    """Mean squared error of log importance."""
    return (personalizer.importance(lesson.profiles).log() - lesson.goal).square().mean()
