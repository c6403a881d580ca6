"""Background work takes what requests do not feel: the controller on figures made up, and the slots in virtual time."""

from __future__ import annotations

import random

import pytest
import trio

from dynamo_fast.core.histogram import Histogram
from dynamo_fast.node.admission import (
    PAUSE_S_MAX,
    QUIET_EVERY,
    REQUESTS_MIN,
    SHARE_FIRST,
    SHARE_MAX,
    SHARE_MIN,
    SLOTS,
    SLOTS_IDLE,
    Admission,
    Controller,
    Window,
)
from tests.node.virtual import Disk, VirtualEnv, World, in_virtual_time


def drive(controller: Controller, windows: int, harm: float, *, requests: int = 1000) -> None:
    """Windows in which requests take 100 us alone, and `harm` times that with background work at full share, less with less."""
    for _ in range(windows):
        worked = not controller.resting
        share = min(controller.share, SHARE_MAX)
        controller.window(requests, 100 * (1 + (harm - 1) * share / SHARE_MAX if worked else 1), worked)


def test_without_requests_background_work_has_all_the_time() -> None:
    controller = Controller()
    drive(controller, 20, harm=10, requests=REQUESTS_MIN - 1)
    assert controller.share == 1.0
    assert not controller.resting


def test_work_that_is_not_felt_gets_its_most_and_no_more() -> None:
    controller = Controller()
    drive(controller, 200, harm=1.0)
    assert controller.share == SHARE_MAX


def test_work_that_is_felt_gets_as_much_as_is_not() -> None:
    controller = Controller()
    drive(controller, 300, harm=3.0)
    shares = []
    for _ in range(100):
        drive(controller, 1, harm=3.0)
        shares.append(controller.share)
    assert 0.01 < sum(shares) / len(shares) < 0.08, "at 0.0375 requests take 1.15 times as long"
    drive(controller, 200, harm=1.0)
    assert controller.share == SHARE_MAX, "and what is felt no more gets more again"


def test_the_share_never_falls_to_nothing() -> None:
    controller = Controller()
    drive(controller, 300, harm=1000.0)
    assert SHARE_MIN <= controller.share < 0.1


def test_some_windows_are_quiet_and_only_while_there_are_requests() -> None:
    controller = Controller()
    drive(controller, 1, harm=2.0)
    assert (controller.share, controller.resting) == (SHARE_FIRST, True)
    quiet = 0
    for _ in range(10 * QUIET_EVERY):
        quiet += controller.resting
        drive(controller, 1, harm=2.0)
    assert quiet == 10
    controller.window(0, 0.0, False)
    assert not controller.resting


def test_a_window_has_the_p99_of_its_own_values() -> None:
    histogram, window = Histogram(), Window()
    assert window.take(histogram) == (0, 0.0)
    for _ in range(1000):
        histogram.record(1_000_000)
    window.take(histogram)
    rng = random.Random(1)
    values = sorted(rng.randrange(1, 10_000) for _ in range(5000))
    for value in values:
        histogram.record(value)
    count, p99 = window.take(histogram)
    assert count == 5000
    assert values[4949] <= p99 <= values[4949] * (1 + 1 / 64) + 1


def admission(world: World) -> tuple[Admission, Histogram]:
    put_us = Histogram()
    env = VirtualEnv(world.network, "a:1", 1, Disk())
    return Admission(env, lambda: {"put_us": put_us}), put_us


async def work(one: Admission, seconds: float, done: list[float]) -> None:
    while True:
        async with one.slot():
            await trio.sleep(seconds)
            done.append(seconds)


def test_slots_are_few_and_keep_the_share() -> None:
    async def scenario(world: World) -> None:
        one, put_us = admission(world)
        done: list[float] = []
        busy = most = 0

        async def counted() -> None:
            nonlocal busy, most
            async with one.slot():
                busy += 1
                most = max(most, busy)
                await trio.sleep(0.01)
                busy -= 1

        async def most_of(count: int) -> int:
            nonlocal most
            most = 0
            async with trio.open_nursery() as nursery:
                for _ in range(count):
                    nursery.start_soon(counted)
            return most

        assert await most_of(SLOTS_IDLE + 5) == SLOTS_IDLE
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.run)
            nursery.start_soon(work, one, 0.01, done)
            await trio.sleep(10)
            assert sum(done) == pytest.approx(10, rel=0.02), "nobody else wants the time"
            done.clear()
            for _ in range(400):  # 40 seconds
                for _ in range(100):
                    put_us.record(100)
                await trio.sleep(0.1)
            assert one.statistics()["share"] == SHARE_MAX
            assert sum(done) < 40 * SHARE_MAX
            assert one._slots.total_tokens == SLOTS, "of those that were more while nobody asked for anything"
            nursery.cancel_scope.cancel()

    in_virtual_time(scenario)


def test_a_node_at_the_other_end_that_can_spare_less_gets_less() -> None:
    async def scenario(world: World) -> None:
        one, _ = admission(world)
        began = trio.current_time()
        async with one.slot() as slot:
            await trio.sleep(0.1)
            slot.their_share = 0.1
        assert trio.current_time() - began == pytest.approx(1)
        assert one.statistics()["paused_s"] == pytest.approx(0.9)

    in_virtual_time(scenario)


def test_a_step_that_waited_long_for_a_peer_does_not_stop_all_others_for_minutes() -> None:
    """Two peers that stood still for five seconds, on a node that could spare little, kept hints from going home for four minutes."""

    async def scenario(world: World) -> None:
        one, _ = admission(world)
        async with one.slot() as slot:
            await trio.sleep(5)
            slot.their_share = SHARE_MIN
        assert one.statistics()["paused_s"] == PAUSE_S_MAX

    in_virtual_time(scenario)


def test_a_step_that_fails_gives_its_slot_back() -> None:
    async def scenario(world: World) -> None:
        one, _ = admission(world)
        for _ in range(3 * SLOTS):
            with pytest.raises(ZeroDivisionError):
                async with one.slot():
                    raise ZeroDivisionError

    in_virtual_time(scenario)


