"""A bounded queue in front of work that is cheaper in batches; what can't be served in time is refused at once.

    put        gives the answer to come; refused at once when `waiting` others stand in the queue
    batches    as many as wait, at most `batch`; while one waits for the disk the next is begun, if it is full
    overload   when more than two batches wait, two go as one: what a batch costs by itself is shared by twice as many
    deadline   who has no answer by then is refused, whatever he waits for, and no work is begun for him

Work has two parts with a promise between them, for which nobody's time is taken (`Begun`). Both run in the event loop as long
as they are short: the interpreter is not handed from thread to thread, tens of times a batch, and under a flood a thread that
refuses would starve the one that serves. Long work, for a large base, goes to a thread of its own, so that the loop stays
free to refuse.

Under three times the load that it can bear, a server without a bound serves almost nobody in time: everybody waits, gives up,
and the work was in vain. A short queue with fast refusals goes on serving as many as it can. Every request gets exactly one
answer; the work's answers are counted.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ossia.service.faults import RequestError, overloaded

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")
Result = TypeVar("Result")

PAUSE_S = 0.01  # of the processor's time: longer parts of work do not run in the loop
BRISK_S = 0.0045  # likewise: where a part of two batches would take longer they do not go as one, for refusals wait for it
UNDER_WAY = 2  # batches begun and not answered, at most: one in the processor, one on the disk
PATIENCE_S = 10.0  # for a promise; a disk that takes longer is broken, and the batch's deadline is long over


@dataclass(frozen=True, eq=False)
class Begun(Generic[Answer]):
    """A batch that waits for something else than the processor.

    Attributes:
        promises: what it waits for, such as a commit; one that fails is everybody's answer.
        finish: gives the answers, when all promises are kept; an answer that is an exception is raised to who asked.
    """

    promises: "Sequence[Future[Any]]"
    finish: Callable[[], Sequence[Answer | Exception]]


class Batcher(Generic[Ask, Answer]):
    """Collects requests into batches. Lives in one event loop.

    Args:
        begin: does the first part of the work for some asks; waits for nothing.
        batch: requests that go to `begin` at a time, at most; twice as many under overload.
        waiting: requests that may stand in the queue.
        deadline_s: from `put` to the answer.
    """

    def __init__(
        self,
        begin: Callable[[Sequence[Ask]], Begun[Answer]],
        *,
        batch: int = 32,
        waiting: int = 128,
        deadline_s: float = 1.0,
    ) -> None:
        self._begin, self._batch, self._most, self._deadline_s = begin, batch, waiting, deadline_s
        self._queue: deque[tuple[Ask, asyncio.Future[Answer]]] = deque()
        self._owed: deque[tuple[asyncio.Future[Answer], float]] = deque()  # by their deadlines: all have the same time
        self._thread = ThreadPoolExecutor(1, "payloads")
        self._tasks: set[asyncio.Task[None]] = set()
        self._alarm: asyncio.TimerHandle | None = None
        self._longest_s, self._last = float("inf"), 1  # of the last batch's parts, and how many it was; nothing is known yet
        self._beginning = False

    @property
    def full(self) -> bool:
        """Whether the next request would be refused."""
        return len(self._queue) >= self._most

    @property
    def waiting(self) -> int:
        """How many requests stand in the queue."""
        return len(self._queue)

    @property
    def in_flight(self) -> int:
        """How many requests have no answer yet."""
        return sum(not future.done() for future, _ in self._owed)

    def put(self, ask: Ask) -> "asyncio.Future[Answer]":
        """Stand in the queue.

        Args:
            ask: the request.

        Returns:
            its answer, or the refusal of one whose deadline passed; who goes away cancels it.

        Raises:
            RequestError: the queue is full.
        """
        if self.full:
            raise self.refusal()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        deadline = loop.time() + self._deadline_s
        self._queue.append((ask, future))
        self._owed.append((future, deadline))
        if self._alarm is None:
            self._alarm = loop.call_at(deadline, self._refuse_late)
        self._look()
        return future

    async def submit(self, ask: Ask) -> Answer:
        """Wait in the queue, and for the answer.

        Args:
            ask: the request.

        Returns:
            its answer.

        Raises:
            RequestError: the queue is full, or the deadline passed.
        """
        return await self.put(ask)

    def refusal(self) -> RequestError:
        """Make the refusal for a full queue.

        Returns:
            a refusal with the time after which the queue will have been worked off.
        """
        return overloaded(max(1, round(self._deadline_s)))

    def close(self) -> None:
        """Let the thread end; what stands in the queue is not served any more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _look(self) -> None:
        """Begin a batch if it is time: at once where nothing is under way, else when a whole one waits."""
        enough = self._batch if self._tasks else 1
        if len(self._queue) >= enough and not self._beginning and len(self._tasks) < UNDER_WAY:
            self._beginning = True
            task = asyncio.create_task(self._serve())
            self._tasks.add(task)
            task.add_done_callback(self._served)

    def _served(self, task: "asyncio.Task[None]") -> None:
        """Go on after a batch."""
        self._tasks.discard(task)
        self._look()

    async def _serve(self) -> None:
        """Do the work for a batch, and answer those who still wait."""
        taken = self._take()
        if not taken:  # all have gone
            self._beginning = False
            return
        answers: Sequence[Answer | Exception]
        try:
            answers = await self._work([ask for ask, _ in taken])
            assert len(answers) == len(taken), f"{len(taken)} requests, {len(answers)} answers"
        except Exception as error:  # a fault of ours: everybody of the batch hears of it, nobody hangs
            answers = [error] * len(taken)
        for (_, future), answer in zip(taken, answers, strict=True):
            if not future.done():
                future.set_exception(answer) if isinstance(answer, Exception) else future.set_result(answer)

    async def _work(self, asks: Sequence[Ask]) -> Sequence[Answer | Exception]:
        """Do both parts; what lies between is waited for while others are begun."""
        try:
            begun, first_s = await self._do(lambda: self._begin(asks))
        finally:
            self._beginning = False
        self._look()
        for promise in begun.promises:
            await asyncio.wait_for(asyncio.wrap_future(promise), PATIENCE_S)
        answers, second_s = await self._do(begun.finish)
        self._longest_s, self._last = max(first_s, second_s), len(asks)
        return answers

    async def _do(self, part: Callable[[], Result]) -> tuple[Result, float]:
        """Do a part of the work where it belongs; gives the processor's time with it."""
        if self._longest_s < PAUSE_S:
            return _timed(part)
        return await asyncio.get_running_loop().run_in_executor(self._thread, _timed, part)

    def _take(self) -> list[tuple[Ask, "asyncio.Future[Answer]"]]:
        """Take the next batch, without those who have gone and those whose time is up."""
        self._drop_late(asyncio.get_running_loop().time())
        taken: list[tuple[Ask, asyncio.Future[Answer]]] = []
        most = self._most_at_once()
        while self._queue and len(taken) < most:
            ask, future = self._queue.popleft()
            if not future.done():
                taken.append((ask, future))
        return taken

    def _most_at_once(self) -> int:
        """Say how many requests go at a time: under overload two batches in one, as long as that is short."""
        two = 2 * self._batch
        return two if len(self._queue) > two and two * self._longest_s < BRISK_S * self._last else self._batch

    def _refuse_late(self) -> None:
        """Refuse whose deadline has come, and look again at the next one's."""
        loop = asyncio.get_running_loop()
        self._drop_late(loop.time())
        self._alarm = loop.call_at(self._owed[0][1], self._refuse_late) if self._owed else None

    def _drop_late(self, now: float) -> None:
        """Forget those in front who have their answer, and refuse those whose time is up."""
        while self._owed and ((future := self._owed[0][0]).done() or self._owed[0][1] <= now):
            self._owed.popleft()
            if not future.done():
                future.set_exception(self.refusal())


def _timed(part: Callable[[], Result]) -> tuple[Result, float]:
    """Do something, and measure it."""
    begun = time.thread_time()
    return part(), time.thread_time() - begun
