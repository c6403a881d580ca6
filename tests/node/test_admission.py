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
    STEP_S,
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


PEER, OTHER = b"p" * 16, b"o" * 16


async def work(one: Admission, seconds: float, done: list[float], loop: trio.Lock) -> None:
    """Steps that keep the loop for so long, one after the other. Virtual time stands still while a loop is kept, hence the lock."""
    while True:
        async with one.slot(PEER) as slot, loop:
            await trio.sleep(seconds)
            slot.worked_s = seconds - STEP_S
            done.append(seconds)


async def ask(put_us: Histogram, seconds: float) -> None:
    """Requests at the same pace, all of which take as long."""
    for _ in range(round(10 * seconds)):
        for _ in range(100):
            put_us.record(100)
        await trio.sleep(0.1)


def test_slots_are_few_and_keep_the_share() -> None:
    async def scenario(world: World) -> None:
        one, put_us = admission(world)
        done: list[float] = []
        loop = trio.Lock()
        busy = most = 0

        async def counted() -> None:
            nonlocal busy, most
            async with one.slot(PEER):
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
            nursery.start_soon(work, one, 0.01, done, loop)
            await trio.sleep(10)
            assert sum(done) == pytest.approx(10, rel=0.02), "nobody else wants the time"
            nursery.start_soon(work, one, 0.02, done, loop)
            await ask(put_us, 40)
            assert one.share == SHARE_MAX
            done.clear()
            await ask(put_us, 80)
            working = 80 * (QUIET_EVERY - 1) / QUIET_EVERY
            assert sum(done) == pytest.approx(working * SHARE_MAX, rel=0.05), "both together, and nothing in quiet windows"
            nursery.start_soon(ask, put_us, 60)
            assert await most_of(SLOTS + 5) <= SLOTS, "of those that were more while nobody asked for anything"
            nursery.cancel_scope.cancel()

    in_virtual_time(scenario)


def test_what_a_step_waits_for_costs_nothing() -> None:
    """A peer or a disk that takes its time keeps nobody busy."""

    async def scenario(world: World) -> None:
        one, put_us = admission(world)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.run)
            nursery.start_soon(ask, put_us, 60)
            await trio.sleep(30)
            began, steps = trio.current_time(), one.steps
            while one.steps < steps + 50:
                async with one.slot(PEER):
                    await trio.sleep(0.1)
            rests = 1.0 * 2
            assert trio.current_time() - began < 50 * (0.1 + STEP_S / SHARE_MIN) + rests
            nursery.cancel_scope.cancel()

    in_virtual_time(scenario)


def test_what_was_answered_counts_as_what_was_begun_here() -> None:
    async def scenario(world: World) -> None:
        one, put_us = admission(world)
        assert one.answered(1.0) == 0, "a node without requests has all the time"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.run)
            await ask(put_us, 2.5)  # after a window with requests, and a quiet one
            assert not one._controller.resting
            share = one.share
            pause_s = (0.01 + STEP_S) * (1 / share - 1)
            assert one.answered(0.01) == pytest.approx(1e6 * pause_s, abs=1)
            await trio.sleep(0.01 + STEP_S)
            assert one.answered(0.01) == pytest.approx(2e6 * pause_s, abs=1), "of another peer, which waits until both are made up for"
            began = trio.current_time()
            async with one.slot(PEER):
                assert trio.current_time() - began == pytest.approx(2 * pause_s, abs=1e-5)
            assert one.answered(1000.0) == 1e6 * PAUSE_S_MAX, "one stall does not stop everything for minutes"
            nursery.cancel_scope.cancel()

    in_virtual_time(scenario)


def test_in_a_quiet_window_peers_are_sent_away_until_its_end() -> None:
    async def scenario(world: World) -> None:
        one, put_us = admission(world)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.run)
            await ask(put_us, 1.3)
            assert one._controller.resting
            assert one.answered() == pytest.approx(0.7e6, abs=1e3)
            await ask(put_us, 0.8)
            assert not one._controller.resting
            assert one.statistics()["quiet_p99_us"] is not None, "the one step that came in it is not taken for work"
            nursery.cancel_scope.cancel()

    in_virtual_time(scenario)


def test_a_peer_that_wants_to_be_left_alone_is_and_others_are_not() -> None:
    async def scenario(world: World) -> None:
        one, _ = admission(world)
        began = trio.current_time()
        async with one.slot(PEER) as slot:
            slot.pause_us = 900_000
        for _ in range(5):
            async with one.slot(OTHER):
                pass
        async with one.slot(OTHER) as slot:
            slot.pause_us = 100_000
        assert trio.current_time() == began
        async with one.slot(PEER):
            assert trio.current_time() - began == pytest.approx(0.9)
        assert one.statistics()["paused_s"] == pytest.approx(0.9)

    in_virtual_time(scenario)


def test_a_step_that_fails_gives_its_slot_back() -> None:
    async def scenario(world: World) -> None:
        one, _ = admission(world)
        for _ in range(3 * SLOTS):
            with pytest.raises(ZeroDivisionError):
                async with one.slot(PEER):
                    raise ZeroDivisionError

    in_virtual_time(scenario)


