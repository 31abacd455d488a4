"""The guard: a payload that ranks the user's own clicks worse than the base does is dropped.

A payload may be signed, in time, and harmful all the same: a bad release, a personalizer gone astray, another person at the
device. The device alone can tell, for it alone knows what its user clicks. Each click has a rank by the payload and one by the
base, before it is part of the history, among the rows that both can score; ties count against it:

    loss = log2(rank under the payload) − log2(rank under the base)        1 bit: twice as far down the list

A payload is dropped when, over the last `clicks` clicks that could be judged (at least `least` of them), the mean loss is above
`margin`. The pairs are the user's own clicks, so that what is hard for both counts for neither; the logarithm makes a fall from
1 to 2 weigh as much as one from 500 to 1,000. On arrival the last clicks of the history are replayed; from then on
each click is judged as it happens, and nothing that arrived could have known it.

A click on an item whose row the payload does not hold is not judged: what a small device leaves out is the budget's doing. So
the guard does not see a payload that leaves out everything.
"""

from dataclasses import dataclass

import numpy as np

from ossia.types import Candidates, History, Ranker


@dataclass(frozen=True)
class Guard:
    """When a payload is dropped.

    Attributes:
        clicks: how many of the last judged clicks count.
        least: with fewer than these nothing is dropped.
        margin: the mean loss, in bits, that is still borne.
    """

    clicks: int = 8
    least: int = 4
    margin: float = 1.0

    def condemns(self, evidence: tuple[float, ...]) -> bool:
        """Tell whether a payload is to be dropped.

        Args:
            evidence: losses of the last clicks, in bits.

        Returns:
            true if there are enough of them and their mean is above the margin.

        Example:
            >>> Guard().condemns((9.0, 9.0, 9.0)), Guard().condemns((0.5, 2.0, 1.0, 1.0)), Guard().condemns((3.0,) * 8)
            (False, True, True)
        """
        return len(evidence) >= self.least and sum(evidence) > self.margin * len(evidence)

    def remember(
        self, evidence: tuple[float, ...], own: Ranker, base: Ranker, items: int, history: History, click: int
    ) -> tuple[float, ...]:
        """Judge one more click.

        Args:
            evidence: losses so far.
            own: the payload's ranker.
            base: the base's.
            items: rows of the table.
            history: what came before the click.
            click: its row.

        Returns:
            the last losses, with the new one if it could be judged.
        """
        loss = click_loss(own, base, items, history, click)
        return evidence if loss is None else (*evidence, loss)[-self.clicks :]

    def look_back(self, own: Ranker, base: Ranker, items: int, history: History) -> tuple[float, ...]:
        """Judge the last clicks of a history, each by what came before it.

        Args:
            own: the payload's ranker.
            base: the base's.
            items: rows of the table.
            history: oldest first.

        Returns:
            losses, oldest first.
        """
        evidence: tuple[float, ...] = ()
        for place in range(max(1, len(history) - self.clicks), len(history)):
            evidence = self.remember(evidence, own, base, items, history[:place], int(history[place]))
        return evidence


def click_loss(own: Ranker, base: Ranker, items: int, history: History, click: int) -> float | None:
    """Say how much further down one ranker puts a click than another does, in bits.

    Args:
        own: the ranker that is judged.
        base: the one that it is held against.
        items: rows of the table.
        history: what came before the click; an empty one ranks by popularity, and tells nothing.
        click: its row.

    Returns:
        log2 of the ranks' ratio; None where one of them can't score the click.
    """
    if not len(history):
        return None
    everything = Candidates(np.arange(items, dtype=np.int32))
    scores = [ranker.scores(history, everything) for ranker in (own, base)]
    both = np.isfinite(scores[0]) & np.isfinite(scores[1])
    if not both[click]:
        return None
    ranks = [int((each[both] >= each[click]).sum()) for each in scores]  # the click itself makes it one
    return float(np.log2(ranks[0]) - np.log2(ranks[1]))
