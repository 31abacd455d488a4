"""The queue: one answer for everybody, a fast refusal for those beyond the bound, and nobody hangs."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from ossia.service.batching import BRISK_S, PAUSE_S, Batcher, Begun
from ossia.service.faults import RequestError


def run(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(), 20))  # type: ignore[arg-type]


def whole(work: Callable[[Sequence[Any]], Sequence[Any]]) -> Callable[[Sequence[Any]], Begun[Any]]:
    """Work that waits for nothing."""
    return lambda asks: Begun((), lambda: work(asks))


def test_everybody_gets_the_answer_to_his_own_question_in_few_batches() -> None:
    sizes: list[int] = []

    def double(asks: Sequence[int]) -> list[int]:
        sizes.append(len(asks))
        return [2 * ask for ask in asks]

    async def scene() -> None:
        batcher = Batcher(whole(double), batch=16, waiting=200, deadline_s=10.0)
        assert await asyncio.gather(*(batcher.submit(ask) for ask in range(100))) == [2 * ask for ask in range(100)]
        assert batcher.in_flight == batcher.waiting == 0
        batcher.close()

    run(scene)
    assert sum(sizes) == 100
    assert max(sizes) == 32  # of a long queue, two batches at a time
    assert len(sizes) <= 8


@pytest.mark.parametrize("long", [False, True])
def test_two_batches_go_as_one_while_more_than_two_wait_if_that_is_short(long: bool) -> None:
    sizes: list[int] = []

    def work(asks: Sequence[int]) -> Sequence[int]:
        sizes.append(len(asks))
        until = time.thread_time() + BRISK_S * long
        while time.thread_time() < until:
            pass
        return asks

    async def scene() -> None:
        batcher = Batcher(whole(work), batch=8, waiting=100, deadline_s=10.0)
        await batcher.submit(0)  # nothing is known of the first
        await asyncio.gather(*(batcher.submit(ask) for ask in range(56)))
        batcher.close()

    run(scene)
    assert sizes == [1, *([8] * 7 if long else [16, 16, 16, 8])]


def test_beyond_the_bound_one_is_refused_at_once_and_told_when_to_come_again() -> None:
    go = threading.Event()

    async def scene() -> None:
        batcher = Batcher(whole(lambda asks: [go.wait(10) for _ in asks]), batch=2, waiting=4, deadline_s=10.0)
        served = [asyncio.create_task(batcher.submit(ask)) for ask in range(2)]
        await asyncio.sleep(0.05)  # two are worked on
        served += [asyncio.create_task(batcher.submit(ask)) for ask in range(2)]
        await asyncio.sleep(0.05)  # two are next
        served += [asyncio.create_task(batcher.submit(ask)) for ask in range(4)]
        await asyncio.sleep(0.05)  # four wait
        assert batcher.full
        with pytest.raises(RequestError) as refused:
            await batcher.submit(9)
        assert (refused.value.status, refused.value.retry_after_s) == (503, 10)
        go.set()
        assert await asyncio.gather(*served) == [True] * 8
        assert batcher.in_flight == 0
        batcher.close()

    run(scene)


def test_nobody_hangs_on_work_that_hangs() -> None:
    go = threading.Event()

    async def scene() -> None:
        batcher = Batcher(whole(lambda asks: [go.wait(10) for _ in asks]), deadline_s=0.1)
        begun = time.monotonic()
        outcomes = await asyncio.gather(*(batcher.submit(ask) for ask in range(50)), return_exceptions=True)
        assert time.monotonic() - begun < 5
        assert {type(each) for each in outcomes} == {RequestError}
        go.set()
        await asyncio.sleep(0.1)
        assert batcher.in_flight == batcher.waiting == 0
        assert await batcher.submit(1) is True
        batcher.close()

    run(scene)


def test_no_work_is_done_for_one_whose_time_is_up() -> None:
    worked: list[int] = []

    def slow(asks: Sequence[int]) -> list[int]:
        worked.extend(asks)
        time.sleep(0.2)
        return list(asks)

    async def scene() -> None:
        batcher = Batcher(whole(slow), batch=1, deadline_s=0.3)
        outcomes = await asyncio.gather(*(batcher.submit(ask) for ask in range(10)), return_exceptions=True)
        assert outcomes[0] == 0
        assert isinstance(outcomes[-1], RequestError)
        batcher.close()

    run(scene)
    assert len(worked) <= 3


@pytest.mark.parametrize("answers", [[], [1, 2, 3]])
def test_work_that_drops_or_invents_answers_is_found_out(answers: list[int]) -> None:
    async def scene() -> None:
        batcher = Batcher(whole(lambda asks: answers), deadline_s=10.0)
        with pytest.raises(AssertionError, match="2 requests"):
            await asyncio.gather(batcher.submit(1), batcher.submit(2))
        batcher.close()

    run(scene)


def test_a_refusal_of_one_is_not_its_neighbors() -> None:
    async def scene() -> None:
        batcher = Batcher(whole(lambda asks: [ValueError("odd") if ask % 2 else ask for ask in asks]), deadline_s=10.0)
        outcomes = await asyncio.gather(*(batcher.submit(ask) for ask in range(4)), return_exceptions=True)
        assert [str(each) for each in outcomes] == ["0", "odd", "2", "odd"]
        batcher.close()

    run(scene)


def test_one_who_went_away_is_not_worked_for() -> None:
    worked: list[int] = []

    async def scene() -> None:
        batcher = Batcher(whole(lambda asks: worked.extend(asks) or list(asks)), batch=1, deadline_s=10.0)
        tasks = [asyncio.create_task(batcher.submit(ask)) for ask in range(3)]
        await asyncio.sleep(0)
        tasks[2].cancel()
        assert await asyncio.gather(*tasks[:2]) == [0, 1]
        await asyncio.sleep(0.05)
        assert batcher.in_flight == 0
        batcher.close()

    run(scene)
    assert worked == [0, 1]


def test_the_next_batch_is_begun_while_one_waits_for_the_disk_and_answers_come_when_the_disk_has_it() -> None:
    promises: list[Future[None]] = []

    def begin(asks: Sequence[int]) -> Begun[int]:
        promises.append(Future())
        return Begun(promises[-1:], lambda: list(asks))

    async def scene() -> None:
        batcher = Batcher(begin, batch=2, waiting=8, deadline_s=10.0)
        answers = [batcher.put(ask) for ask in range(6)]
        await asyncio.sleep(0.1)
        assert len(promises) == 2  # and no third: a slow disk must fill the queue, not the memory
        assert not any(answer.done() for answer in answers)
        promises[1].set_result(None)
        assert await asyncio.gather(*answers[2:4]) == [2, 3]
        assert not answers[0].done()
        promises[0].set_result(None)
        await asyncio.sleep(0.1)
        promises[2].set_exception(OSError("disk"))
        told = await asyncio.gather(*answers, return_exceptions=True)
        assert (told[:2], [str(each) for each in told[4:]]) == ([0, 1], ["disk", "disk"])
        assert batcher.in_flight == 0
        batcher.close()

    run(scene)


def test_nobody_hangs_on_a_disk_that_hangs() -> None:
    async def scene() -> None:
        batcher = Batcher(lambda asks: Begun([Future()], lambda: asks), batch=2, waiting=8, deadline_s=0.1)
        outcomes = await asyncio.gather(*(batcher.submit(ask) for ask in range(8)), return_exceptions=True)
        assert {type(each) for each in outcomes} == {RequestError}
        assert batcher.in_flight == 0
        batcher.close()

    run(scene)


@pytest.mark.parametrize("long", [False, True])
def test_short_work_is_done_in_the_loop_and_long_work_leaves_the_loop_free(long: bool) -> None:
    names: list[str] = []

    def work(asks: Sequence[int]) -> Sequence[int]:
        names.append(threading.current_thread().name)
        until = time.thread_time() + 2 * PAUSE_S * long
        while time.thread_time() < until:
            pass
        return asks

    async def scene() -> None:
        batcher = Batcher(whole(work), deadline_s=10.0)
        for ask in range(4):
            assert await batcher.submit(ask) == ask
        batcher.close()

    run(scene)
    assert ["payloads" in name for name in names] == [True, long, long, long]  # nothing is known of the first
