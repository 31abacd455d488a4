"""A bounded queue in front of work that is cheaper in batches; what can't be served in time is refused at once.

    put        gives the answer to come; refused at once when `waiting` others stand in the queue
    batches    as many as wait, at most `batch`; the work runs in one thread, so that the loop stays free to refuse
    deadline   who waited longer than that is refused before any work is done for him, and nobody hangs on work that hangs

Under three times the load that it can bear, a server without a bound serves almost nobody in time: everybody waits, gives up,
and the work was in vain. A short queue with fast refusals goes on serving as many as it can. Every request gets exactly one
answer; the work's answers are counted.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from ossia.service.faults import RequestError, overloaded

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")


class Batcher(Generic[Ask, Answer]):
    """Collects requests into batches for one worker thread. Lives in one event loop.

    Args:
        work: asks → answers, one each, in order; an answer that is an exception is raised to who asked.
        batch: requests that go to `work` at a time, at most.
        waiting: requests that may stand in the queue.
        deadline_s: from `submit` to the answer.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Ask]], Sequence[Answer | Exception]],
        *,
        batch: int = 32,
        waiting: int = 128,
        deadline_s: float = 1.0,
    ) -> None:
        self._work, self._batch, self._most, self._deadline_s = work, batch, waiting, deadline_s
        self._queue: deque[tuple[Ask, asyncio.Future[Answer], float]] = deque()
        self._thread = ThreadPoolExecutor(1, "payloads")
        self._turning: asyncio.Task[None] | None = None
        self._alarm: asyncio.TimerHandle
        self.in_flight = 0

    @property
    def full(self) -> bool:
        """Whether the next request would be refused."""
        return len(self._queue) >= self._most

    @property
    def waiting(self) -> int:
        """How many requests stand in the queue."""
        return len(self._queue)

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
        future.add_done_callback(self._leave)
        self._queue.append((ask, future, loop.time() + self._deadline_s))
        self.in_flight += 1
        if self._turning is None:
            self._turning = asyncio.create_task(self._turn())
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

    def _leave(self, _future: "asyncio.Future[Answer]") -> None:
        """Count one less."""
        self.in_flight -= 1

    def refusal(self) -> RequestError:
        """Make the refusal for a full queue.

        Returns:
            a refusal with the time after which the queue will have been worked off.
        """
        return overloaded(max(1, round(self._deadline_s)))

    def close(self) -> None:
        """Let the thread end; what stands in the queue is not served any more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _turn(self) -> None:
        """Serve batches until nobody waits."""
        try:
            while self._queue:
                await self._serve(self._take())
        finally:
            self._turning = None

    def _take(self) -> list[tuple[Ask, "asyncio.Future[Answer]", float]]:
        """Take the next batch, and refuse those in front of it whose time is up."""
        now = asyncio.get_running_loop().time()
        taken: list[tuple[Ask, asyncio.Future[Answer], float]] = []
        while self._queue and len(taken) < self._batch:
            ask, future, deadline = self._queue.popleft()
            if future.done():
                continue  # who asked has gone
            if now > deadline:
                future.set_exception(self.refusal())
            else:
                taken.append((ask, future, deadline))
        return taken

    async def _serve(self, taken: list[tuple[Ask, "asyncio.Future[Answer]", float]]) -> None:
        """Do the work for a batch and answer those who still wait."""
        if not taken:
            return
        loop = asyncio.get_running_loop()
        asks = [ask for ask, _, _ in taken]
        self._alarm = loop.call_at(taken[0][2], self._refuse_late, taken)
        try:
            answers = await loop.run_in_executor(self._thread, self._work, asks)
            assert len(answers) == len(asks), f"{len(asks)} requests, {len(answers)} answers"
        except Exception as error:  # a fault of ours: everybody of the batch hears of it, nobody hangs
            answers = [error] * len(asks)
        self._alarm.cancel()
        for (_, future, _), answer in zip(taken, answers, strict=True):
            if not future.done():
                future.set_exception(answer) if isinstance(answer, Exception) else future.set_result(answer)

    def _refuse_late(self, taken: list[tuple[Ask, "asyncio.Future[Answer]", float]]) -> None:
        """While work hangs, refuse whose deadline has come, worked on or waiting, and look again at the next one's."""
        loop = asyncio.get_running_loop()
        pending = [(future, deadline) for _, future, deadline in (*taken, *self._queue) if not future.done()]
        for future, deadline in pending:
            if deadline <= loop.time():
                future.set_exception(self.refusal())
        later = [deadline for future, deadline in pending if not future.done()]
        if later:
            self._alarm = loop.call_at(min(later), self._refuse_late, taken)
