"""A world in a box: devices, a cloud, a clock that jumps from event to event, and everything that goes wrong.

One queue of events in the order of their time; one source of chance, drawn from the seed. Two runs of one seed are the same
to the last byte, and their digests, over every event and what came of it, are equal.

    always        requests and replies are lost; replies are replayed, misdelivered, changed, cut; machines start again; the
                  power fails in the middle of a write, or a write is refused
    sometimes     partitions of hours; a device's clock is wrong by up to 400 days, for hours
    at will       the key that signs payloads is stolen, and six hours later the operators give out another
    once          the cloud is dead for six hours, and in the middle of it a crowd clicks in the same second; personalizers do
                  harm for four hours; a release that can't be loaded, one that is halted, and a good one in stages
"""

import hashlib
import heapq
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

from ossia.adaptation.base import Base
from ossia.device.exchange import NO_ANSWER, Answer, Request
from ossia.device.following import News
from ossia.device.policy import DAY_S, Backoff, Policy, always, on_drift, periodic, within_budget
from ossia.simulation.cloud import Cloud
from ossia.simulation.laws import LawBroken, check_staged
from ossia.simulation.mischief import Mischief
from ossia.simulation.phone import Phone
from ossia.simulation.theft import Thief, reply

START = 1_800_000_000
HOUR_S = 3_600
LATENCY_S = 0.2
PATIENCE_S = 20.0
OUTAGE_S = THEFT_S = 6 * HOUR_S
CHANCE = 6
"""By how much the busiest minute after an outage may exceed three times the expected m by chance: of 60 minutes' Poisson counts
one exceeds 3 m + 6 with probability below 1e-4, whatever m is; 3 m + 4 with up to .005: once in 200 worlds."""
QUIET_S = 12 * HOUR_S  # at the end nothing new goes wrong, so that what should have come right can be seen
POLICIES: tuple[Policy, ...] = (
    partial(periodic, every_s=DAY_S),
    partial(periodic, every_s=DAY_S),
    partial(within_budget, policy=always, bytes_a_day=4_000),
    partial(on_drift, least=1.2),
)


@dataclass
class Report:
    """What one run saw.

    Attributes:
        seed: of the run.
        events: how many.
        counts: of what happened, by name.
        first_minute: requests in the minute after the outage.
        waiting: devices that waited then.
        broken: the law that was broken, and how; empty: none.
        digest: over all events and what came of them.
    """

    seed: int
    events: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    first_minute: int = 0
    waiting: int = 0
    broken: str = ""
    digest: str = ""


class World:
    """One run.

    Args:
        bases: two, published.
        seed: of everything.
        devices: how many.
        days: how long.
        cloudless: there is no cloud at all.
        theft: the key that signs payloads is stolen.
    """

    def __init__(
        self, bases: Sequence[Base], seed: int, *, devices: int, days: float, cloudless: bool = False, theft: bool = False
    ) -> None:
        self.random, self.now, self.end = Random(seed), float(START), START + days * DAY_S
        self.bases, self.cloud = bases, Cloud(bases, capacity=max(5, devices // 20))
        self.cloudless, self.cloud.up = cloudless, not cloudless
        self.mischief = Mischief(Random(seed + 1))
        self.report, self._thief = Report(seed), Thief(bases, Random(seed + 2))
        self._stolen = False
        self._queue: list[tuple[float, int, str, Callable[[], str]]] = []
        self._order, self._digest = 0, hashlib.sha256()
        self.phones = [Phone(index, self, POLICIES[index % len(POLICIES)]) for index in range(devices)]
        self._plan(days, cloudless)
        if theft:
            self._theft(START + 0.45 * days * DAY_S)

    def at(self, when: float, kind: str, action: Callable[[], str]) -> None:
        """Let something happen.

        Args:
            when: seconds since 1970.
            kind: a word for it.
            action: does it, and says what came of it.
        """
        self._order += 1
        heapq.heappush(self._queue, (when, self._order, kind, action))

    def run(self) -> Report:
        """Let time pass to its end, or to the first law that is broken.

        Returns:
            what was seen.
        """
        try:
            while self._queue and self._queue[0][0] < self.end:
                self.now, _, kind, action = heapq.heappop(self._queue)
                outcome = action()
                self.report.events += 1
                self.report.counts[kind] += 1
                self._digest.update(struct.pack("<d", self.now) + f"{kind}:{outcome};".encode())
            self._judge_end()
        except LawBroken as error:
            self.report.broken = str(error)
        self.report.digest = self._digest.hexdigest()
        return self.report

    def send(self, phone: Phone, request: Request) -> None:
        """Carry a request, and what comes back, as well as the network does today.

        Args:
            phone: who asks.
            request: what.
        """
        lost = self.random.random()
        if not self.cloud.up or not phone.reachable or lost < 0.02:
            self._deliver(phone, request, NO_ANSWER, PATIENCE_S)
            return
        answer = self.cloud.serve(request, self.now)
        if lost < 0.04:
            self._deliver(phone, request, NO_ANSWER, PATIENCE_S)
            return
        if self._stolen:
            answer = self._intercept(phone, request, answer)
        self._deliver(
            phone, request, self.mischief.tamper(phone.index, request, answer), LATENCY_S * (1 + self.random.random())
        )

    def fetch(self, phone: Phone, held: int) -> None:
        """Let a device look for a release, as well as the network does today.

        Args:
            phone: who looks.
            held: the release whose base it has in memory; 0: none.
        """
        boot, shelf = phone.boot, self.cloud.shelf
        news, after_s = News(False, phone.release, faults=("missing",)), PATIENCE_S
        if not self.cloudless and phone.reachable and self.random.random() > 0.02:
            wanted = shelf.rollout.wanted(phone.secret, phone.release)
            check_staged(shelf.rollout, phone.secret, phone.release, wanted)
            news, after_s = shelf.news(wanted, phone.release, held), 10 * LATENCY_S * (1 + self.random.random())
            if phone.keys != self.cloud.keys:
                news = replace(news, verify=self.cloud.keys)
        self.at(self.now + after_s, "news", lambda: phone.come(news) if phone.boot == boot else "gone")

    def _intercept(self, phone: Phone, request: Request, answer: Answer) -> Answer:
        """Let the thief answer in the cloud's place; what it signed is remembered."""
        forged = self._thief.forge(request, answer, int(self.now))
        if forged is None:
            return answer
        self.cloud.issued.setdefault(phone.device, {})[forged[0]] = forged[1]
        return reply(forged[0])

    def _deliver(self, phone: Phone, request: Request, answer: Answer, after_s: float) -> None:
        """Bring an answer, unless the process that asked is gone by then."""
        boot = phone.boot
        self.at(self.now + after_s, "answer", lambda: phone.hear(request, answer) if phone.boot == boot else "gone")

    def _plan(self, days: float, cloudless: bool) -> None:
        """Put into the queue what is to happen once or sometimes."""
        span = days * DAY_S
        for phone in self.phones:
            phone.begin(START + self.random.uniform(0, 8 * HOUR_S))
            if self.random.random() < 0.15:
                self._skew(phone, START + self.random.uniform(0, span - QUIET_S))
        for _ in range(2):
            self._partition(START + self.random.uniform(0, 0.3 * span))
        if not cloudless:
            self._outage(START + 0.35 * span)
            self._spoil(START + 0.55 * span)
            self._release(START + 0.6 * span)

    def _outage(self, begin: float) -> None:
        """Let the cloud die, a crowd click, and the cloud come back."""
        crowd = [phone for phone in self.phones if phone.index % len(POLICIES) == 2]
        self.at(begin, "death", partial(self._set_up, False))
        for phone in crowd:
            self.at(begin + OUTAGE_S / 2, "click", partial(phone.click, again=False))
        self.at(begin + OUTAGE_S, "life", partial(self._set_up, True))
        self.at(begin + OUTAGE_S + HOUR_S + 2 * PATIENCE_S, "recovery", self._judge_recovery)

    def _set_up(self, up: bool) -> str:
        """Kill the cloud or raise it; note who waits for it."""
        self.cloud.up = up
        if up:
            waiting = [phone for phone in self.phones if phone.waits]
            for phone in waiting:
                phone.expected = self.now
            self.report.waiting = len(waiting)
        return str(up)

    def _judge_recovery(self) -> str:
        """Hold the hour after the outage to its laws."""
        begin = self.now - HOUR_S - 2 * PATIENCE_S
        self.report.first_minute = self.cloud.minutes[int(begin) // 60]
        waves = self.report.waiting * 60 / (Backoff().cap_s / 2)
        most = max(self.cloud.minutes[int(begin) // 60 + minute] for minute in range(60))
        if most > 3 * waves + 0.01 * len(self.phones) + CHANCE:
            raise LawBroken("load", f"expected about {waves:.0f} requests a minute after the outage, got {most}")
        late = [phone for phone in self.phones if phone.is_late]
        if late:
            raise LawBroken("back", f"expected everybody back within an hour, {len(late)} are not")
        return f"{self.report.waiting}/{self.report.first_minute}"

    def _judge_end(self) -> None:
        """Hold the last day to its law: whoever asks daily was served."""
        if not self.cloud.up:
            return
        newest = self.cloud.shelf.rollout.settled
        for phone in self.phones:
            if phone.is_behind(newest, self.cloud.keys):
                raise LawBroken(
                    "updated", f"expected release {newest} and {self.cloud.keys} on device {phone.index} in the end"
                )
            if phone.index % len(POLICIES) < 2 and phone.starved(DAY_S + 4 * HOUR_S):
                raise LawBroken("served", f"expected device {phone.index} to be served in its last day")

    def _theft(self, begin: float) -> None:
        """Let the online key be stolen, and be rotated."""
        self.at(begin, "theft", self._steal)
        self.at(begin + THEFT_S, "rotation", self._rotate)

    def _steal(self) -> str:
        """Give the thief its way."""
        self._stolen = True
        return "stolen"

    def _rotate(self) -> str:
        """Have the operators rotate the key."""
        self.cloud.rotate()
        return str(self.cloud.keys.key_id)

    def _spoil(self, begin: float) -> None:
        """Let personalizers do harm for four hours."""
        self.at(begin, "spoil", partial(self._set_harm, True))
        self.at(begin + 4 * HOUR_S, "mend", partial(self._set_harm, False))

    def _release(self, begin: float) -> None:
        """Publish one that can't be loaded, one that is halted at 30 %, and a good one in stages; damage bases meanwhile."""
        shelf = self.cloud.shelf
        for hours, step in (
            (0, partial(shelf.publish, 10)), (3, partial(shelf.publish, 30)), (6, shelf.halt),
            (7, partial(shelf.publish, 1)), (8, partial(shelf.advance, 10)), (9, partial(shelf.advance, 100)),
        ):  # fmt: skip
            self.at(begin + hours * HOUR_S, "release", partial(self._publish, step))
        for phone in self.phones:
            if self.random.random() < 0.1:
                self.at(begin + self.random.uniform(0, 10 * HOUR_S), "damage", phone.damage)

    def _set_harm(self, harmful: bool) -> str:
        """Release personalizers that do harm, or mended ones."""
        self.cloud.spoil(harmful)
        return str(harmful)

    def _publish(self, step: Callable[[], None]) -> str:
        """Take a step with a release."""
        step()
        return str(self.cloud.shelf.rollout)

    def _skew(self, phone: Phone, begin: float) -> None:
        """Set a device's clock wrong, and right again."""
        wrong = self.random.uniform(-400, 400) * DAY_S
        self.at(begin, "skew", partial(phone.set_clock, wrong))
        self.at(begin + self.random.uniform(1, 11) * HOUR_S, "set", partial(phone.set_clock, 0.0))

    def _partition(self, begin: float) -> None:
        """Cut some devices off for hours."""
        cut = [phone for phone in self.phones if self.random.random() < 0.3]
        end = begin + self.random.uniform(1, 5) * HOUR_S
        for phone in cut:
            self.at(begin, "cut off", partial(phone.set_reachable, False))
            self.at(end, "back on", partial(phone.set_reachable, True))
