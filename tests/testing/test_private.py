"""The private names of trio do what the simulator takes them for: the order of tasks is the seed's, and a frozen life stands still."""

import random

import trio
import trio._core._run as trio_run

from dynamo_fast.testing.clock import Clock
from dynamo_fast.testing.private import Life, deterministic


def order_of_tasks(seed: int) -> list[int]:
    """In which order twenty tasks, woken together again and again, run."""
    ran: list[int] = []

    async def note(number: int) -> None:
        for _ in range(5):
            ran.append(number)
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(note, number)

    with deterministic(seed):
        trio.run(main, clock=Clock())
    return ran


def test_the_order_of_tasks_is_the_seeds() -> None:
    assert order_of_tasks(1) == order_of_tasks(1)
    assert order_of_tasks(1) != order_of_tasks(2)


def test_trio_is_as_before_afterwards() -> None:
    chance, put_back, allowed = trio_run._r, trio_run.Runner.reschedule, trio_run._ALLOW_DETERMINISTIC_SCHEDULING
    order_of_tasks(1)
    assert trio_run._r is chance
    assert trio_run.Runner.reschedule is put_back
    assert trio_run._ALLOW_DETERMINISTIC_SCHEDULING is allowed
    assert isinstance(chance, random.Random)


def test_a_frozen_life_stands_still_and_goes_on() -> None:
    async def main() -> None:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, Clock)
        ticks: list[float] = []
        bell, rung = trio.Event(), []

        async def tick() -> None:
            while True:
                await trio.sleep(1)
                ticks.append(clock.now)

        async def listen() -> None:
            await bell.wait()
            rung.append(clock.now)

        async with trio.open_nursery() as nursery:
            life = Life()
            life.context.run(nursery.start_soon, tick)
            life.context.run(nursery.start_soon, listen)
            await trio.sleep(2.5)
            await clock.moment(life.freeze)
            bell.set()
            await trio.sleep(10)
            assert ticks == [1, 2]
            assert rung == []
            await clock.moment(life.thaw)
            await trio.sleep(1.2)
            assert ticks == [1, 2, 12.5, 13.5]
            assert rung == [12.5]
            nursery.cancel_scope.cancel()

    with deterministic(1):
        trio.run(main, clock=Clock())


def test_the_dead_run_no_finally() -> None:
    async def main() -> None:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, Clock)
        ended: list[str] = []

        async def work() -> None:
            with trio.CancelScope() as scope:
                scopes.append(scope)
                try:
                    await trio.sleep_forever()
                finally:
                    ended.append("finally")

        scopes: list[trio.CancelScope] = []
        async with trio.open_nursery() as nursery:
            life = Life()
            life.context.run(nursery.start_soon, work)
            await trio.sleep(1)
            await clock.moment(life.freeze)
            scopes[0].cancel()
            await trio.sleep(3600)
            assert ended == []
            life.thaw()  # the simulation is over: now it may
        assert ended == ["finally"]

    with deterministic(1):
        trio.run(main, clock=Clock())
