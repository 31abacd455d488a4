"""On-device fine-tuning, the slow way to weights of one's own: gradient steps on the user's own history, nobody else's.

    Δ_u ← Adam on  Σ_t −log p(item t+1 | items … t, W + Δ_u)           every event of the user's history, the target's excluded

The same slots and rank as a generated delta, from the same start (random left factors, right factors of zeros). Adam's steps
are element by element, so that many users are tuned side by side and none hears of another. Step size and number of steps are
chosen on validation events of other users. A device would run this after every refresh; a generated delta is one message.
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ossia.adaptation.delta_layout import DeltaLayout
from ossia.personalizers.decoder import Decoder
from ossia.personalizers.generator import delta_joint
from ossia.training.events import EventBatch, Events, take_cases
from ossia.training.frozen import FrozenBase, Judged
from ossia.types import ABSENT

RATES = (0.001, 0.003, 0.01)
STEPS = (1, 3, 10)
CHUNK = 100
CHOOSE_ON = 500


def fine_tune(frozen: FrozenBase, layout: DeltaLayout, select: Events, test: Events, *, seed: int) -> Judged:
    """Tune each user's delta on their own history, and judge it.

    Args:
        frozen: the base.
        layout: which slots, at which rank.
        select: on whose events step size and number of steps are chosen.
        test: whose events are reported.
        seed: of the start.

    Returns:
        log-likelihood and rank of each test event.
    """
    torch.manual_seed(seed)
    start = Decoder(1, layout).linear.bias.detach()
    rows = np.arange(min(len(select), CHOOSE_ON))
    some = Events(take_cases(select.cases, rows), select.profiles[rows], select.length)
    quality = {
        (rate, steps): judged.mean_likelihood
        for rate in RATES
        for steps, judged in _judge(frozen, layout, some, start, rate, STEPS).items()
    }
    rate, steps = max(quality, key=lambda choice: quality[choice])
    return _judge(frozen, layout, test, start, rate, (steps,))[steps]


def _judge(
    frozen: FrozenBase, layout: DeltaLayout, events: Events, start: Tensor, rate: float, steps: tuple[int, ...]
) -> dict[int, Judged]:
    """Tune, and judge after some numbers of steps."""
    tuned: dict[int, list[Tensor]] = {count: [] for count in steps}
    for rows in np.array_split(np.arange(len(events)), -(-len(events) // CHUNK)):
        for count, numbers in _tune(frozen, layout, events.batch(rows), start, rate, max(steps)):
            if count in tuned:
                tuned[count].append(numbers.clone())
    found = {}
    for count, chunks in tuned.items():
        numbers = torch.cat(chunks)

        def states(batch: EventBatch, numbers: Tensor = numbers) -> Tensor:
            return frozen.backbone(batch.histories, slot=delta_joint(layout, numbers[batch.rows], frozen.basis))[:, -1]

        found[count] = frozen.judge_states(events, states)
    return found


def _tune(
    frozen: FrozenBase, layout: DeltaLayout, batch: EventBatch, start: Tensor, rate: float, most: int
) -> Iterator[tuple[int, Float[Tensor, "users numbers"]]]:
    """Take Adam's steps for many users side by side, and tell of each."""
    numbers = start.repeat(len(batch.targets), 1).requires_grad_(True)
    optimizer = torch.optim.Adam([numbers], lr=rate)
    inputs, targets = batch.histories[:, :-1], batch.histories[:, 1:]
    real = inputs != ABSENT
    for count in range(1, most + 1):
        if real.any():
            states = frozen.backbone(inputs, slot=delta_joint(layout, numbers, frozen.basis))[real]
            loss = torch.nn.functional.cross_entropy(frozen.logits(states), targets[real], reduction="sum")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        yield count, numbers.detach()
