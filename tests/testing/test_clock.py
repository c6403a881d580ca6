"""Virtual time: the agenda and trio's timers happen in one order, nothing sleeps, and nothing hangs."""

import math

import pytest
import trio

from dynamo_fast.testing.agenda import Stuck
from dynamo_fast.testing.clock import Clock
from dynamo_fast.testing.cluster import only
from dynamo_fast.testing.private import deterministic


def run(main, clock: Clock) -> None:
    """Under that clock, with its failures raised."""

    async def watched() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clock.wait_failure)
            await main()
            nursery.cancel_scope.cancel()

    with deterministic(1):
        try:
            trio.run(watched, clock=clock)
        except BaseExceptionGroup as group:
            raise only(group) from None


def test_agenda_and_timers_are_one_order() -> None:
    clock, happened = Clock(), []

    async def main() -> None:
        for when_s in (5, 1, 3, 3):
            clock.at(when_s, lambda: happened.append(clock.now))
        for when_s in (2, 4):
            await trio.sleep_until(when_s)
            happened.append(-clock.now)
        await trio.sleep_until(1e6)

    run(main, clock)
    assert happened == [1, -2, 3, 3, -4, 5]
    assert clock.now == 1e6


def test_a_call_of_the_agenda_comes_back() -> None:
    clock = Clock()

    async def main() -> None:
        assert await clock.moment(lambda: 7) == 7
        with pytest.raises(ZeroDivisionError):
            await clock.moment(lambda: 1 / 0)

    run(main, clock)


def test_who_sleeps_on_the_agenda_wakes_on_time_or_is_cancelled_like_anybody() -> None:
    clock, happened = Clock(), []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        happened.append((seconds, clock.now))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for seconds in (3, 1, 0):
                nursery.start_soon(sleeper, seconds)
        with trio.move_on_after(2) as scope:
            await clock.sleep(5)
        assert (scope.cancelled_caught, clock.now) == (True, 5)
        await clock.sleep(10)  # the entry of the one that was cancelled, at 8, wakes nobody
        assert clock.now == 15

    run(main, clock)
    assert happened == [(0, 0), (1, 1), (3, 3)]


def test_what_the_agenda_raises_ends_the_run() -> None:
    clock = Clock()

    async def main() -> None:
        clock.after(1, lambda: [].pop())
        await trio.sleep(2)

    with pytest.raises(IndexError):
        run(main, clock)


def test_a_deadlock_is_an_error() -> None:
    with pytest.raises(Stuck, match="nothing is left"):
        run(trio.sleep_forever, Clock())


def test_a_moment_without_an_end_is_an_error() -> None:
    clock = Clock(events_max=1000)

    def again() -> None:
        clock.at(0, again)

    async def main() -> None:
        again()
        await trio.sleep(math.inf)

    with pytest.raises(Stuck, match="no end"):
        run(main, clock)
