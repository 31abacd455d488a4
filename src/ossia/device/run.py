"""A small real device: events come in, rankings go out, and the network is somebody else's thread.

    lines, connections ──┐
                         ├── one queue ── rules, disk, ranking ── who asked
    courier's answers ───┤                       └── request ── courier
    fetcher's news ──────┘                       └── look ── fetcher

One loop owns the device's value. A click is kept, ranked and answered before the loop looks at anything else; a request is kept
in the log and handed to the courier, which answers into the queue some day, or never. So no ranking ever waits for a network.
A release comes the same way: whole and loaded, to be taken up between two events.
"""

import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random, SystemRandom
from typing import Final, Protocol, TypeAlias, runtime_checkable

from ossia.adaptation.payload import Verify, largest_payload
from ossia.adaptation.request import MOST_CANDIDATES, REPLY
from ossia.device.client import Courier
from ossia.device.exchange import Answer, Request
from ossia.device.following import News, hear, look
from ossia.device.home import Keeper
from ossia.device.resident import Resident
from ossia.device.session import Receipt
from ossia.device.shown import Shown

WAKE_S: Final = 30.0
"""How often a device looks at its clock when nothing happens."""


@dataclass(frozen=True)
class Click:
    """Somebody met an item, or only wants a ranking.

    Attributes:
        item: its id; empty: no item.
        answer: is handed the ranking, and what went wrong with keeping the click.
    """

    item: str
    answer: Callable[["Ranked"], None]


@dataclass(frozen=True)
class Ranked:
    """What came of a click.

    Attributes:
        item: its id; empty: none.
        known: whether the catalog knows it.
        shown: the ranking after it.
        fault: why it was not kept; empty: it was.
    """

    item: str
    known: bool
    shown: Shown
    fault: str = ""


@dataclass(frozen=True)
class Heard:
    """An answer came, or it is known that none will."""

    request: Request
    answer: Answer


@dataclass(frozen=True, eq=False)
class Came:
    """A look for a release has come to its end."""

    news: News


@dataclass(frozen=True)
class End:
    """No more events will come."""


Event: TypeAlias = Click | Heard | Came | End


@runtime_checkable
class Carrier(Protocol):
    """Who takes requests away."""

    def send(self, request: Request) -> None:
        """Take a request, and return at once.

        Args:
            request: what to send.
        """
        ...


@runtime_checkable
class Follower(Protocol):
    """Who looks for releases."""

    def fetch(self, held: int) -> None:
        """Look for one, and return at once.

        Args:
            held: the release whose base is in memory; 0: none.
        """
        ...


class Device:
    """The loop around a device's rules.

    Args:
        keeper: holds its value and its folder.
        carrier: takes its requests away; None: it is offline.
        follower: looks for releases; None: its base is the one that came with the app.
        top: how many items a ranking shows.
        clock: seconds since 1970.
        random: draws waits and noise.
    """

    def __init__(
        self,
        keeper: Keeper,
        carrier: Carrier | None = None,
        follower: Follower | None = None,
        *,
        top: int = 10,
        clock: Callable[[], float] = time.time,
        random: Random | None = None,
    ) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._keeper, self._top, self._clock, self._random = keeper, top, clock, random or SystemRandom()
        self._carrier, self._follower = carrier, follower
        self._under_way = self._looking = False
        self._untaken: Verify | None = None

    @property
    def resident(self) -> Resident:
        """The device as it is now."""
        return self._keeper.resident

    def connect(self, url: str, *, deadline_s: float = 20.0) -> None:
        """Let the device ask a service.

        Args:
            url: its address.
            deadline_s: for an exchange.

        Raises:
            UsageError: no such address.
        """
        most = _largest_answer(self.resident)
        self._carrier = Courier(
            url, lambda request, answer: self.events.put(Heard(request, answer)), most_bytes=most, deadline_s=deadline_s
        )

    def follow(self, follower: Follower) -> None:
        """Let the device look for releases.

        Args:
            follower: looks; its news belongs into `events`.
        """
        self._follower = follower

    def live(self, linger_s: float = 0.0) -> Iterator[Receipt | str]:
        """Live until the events end; iterate to watch.

        Args:
            linger_s: how long to wait at the end for an answer that is under way.

        Yields:
            what became of each ask, or a sentence on what the disk refused.
        """
        end = float("inf")
        while time.monotonic() < end:
            yield from self.wake()
            if end < float("inf") and not (self._under_way or self._looking):
                return
            event = self._next(end)
            if isinstance(event, End):
                end = time.monotonic() + linger_s
            elif isinstance(event, Click):
                event.answer(self.click(event.item))
            elif isinstance(event, Heard):
                yield self.hear(event)
            elif isinstance(event, Came):
                yield from self.take(event.news)

    def _next(self, end: float) -> Event | None:
        """Wait for an event, or until it is time to look at the clock."""
        try:
            return self.events.get(timeout=max(0.0, min(WAKE_S, end - time.monotonic())))
        except queue.Empty:
            return None

    def click(self, item: str) -> Ranked:
        """Keep a click, and rank.

        Args:
            item: its id; empty: only rank.

        Returns:
            what came of it.
        """
        after = self.resident.observe(item) if item else self.resident
        known, fault = after is not self.resident, ""
        try:
            self._keeper.take(after)
        except OSError as error:
            fault = str(error.strerror or error)
        return Ranked(item, known, self.resident.rank(None, self._top, int(self._clock())), fault)

    def wake(self) -> Iterator[str]:
        """Hand a request to the carrier, and look for a release, if it is time.

        Yields:
            what the disk refused.
        """
        yield from self._look()
        yield from self._ask()

    def take(self, news: News) -> Iterator[str]:
        """Go on with what a look brought.

        Args:
            news: what it brought.

        Yields:
            what is new, what was refused by name, or what the disk refused.
        """
        self._looking, before = False, self.resident.kept.following.release
        # A list of keys is told once: one that a full disk did not take must not be lost, or a stolen key would live on.
        news = replace(news, verify=news.verify or self._untaken)
        self._untaken = news.verify
        after = hear(self.resident, news, int(self._clock()), self._random)
        yield from (f"release refused: {fault}" for fault in news.faults)
        try:
            self._keeper.take(after)
        except OSError as error:
            yield f"release not taken, for the disk refused it: {error.strerror or error}"
            return
        self._untaken = None
        if isinstance(self._carrier, Courier):
            self._carrier.most_bytes = _largest_answer(self.resident)
        if after.kept.following.release > before:
            yield f"release {after.kept.following.release} is in force"

    def _look(self) -> Iterator[str]:
        """Look for a release, if it is time."""
        if self._follower is None or self._looking:
            return
        found = look(self.resident, int(self._clock()), self._random)
        if found is None:
            return
        try:
            self._keeper.take(found[0])
        except OSError as error:
            yield f"not looked, for the disk refused the log: {error.strerror or error}"
            return
        self._looking = True
        self._follower.fetch(0 if self.resident.session is None else self.resident.kept.following.release)

    def _ask(self) -> Iterator[str]:
        """Hand a request to the carrier, if it is time for one."""
        if self._carrier is None or self._under_way:
            return
        asked = self.resident.ask(int(self._clock()), self._random)
        if asked is None:
            return
        try:
            self._keeper.take(asked[0])
        except OSError as error:  # what can't be put into the log does not leave
            yield f"not asked, for the disk refused the log: {error.strerror or error}"
            return
        self._carrier.send(asked[1])
        self._under_way = True

    def hear(self, heard: Heard) -> Receipt | str:
        """Judge an answer, and keep what came of it.

        Args:
            heard: the answer.

        Returns:
            what became of the ask, or what the disk refused.
        """
        self._under_way = False
        after, receipt = self.resident.answer(heard.request, heard.answer, int(self._clock()), self._random)
        try:
            self._keeper.take(after)
        except OSError as error:
            return f"not taken, for the disk refused it: {error.strerror or error}"
        return receipt


def _largest_answer(resident: Resident) -> int:
    """Bound what an answer to the device can take; without a base it asks for nothing."""
    if resident.session is None:
        return 0
    base = resident.session.base
    return REPLY.size + largest_payload(base) + 4 * MOST_CANDIDATES + base.table.grid.q.size + 4 * len(base.table)
