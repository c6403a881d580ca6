"""When a cluster of the core tier is whole again: all nodes run and stay, all are connected, and nothing is under way any more."""

from __future__ import annotations

import pytest

from dynamo_fast.testing.core.world import World
from dynamo_fast.wire.frame import encode_frame
from dynamo_fast.wire.status import MessageType

SOON_S = 2.0  # by then whoever dials has a connection


@pytest.fixture
def world() -> World:
    made = World(1, 3)
    made.clock.run(SOON_S)
    assert made.linked()
    return made


def test_a_node_that_drains_does_not_count_until_its_successor_runs(world: World) -> None:
    machine = world.machines["a"]
    machine.stop()
    machine.start()
    assert machine.up
    assert not world.linked()
    world.clock.run(world.clock.now + SOON_S)
    assert world.linked()


def test_a_node_whose_fsync_failed_does_not_count_until_it_has_restarted(world: World) -> None:
    machine = world.machines["a"]
    machine.fail_next_sync = "planted"
    machine.engine.sync()
    life = machine.life
    while machine.fail_next_sync is not None:
        world.clock.run(world.clock.now + machine.sync_s)
    machine.empty_disk()
    assert machine.up
    assert not world.linked()
    world.clock.run(world.clock.now + SOON_S)
    assert machine.life > life
    assert world.linked()


def test_it_is_not_quiet_while_anything_is_under_way(world: World) -> None:
    network, clock = world.network, world.clock
    assert world.quiet(SOON_S / 2)
    chunks = network.chunks
    network.link("a", "b").delay_s = 3.0
    world.between[0, 1].pipe.send(encode_frame(MessageType.PING, b"", request_id=1))
    network.heal()
    clock.run(clock.now + 2.9)
    assert network.chunks == chunks
    assert not world.quiet(0.0)
    clock.run(network.latest_s)
    assert network.chunks == chunks + 1
    assert not world.quiet(0.0)  # the answer
    clock.run(network.latest_s)
    assert network.chunks == chunks + 2
    assert world.quiet(0.0)
    assert not world.quiet(0.1)
    clock.run(clock.now + 0.1)
    assert world.quiet(0.1)
    machine = world.machines["c"]
    machine.kill()
    assert not world.quiet(0.0)
