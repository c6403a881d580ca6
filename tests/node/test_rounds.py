"""With whom a member compares its copies, and when: by itself, and when somebody asks for it."""

from __future__ import annotations

import pytest
import trio

from dynamo_fast.core.change import Step
from dynamo_fast.node.meeting import Tally
from dynamo_fast.node.rounds import LOOK_S
from dynamo_fast.wire import control_messages as messages
from tests.node.changing import begin, placement_over
from tests.node.exchanging import ROUND_S, ExchangingNode, at_rest, everywhere, moved, same, version
from tests.node.virtual import World, in_virtual_time


def test_two_that_begin_at_once_do_one_exchange() -> None:
    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 2)
        for number in range(500):
            nodes[0].write(b"key%d" % number, version(b"v"))
        small, large = sorted(nodes, key=lambda node: node.id)
        outcomes: dict[bytes, Exception | None] = {}

        async def begin(node: ExchangingNode, other: ExchangingNode) -> None:
            outcomes[node.id] = await node.node.rounds._exchange(other.id, node.session_to(other), Tally())

        await world.until(lambda: not any(node.node.anti_entropy.meeting for node in nodes))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(begin, small, large)
            nursery.start_soon(begin, large, small)
        assert outcomes[small.id] is None
        assert "under way" in str(outcomes[large.id])
        assert same(nodes)
        assert moved(nodes) == 500

    in_virtual_time(scenario)


def test_a_member_that_comes_back_is_met_at_once() -> None:
    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 3, anti_entropy__round_s=3600)
        nodes[2].crash()
        await trio.sleep(20)
        for node in nodes[:2]:
            node.write(b"key", version(b"written meanwhile"))
        await world.start(nodes[2])
        await world.until(lambda: bool(nodes[0].peers) and len(nodes[2].peers) == 2)
        with trio.fail_after(4 * LOOK_S):
            while nodes[2].packed(b"key") is None:  # noqa: ASYNC110
                await trio.sleep(0.01)

    in_virtual_time(scenario)


async def repair(node: ExchangingNode) -> messages.RepairReply:
    """A repair of one node from its beginning to its end, asked for as the command does."""
    run = 0
    with trio.fail_after(300):
        while True:
            reply = await node.node.rounds.answer_repair(None, messages.RepairRequest(run=run))
            if run and reply.done:
                return reply
            assert run in (0, reply.run)
            run = reply.run
            await trio.sleep(0.1)


def test_a_repair_meets_every_peer_now_and_says_what_it_did() -> None:
    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 3, anti_entropy__round_s=3600)
        for number in range(300):
            nodes[number % 3].write(b"key%d" % number, version(b"v"))
        reply = await repair(nodes[0])
        assert (reply.peers, reply.partitions, reply.compared, reply.failed) == (2, 128, 128, {})
        assert reply.differing > 0
        # The others' 200, and what each of the two lacks of the rest when its turn comes.
        assert reply.keys_pulled == 200
        assert 200 <= reply.keys_pushed <= 400
        await repair(nodes[1])
        assert same(nodes)
        again = await repair(nodes[2])
        assert again.run != reply.run
        assert (again.differing, again.keys_pulled, again.keys_pushed) == (0, 0, 0)
        statistics = nodes[0].node.rounds.statistics()
        assert statistics["keys_pulled"] == reply.keys_pulled
        assert isinstance(statistics["last_full_round_age_s"], float)
        with pytest.raises(Exception, match="no repair"):
            await nodes[0].node.rounds.answer_repair(None, messages.RepairRequest(run=reply.run + 4))

    in_virtual_time(scenario)


def test_a_repair_names_whom_it_could_not_reach() -> None:
    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 3)
        nodes[2].crash()
        await world.until(lambda: len(nodes[0].peers) == 1)
        reply = await repair(nodes[0])
        assert (reply.peers, reply.compared) == (2, 64)
        assert reply.failed == {nodes[2].address: "it cannot be reached"}

    in_virtual_time(scenario)


def test_rounds_bring_nothing_to_who_is_about_to_become_a_home() -> None:
    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 4)
        old, new = placement_over(nodes[:3], nodes[0].view), nodes[0].node.cluster.placement
        begin(nodes, old, new)
        everywhere(nodes[:3], 300)
        await trio.sleep(3 * ROUND_S)
        assert nodes[3].records.statistics()["puts"] == 0
        begin(nodes, old, new, Step.SWITCHED)
        await world.until(lambda: nodes[3].records.statistics()["puts"] != 0, within_s=3 * ROUND_S)

    in_virtual_time(scenario)
