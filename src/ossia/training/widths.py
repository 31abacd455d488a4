"""One base for every width: the 8-, 4- and 2-bit slices of a base trained to be good at once.

    loss(b)   = next item's loss with every slot, and every row that is scored, on its b-bit slice
    gradient  = as if rounding were the identity                                          (`quantization/fake.py`)
    w         ← one master that is at its best when any of its slices is read

A base that was trained in float32 loses little at 4 bits, and more at 2, where a channel has four levels. Its masters can be
moved so that those four serve as well. What is drawn at each step is the setting `draw`:

    channel   a width for every channel and for every row, each by itself: what mixed allocations will meet
    step      one width for all, evenly: what a device at one width will meet
    all       every width at every step, for all, and the mean of their losses: as many passes a step as there are widths
    search    one width for all, the one with the highest score

        score(b) = (loss_b − least) / (most − least) + c √(ln t / n_b)

where loss_b is the running mean of the losses seen at b, n_b how often it was drawn and t the steps so far: what is left to
gain at b, and how long b was not looked at. Scores begin anew with every epoch, so that a checkpoint need not know them.

*A teacher* helps narrow widths most (`distill.py`). The float32 run that training goes on from is a good one: its rankings are
a target that four levels a weight can come closer to for many epochs, where next items alone are soon learned by heart.

*Delayed updates* (`delay`): a gradient at the narrowest width is noisy, for rounding is least like the identity there. It is
laid by until `delay` of them are there, and their mean takes one step; wider steps go on meanwhile. What is laid by at an
epoch's end is dropped.

Differences from the paper. OTARo (https://arxiv.org/abs/2511.13147) tunes language models; its bit-width path search and its
low-precision asynchronous accumulation are known to us from the abstract and a summary, and score, window and what counts as
low are ours. Our grid has a half-step offset and free scales; OTARo's shared exponents are the setting `scales`, to compare.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from math import inf, log, sqrt

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ossia.backbones import Backbone
from ossia.quantization.fake import Scales, at_width, at_widths
from ossia.training.batches import Batch
from ossia.training.fit import Loss
from ossia.training.losses import Reading
from ossia.training.recipes import Widths

MEMORY = 0.9
"""How much of a width's running mean loss is kept when it is drawn again."""


@dataclass(frozen=True, eq=False)
class Slice:
    """A backbone at one width.

    Attributes:
        backbone: its slots at the width, its item rows at 8 bits: what a history is read with.
        rows: the item rows at the width: what is scored.
    """

    backbone: Backbone
    rows: Float[Tensor, "items dim"]


@torch.no_grad()
def at_one_width(backbone: Backbone, bits: int, scales: Scales = "free") -> Slice:
    """Round a copy of a backbone to one width, as a device would hold it.

    Args:
        backbone: in float32; stays as it is.
        bits: 2, 4 or 8.
        scales: of the grid.

    Returns:
        the slice.
    """
    rounded = deepcopy(backbone)
    for slot in rounded.slots():
        weight = rounded.get_parameter(f"{slot.name}.weight")
        weight.copy_(at_width(weight, bits, scales))
    rows = at_width(backbone.items.weight, bits, scales)
    rounded.items.weight.copy_(at_width(backbone.items.weight, 8, scales))
    return Slice(rounded, rows)


class WidthPath:
    """One epoch's way through the widths: what each step draws, and what is learned from its loss.

    Args:
        widths: the settings.
    """

    def __init__(self, widths: Widths) -> None:
        self.widths = widths
        self.alphabet: tuple[int, ...] = widths.alphabet
        self.counts: dict[int, int] = dict.fromkeys(self.alphabet, 0)
        self.losses: dict[int, float] = dict.fromkeys(self.alphabet, 0.0)
        self.bits: int = self.alphabet[0]
        self.held: list[Tensor | None] = []
        self.waiting = 0

    def along(self, loss: Loss) -> Loss:
        """Make a loss that reads the backbone at the widths of this path, another step further at each call.

        Args:
            loss: of the next item, or a teacher's, which both can be told how to read a backbone.

        Returns:
            what `fit` minimizes.
        """

        def rounded(backbone: Backbone, batch: Batch, generator: torch.Generator) -> Tensor:
            value = loss(backbone, batch, generator, self._drawn(generator))
            self._note(value.item())
            return value

        def together(backbone: Backbone, batch: Batch, generator: torch.Generator) -> Tensor:
            readings = [self._reading(partial(at_width, bits=bits, scales=self.widths.scales)) for bits in self.alphabet]
            return torch.stack([loss(backbone, batch, generator, reading) for reading in readings]).mean()

        return together if self.widths.draw == "all" else rounded

    def hold_back(self, model: nn.Module) -> None:
        """Lay by the gradients of a step at the narrowest width; when enough are there, put their mean in their place.

        Args:
            model: after its backward pass.
        """
        if self.bits != self.alphabet[0]:
            return
        parameters = list(model.parameters())
        held = self.held or [None] * len(parameters)
        self.held = [_sum(sum_, parameter.grad) for sum_, parameter in zip(held, parameters, strict=True)]
        self.waiting += 1
        full = self.waiting == self.widths.delay
        for parameter, gradient in zip(parameters, self.held, strict=True):
            parameter.grad = gradient / self.waiting if full and gradient is not None else None
        if full:
            self.held, self.waiting = [], 0

    def _drawn(self, generator: torch.Generator) -> Reading:
        """Draw this step's widths."""
        alphabet = torch.tensor(self.alphabet, device=generator.device)
        if self.widths.draw == "channel":
            return self._reading(partial(_at_drawn_widths, alphabet=alphabet, scales=self.widths.scales, generator=generator))
        self.bits = self._best() if self.widths.draw == "search" else int(alphabet[_draw(1, len(alphabet), generator)])
        return self._reading(partial(at_width, bits=self.bits, scales=self.widths.scales))

    def _reading(self, read: Callable[[Tensor], Tensor]) -> Reading:
        """Read every slot, and every row that is scored if the settings say so, rounded."""
        slot = partial(_apply, read, {})
        return Reading(slot, read) if self.widths.rows else Reading(slot)

    def _best(self) -> int:
        """Find the width with the highest score; those that were never drawn come first, narrowest before wider."""
        least, most = min(self.losses.values()), max(self.losses.values())
        steps = sum(self.counts.values())

        def score(bits: int) -> float:
            if not self.counts[bits]:
                return inf
            gain = (self.losses[bits] - least) / (most - least) if most > least else 0.0
            return gain + self.widths.exploration * sqrt(log(steps) / self.counts[bits])

        return max(self.alphabet, key=score)

    def _note(self, loss: float) -> None:
        """Learn from a step's loss."""
        before = self.losses[self.bits] if self.counts[self.bits] else loss
        self.losses[self.bits] = MEMORY * before + (1 - MEMORY) * loss
        self.counts[self.bits] += 1


def _apply(read: Callable[[Tensor], Tensor], rounded: dict[str, Tensor], name: str, linear: nn.Linear, x: Tensor) -> Tensor:
    """Apply a slot's rounded weights; rounded once, for a recurrent layer is applied at every event with the same ones."""
    if name not in rounded:
        rounded[name] = read(linear.weight)
    return nn.functional.linear(x, rounded[name], linear.bias)


def _at_drawn_widths(
    weight: Float[Tensor, "channels inputs"], alphabet: Int[Tensor, " widths"], scales: Scales, generator: torch.Generator
) -> Float[Tensor, "channels inputs"]:
    """Round each channel to a width of its own."""
    return at_widths(weight, alphabet[_draw(len(weight), len(alphabet), generator)], scales)


def _draw(count: int, choices: int, generator: torch.Generator) -> Int[Tensor, " count"]:
    """Draw numbers below `choices`, evenly."""
    return torch.randint(choices, (count,), generator=generator, device=generator.device)


def _sum(total: Tensor | None, gradient: Tensor | None) -> Tensor | None:
    """Add gradients, where there are any."""
    if total is None or gradient is None:
        return gradient if total is None else total
    return total + gradient
