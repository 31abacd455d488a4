"""A cloud that was dead for six hours, and a hundred thousand devices that want it back.

Each device asks once in `every_s`; what fails waits by `ossia.device.policy.Backoff`. That is all that matters here, so nothing
else of a device is there. A crowd asks in the very second in which the cloud dies: without chance in their waits they would
stay together for ever.

How fast can a fleet come back? Its devices are spread over one cap, so that the first minute sees 60 / (cap / 2) of them; in
steady life a minute sees 60 / every_s: twice as many if both are an hour. A fleet that asks once a day can't do both: to be
back within an hour it must bring a quarter of a day's asks in an hour, six times what is usual.
"""

import heapq
import math
from collections import Counter
from dataclasses import dataclass
from random import Random

from ossia.device.policy import Backoff

HOUR_S = 3_600


@dataclass(frozen=True)
class Outage:
    """What the cloud saw.

    Attributes:
        devices: how many.
        steady: requests a minute in the hour before.
        first_minute: requests in the first minute after.
        peak_minute: in the worst minute of the hour after.
        last_back_s: when the last device that had failed was served again, after the end; inf if not within the hour.
    """

    devices: int
    steady: float
    first_minute: int
    peak_minute: int
    last_back_s: float

    @property
    def ratio(self) -> float:
        """The first minute, in units of steady life."""
        return self.first_minute / self.steady


def run_outage(
    devices: int, *, seed: int = 0, every_s: int = HOUR_S, hours: int = 6, crowd: float = 0.2, jitter: bool = True
) -> Outage:
    """Let the cloud die, and come back.

    Args:
        devices: how many.
        seed: of all chance.
        every_s: how often each asks.
        hours: of the outage.
        crowd: share of the devices that ask in the second in which the cloud dies.
        jitter: without it everybody waits as long as everybody else.

    Returns:
        what the cloud saw.
    """
    random, backoff, minutes = Random(seed), Backoff(), Counter[int]()
    begin, end = HOUR_S, HOUR_S * (1 + hours)
    failures: list[int] = [0] * devices
    back: dict[int, float] = {}
    queue = [(random.uniform(0, every_s), index) for index in range(devices)]
    heapq.heapify(queue)
    while queue and queue[0][0] < end + HOUR_S:
        now, index = heapq.heappop(queue)
        minutes[int(now) // 60] += 1
        if begin <= now < end:
            failures[index] += 1
            wait = backoff.wait(failures[index], random.random() if jitter else 1.0)
            heapq.heappush(queue, (now + max(wait, 1), index))
            continue
        if failures[index]:
            back.setdefault(index, now - end)
        failures[index] = 0
        together = now < begin and index < crowd * devices
        heapq.heappush(queue, (begin + 1.0 if together else now + every_s, index))
    after = [minutes[end // 60 + minute] for minute in range(60)]
    steady = sum(minutes[minute] for minute in range(begin // 60)) / (begin // 60)
    last = math.inf if any(failures) else max(back.values(), default=0.0)
    return Outage(devices, steady, after[0], max(after), last)
