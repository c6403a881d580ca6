"""Replicas that have grown apart become the same bytes, with no client's help, at the price of what differs and no more."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

import msgspec
import pytest
import trio

from dynamo_fast.core.change import Step
from dynamo_fast.core.siblings import Siblings
from dynamo_fast.node import meeting
from dynamo_fast.node.exchange import pack_listing
from dynamo_fast.node.meeting import Meeting, Tally, Terms
from dynamo_fast.node.rounds import LOOK_S, RETRY_S
from dynamo_fast.storage.schema import record_hash
from dynamo_fast.wire import control_messages as messages
from dynamo_fast.wire import replica_messages as replica
from dynamo_fast.wire.status import Status
from tests.node.changing import begin, homes_in, partition_of, placement_over
from tests.node.exchanging import ExchangingNode, cluster_of, same, version
from tests.node.virtual import World, in_virtual_time

ROUND_S = 10


def moved(nodes: list[ExchangingNode]) -> int:
    """Objects that exchanges have sent, either way, in the life of the nodes that live."""
    return sum(node.node.anti_entropy.total.keys_pulled + node.node.anti_entropy.total.keys_pushed for node in nodes)


def everywhere(nodes: list[ExchangingNode], count: int, **of: int) -> list[bytes]:
    keys = [b"key%d" % number for number in range(count)]
    for key in keys:
        for node in nodes:
            node.write(key, version(b"of " + key, **of))
    return keys


async def at_rest(world: World, count: int, **flags: object) -> list[ExchangingNode]:
    """A cluster whose members have met, each pair from both sides."""
    nodes = await cluster_of(world, count, **flags)
    await world.until(lambda: all(len(node.node.anti_entropy.met_s) == count - 1 for node in nodes))
    await trio.sleep(5)
    return nodes


async def at_rest_again(world: World, nodes: list[ExchangingNode]) -> None:
    """What is under way has come to its end and is counted."""
    await world.until(lambda: not any(node.node.anti_entropy.meeting for node in nodes))


def sums(nodes: list[ExchangingNode], name: str) -> int:
    return sum(getattr(node.node.anti_entropy.total, name) for node in nodes)


# What it does --------------------------------------------------------------------------------------------------------


def test_diverged_copies_become_the_same_bytes() -> None:
    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 3)
        for number in range(300):
            nodes[number % 3].write(b"key%d" % number, version(b"v", node=number % 3 + 1))
            if number % 5 == 0:
                nodes[(number + 1) % 3].write(b"key%d" % number, version(b"w", node=9))
        assert not same(nodes)
        await world.until(lambda: same(nodes), within_s=3 * ROUND_S)
        for number in range(300):
            copies = {node.packed(b"key%d" % number) for node in nodes}
            assert len(copies) == 1
            assert len(Siblings(copies.pop() or b"").siblings) == 1 + (number % 5 == 0)

    in_virtual_time(scenario)


def test_a_wiped_disk_is_refilled_without_any_client() -> None:
    """Beside the two copies that are left, and by them: what each brings the other need not."""

    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 3)
        keys = everywhere(nodes, 3000)
        await nodes[2].restart(wiped=True)
        before = moved(nodes)
        await world.until(lambda: same(nodes), within_s=3 * ROUND_S)
        assert all(nodes[2].packed(key) == nodes[0].packed(key) for key in keys)
        await at_rest_again(world, nodes)
        assert len(keys) <= moved(nodes) - before <= 1.05 * len(keys)

    in_virtual_time(scenario)


def test_a_deleted_key_does_not_come_back_with_a_node_that_was_away() -> None:
    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 3)
        keys = everywhere(nodes, 100)
        nodes[2].crash()
        await trio.sleep(1)
        for key in keys[:50]:
            written = Siblings(nodes[0].packed(key) or b"")
            deleted = written.put(node=b"z" * 16, epoch=1, context=written.clock, tombstone=True)
            for node in nodes[:2]:
                node.write(key, deleted.packed)
        await world.start(nodes[2])
        await world.until(lambda: same(nodes), within_s=3 * ROUND_S)
        for number, key in enumerate(keys):
            assert {Siblings(node.packed(key) or b"").values for node in nodes} == {() if number < 50 else (b"of " + key,)}

    in_virtual_time(scenario)


def test_what_a_node_holds_for_others_is_not_touched() -> None:
    """A record in a partition of which its holder is no home is a hint: no exchange spreads it, asks for it or takes it away."""

    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 5)
        ring = nodes[0].node.cluster.placement.ring()
        node_ids = nodes[0].node.cluster.placement.node_ids
        everywhere_home = [b"key%d" % number for number in range(200)]
        for key in everywhere_home:
            for node in nodes:
                if node_ids.index(node.id) in ring.preference_list(key):
                    node.write(key, version(b"v"))
        hinted = next(key for key in (b"hint%d" % n for n in range(100)) if node_ids.index(nodes[0].id) not in ring.preference_list(key))
        ((status, _),) = nodes[0].told.merge_entries([(b"", hinted, version(b"for another"))])
        assert status == Status.STALE_PLACEMENT, "nobody brings it here"
        store_key = nodes[0].store_key(hinted)
        source = next(node for node in nodes if node_ids.index(node.id) in ring.preference_list(hinted))
        source.write(hinted, version(b"for another"))
        kept = source.records.get(store_key)
        assert kept is not None
        nodes[0].records.put(store_key, kept)
        homes = [node for node in nodes if node_ids.index(node.id) in ring.preference_list(hinted)]
        others = [node for node in nodes if node not in homes and node is not nodes[0]]
        await world.until(lambda: same(nodes), within_s=3 * ROUND_S)
        await trio.sleep(3 * ROUND_S)
        assert nodes[0].records.get(store_key) == kept
        assert all(node.packed(hinted) == version(b"for another") for node in homes)
        assert all(node.packed(hinted) is None for node in others)

    in_virtual_time(scenario)


# Partitions that may have lost something ------------------------------------------------------------------------------


def test_a_node_that_lost_its_records_is_trusted_again_when_it_has_those_of_enough_others() -> None:
    """N=3, W=2: a write that was acknowledged lies with another home at least; two of them are all."""

    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 3)
        assert [node.records.suspects for node in nodes] == [frozenset()] * 3, "new members have met everybody"
        keys = everywhere(nodes, 500)
        nodes[1].crash()
        await nodes[2].restart(wiped=True)
        await trio.sleep(3 * ROUND_S)
        assert all(nodes[2].packed(key) is not None for key in keys)
        assert len(nodes[2].records.suspects) == 64, "what one home has is not all that was acknowledged"
        await world.start(nodes[1])
        await world.until(lambda: not nodes[2].records.suspects, within_s=2 * ROUND_S)
        assert same(nodes)

    in_virtual_time(scenario)


def test_with_the_default_of_all_homes_one_other_is_enough() -> None:
    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 3, requests__w=3)
        nodes[1].crash()
        await nodes[2].restart(wiped=True)
        await world.until(lambda: bool(nodes[2].peers) and not nodes[2].records.suspects, within_s=2 * ROUND_S)

    in_virtual_time(scenario)


def test_nothing_is_trusted_before_it_is_on_disk() -> None:
    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 3)
        everywhere(nodes[:2], 100)
        await nodes[2].restart(wiped=True)
        nodes[2].records.hold_syncs = True
        await trio.sleep(3 * ROUND_S)
        assert nodes[2].packed(b"key1") is not None
        partition, _ = nodes[2].records.forest.place(nodes[2].store_key(b"key1")[:16])
        assert nodes[2].records.is_suspect(partition)

    in_virtual_time(scenario)


@pytest.mark.parametrize("wrong", [0, 1])
def test_a_tree_with_the_hash_of_a_record_that_is_gone_is_set_right(wrong: int) -> None:
    """Its leaf differs and no key does: whoever begins has both sides sum it up anew."""

    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 2)
        everywhere(nodes, 200)
        position = nodes[wrong].store_key(b"key7")[:16]
        nodes[wrong].records.forest.replace(position, 0, 0xDEAD)
        assert not same(nodes)
        await world.until(lambda: same(nodes), within_s=3 * ROUND_S)
        assert moved(nodes) == 0

    in_virtual_time(scenario)


# What it costs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [0, 1])
def test_an_older_copy_is_replaced_by_one_object_for_a_key(ahead: int) -> None:
    """Both have every key; one has missed the last write of some. Whoever begins, only the newer objects move."""

    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 2)
        keys = everywhere(nodes, 2000)
        for key in keys[:500]:
            nodes[ahead].write(key, version(b"newer", counter=2))
        await world.until(lambda: same(nodes), within_s=3 * ROUND_S)
        await at_rest_again(world, nodes)
        assert moved(nodes) == 500
        assert nodes[1 - ahead].packed(keys[0]) == version(b"newer", counter=2)

    in_virtual_time(scenario)


def test_keys_that_one_side_lacks_move_once_each() -> None:
    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 2)
        everywhere(nodes, 1000)
        for number in range(600):
            nodes[number % 2].write(b"only one has %d" % number, version(b"v"))
        await world.until(lambda: same(nodes), within_s=3 * ROUND_S)
        await at_rest_again(world, nodes)
        assert moved(nodes) == 600

    in_virtual_time(scenario)


def test_concurrent_versions_go_there_and_their_merge_comes_back() -> None:
    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 2)
        everywhere(nodes, 100)
        for number in range(100):
            nodes[number % 2].write(b"key%d" % number, version(b"one", node=3))
            nodes[1 - number % 2].write(b"key%d" % number, version(b"two", node=4))
        await world.until(lambda: same(nodes), within_s=3 * ROUND_S)
        await at_rest_again(world, nodes)
        assert moved(nodes) == 200
        assert {len(Siblings(nodes[0].packed(b"key%d" % number) or b"").siblings) for number in range(100)} == {3}

    in_virtual_time(scenario)


def test_members_in_step_pay_eight_bytes_for_a_partition_and_a_few_for_the_message() -> None:
    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 3)
        everywhere(nodes, 1000)
        await trio.sleep(5)
        bytes_before, compared_before = sums(nodes, "bytes"), sums(nodes, "compared")
        rounds_before = [node.node.rounds.meetings for node in nodes]
        await trio.sleep(1000)
        compared = sums(nodes, "compared") - compared_before
        assert sums(nodes, "differing") == 0
        # 64 partitions here; the message around the roots is shared by 1024 as a rule.
        per_partition = (sums(nodes, "bytes") - bytes_before) / compared
        assert per_partition <= 8 + 160 / 64
        meetings = [node.node.rounds.meetings - before for node, before in zip(nodes, rounds_before, strict=True)]
        # Three pairs, each met once a round, whoever begins: all that an operator pays for a partition is what its pairs pay.
        assert 3 * 1000 / ROUND_S * 0.8 <= sum(meetings) <= 3 * 1000 / ROUND_S * 1.1
        assert compared / 64 / (1000 / ROUND_S) * per_partition <= 32

    in_virtual_time(scenario)


def test_writes_under_way_are_no_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients write all the time; what has not reached every home yet is not moved by exchanges too."""
    second_looks: list[int] = []
    compare = meeting.Meeting._compare

    async def watched(self: meeting.Meeting, asked: list[int] | None, partitions: list[int], *, finished: bool = False) -> list[int]:
        second_looks.extend(asked or ())
        return await compare(self, asked, partitions, finished=finished)

    monkeypatch.setattr(meeting.Meeting, "_compare", watched)

    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 3, anti_entropy__round_s=1)
        clients = [node.client() for node in nodes]
        rng = random.Random(5)
        number = 0
        for _ in range(6000):
            for _ in range(3):
                number += 1
                where = rng.randrange(3)
                nodes[where].put(clients[where], b"key%d" % rng.randrange(50), b"v%d" % number, number, overwrite=True)
            await trio.sleep(0.001)
        assert second_looks, "the trees did differ when looked at"
        assert moved(nodes) <= 0.001 * number
        await world.until(lambda: same(nodes), within_s=10)

    in_virtual_time(scenario)


def test_a_workload_during_the_exchange_loses_nothing() -> None:
    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 3, anti_entropy__round_s=1)
        everywhere(nodes, 2000)
        await nodes[2].restart(wiped=True)
        clients = [node.client() for node in nodes]
        rng = random.Random(7)
        for number in range(1, 1001):
            where = rng.randrange(2)
            nodes[where].put(clients[where], b"key%d" % rng.randrange(2000), b"new %d" % number, number)
            if number % 5 == 0:
                await trio.sleep(0.01)
        await world.until(lambda: same(nodes), within_s=60)
        values = {value for node in nodes for n in range(2000) for value in Siblings(node.packed(b"key%d" % n) or b"").values}
        assert {b"new %d" % number for number in range(1, 1001)} <= values
        assert {b"of key%d" % n for n in range(2000)} <= values

    in_virtual_time(scenario)


# What goes wrong -----------------------------------------------------------------------------------------------------


def test_an_exchange_that_breaks_leaves_nothing_half_done_and_the_next_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "PENDING_MAX", 256)

    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 2)
        keys = [b"key%d" % number for number in range(4000)]
        for key in keys:
            nodes[0].write(key, version(b"v"))
        sent = 0
        for part in (0.2, 0.4, 0.6, 0.8):
            await world.until(lambda part=part: nodes[1].records.statistics()["puts"] >= part * len(keys), within_s=60)  # type: ignore[misc]
            sent += moved(nodes[1:])
            await nodes[1].restart()
        await world.until(lambda: same(nodes), within_s=120)
        puts = nodes[1].records.statistics()["puts"]
        assert isinstance(puts, int)
        assert puts == len(keys), "nothing was merged that was there already"
        await at_rest_again(world, nodes)
        assert sent + moved(nodes) <= 1.05 * len(keys)

    in_virtual_time(scenario)


def test_what_is_known_to_differ_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "PENDING_MAX", 100)
    seen: list[int] = []
    settle = meeting.Meeting._settle

    async def watched(self: meeting.Meeting) -> None:
        seen.append(len(self._pending))
        await settle(self)

    monkeypatch.setattr(meeting.Meeting, "_settle", watched)

    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 2, cluster__partitions=64)
        for number in range(5000):
            nodes[0].write(b"key%d" % number, version(b"v"))
        await world.until(lambda: same(nodes), within_s=120)
        assert max(seen) <= 100 + replica.LISTED_MAX

    in_virtual_time(scenario)


def test_a_disk_that_refuses_ends_the_exchange_and_nothing_else() -> None:
    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 2)
        for number in range(5000):
            nodes[0].write(b"key%d" % number, version(b"v"))
        nodes[1].records.failure = "no space left"
        await trio.sleep(3 * ROUND_S)
        assert not same(nodes)
        assert sum(node.node.rounds.failures for node in nodes) > 0
        nodes[1].records.heal()
        await world.until(lambda: same(nodes), within_s=3 * ROUND_S)

    in_virtual_time(scenario)


def test_nodes_that_work_by_different_placements_exchange_nothing() -> None:
    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 2)
        cluster = nodes[0].node.cluster
        agreed = cluster.placement

        async def tampered_with(*placements: object) -> None:
            """Nothing puts it right."""

        cluster.work_by = tampered_with
        cluster.placement = replace(agreed, record=msgspec.structs.replace(agreed.record, number=agreed.number + 1))
        nodes[0].write(b"key", version(b"v"))
        await trio.sleep(3 * ROUND_S)
        assert nodes[1].packed(b"key") is None
        assert sum(node.node.rounds.failures for node in nodes) > 0
        cluster.placement = agreed
        await world.until(lambda: same(nodes), within_s=3 * ROUND_S)

    in_virtual_time(scenario)


Answer = Callable[[object, object], Awaitable[messages.Reply]]


def lies(rng: random.Random) -> dict[str, tuple[type, Callable[[object], messages.Reply]]]:
    """One wrong answer for each question, or more."""

    def noise(count: int) -> bytes:
        return rng.randbytes(count)

    def endless(request: replica.EntriesRequest) -> messages.Reply:
        first = int.from_bytes(request.after, "big") if request.after else request.leaves[0] << (192 - 14)
        return replica.EntriesReply(entries=pack_listing([((first + n + 1).to_bytes(24, "big"), n) for n in range(1024)]), done=False)

    return {
        "partitions that were not asked about": (replica.CompareRequest, lambda _: replica.CompareReply(differing=[65535])),
        "another kind of answer": (replica.CompareRequest, lambda _: messages.BucketSetReply()),
        "hashes of a wrong length": (replica.TreeRequest, lambda _: replica.TreeReply(hashes=noise(77))),
        "hashes at random": (replica.TreeRequest, lambda r: replica.TreeReply(hashes=noise(8 * len(r.nodes) << r.depth))),
        "no hashes": (replica.TreeRequest, lambda _: replica.TreeReply(hashes=b"")),
        "a listing at random": (replica.EntriesRequest, lambda _: replica.EntriesReply(entries=noise(320), done=True)),
        "a listing of a wrong length": (replica.EntriesRequest, lambda _: replica.EntriesReply(entries=noise(33), done=True)),
        "a listing that goes on with nothing": (replica.EntriesRequest, lambda _: replica.EntriesReply(entries=b"", done=False)),
        "a listing that never ends": (replica.EntriesRequest, endless),
        "outlines at random": (replica.OutlinesRequest, lambda r: replica.OutlinesReply(outlines=[noise(48)] * len(r.keys))),
        "no outlines": (replica.OutlinesRequest, lambda _: replica.OutlinesReply(outlines=[])),
        "too many outlines": (replica.OutlinesRequest, lambda _: replica.OutlinesReply(outlines=[b""] * 256)),
        "objects at random": (replica.PullRequest, lambda _: replica.PullReply(entries=[(b"", noise(9), noise(200))], answered=1)),
        "more than was asked for": (replica.PullRequest, lambda _: replica.PullReply(entries=[(b"", b"k", b"")] * 1024, answered=1024)),
        "nothing of what was listed": (replica.PullRequest, lambda r: replica.PullReply(entries=[], answered=len(r.keys))),
    }  # fmt: skip


@pytest.mark.parametrize("lie", list(lies(random.Random())))
def test_a_peer_that_lies_harms_nothing(lie: str) -> None:
    """Its bytes end the exchange, at most; what is true and what the third node holds stay as they are, and the truth wins later."""

    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 3)
        keys = everywhere(nodes[:2], 200)
        for key in keys[:100]:
            nodes[2].write(key, version(b"newer", counter=2))
        honest = [node.records.forest.leaves(3) for node in nodes]
        assert honest[0] == honest[1]
        kind, answer = lies(random.Random(1))[lie]
        table = nodes[2].node.control._handlers
        true_handler = table[kind]

        async def lying(session: object, request: object) -> messages.Reply:
            return answer(request)

        nodes[2].node.control.on(kind, lying, nodes_only=True)
        await trio.sleep(4 * ROUND_S)
        for node in nodes:
            for key in keys:
                assert Siblings(node.packed(key) or b"").values in [(b"of " + key,), (b"newer",)]
            puts = node.records.statistics()["puts"]
            assert isinstance(puts, int)
            assert puts <= 500, "nothing was stored that nobody wrote"
        assert all(len(node.peers) == 2 for node in nodes)
        table[kind] = true_handler
        await world.until(lambda: same(nodes), within_s=4 * (ROUND_S + RETRY_S))
        assert all(nodes[0].packed(key) == version(b"newer", counter=2) for key in keys[:100])

    in_virtual_time(scenario)


def test_questions_that_cannot_be_are_refused() -> None:
    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 5)
        one, other = nodes[:2]
        name = one.node.cluster.placement.name
        shared = one.node.anti_entropy.shared(other.id)
        foreign = next(partition for partition in range(64) if partition not in other.node.delivery.own_partitions())
        session = one.session_to(other)
        for request, said in (
            (replica.CompareRequest(placement=name, roots=bytes(8)), "bytes of roots"),
            (replica.CompareRequest(placement=name, partitions=[foreign], roots=bytes(8)), "no home"),
            (replica.CompareRequest(placement=name + 1), "another placement"),
            (replica.TreeRequest(placement=name, level=0, nodes=[shared[0], foreign], depth=4), "no home"),
            (replica.TreeRequest(placement=name, level=0, nodes=[64], depth=4), "no home"),
            (replica.TreeRequest(placement=name, level=8, nodes=[shared[0] << 8 | 1], depth=1), "past the leaves"),
            (replica.TreeRequest(placement=name, level=0, nodes=[shared[0]] * 256, depth=8), "at once"),
            (replica.EntriesRequest(placement=name, leaves=[shared[0] << 8, foreign << 8]), "no home"),
            (replica.EntriesRequest(placement=name, leaves=[64 << 8]), "no home"),
        ):
            with pytest.raises(Exception, match=said):
                await session.call(request)
        async with one.node.sessions.contact(other.address) as passing:
            for request in (replica.CompareRequest(placement=name), replica.PullRequest(placement=name, keys=[bytes(24)], bytes_max=9)):
                with pytest.raises(Exception, match="only members"):
                    await passing.call(request)
        decode = msgspec.msgpack.Decoder(messages.Request).decode
        for wrong in ({"op": "pull", "placement": 1, "keys": [b"short"], "bytes_max": 1}, {"op": "tree", "placement": 1,
                      "level": 0, "nodes": [], "depth": 4}, {"op": "outlines", "placement": 1, "keys": [bytes(24)] * 257}):  # fmt: skip
            with pytest.raises(msgspec.ValidationError):
                decode(msgspec.msgpack.encode(wrong))

    in_virtual_time(scenario)


# Rounds --------------------------------------------------------------------------------------------------------------


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


def test_the_hash_in_a_record_is_the_one_in_the_tree() -> None:
    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 2)
        nodes[0].write(b"k", version(b"v"))
        record = nodes[0].records.get(nodes[0].store_key(b"k"))
        assert record is not None
        forest = nodes[0].records.forest
        partition, leaf = forest.place(nodes[0].store_key(b"k")[:16])
        assert forest.nodes(partition, 8)[leaf] == record_hash(record)

    in_virtual_time(scenario)


# While members change -------------------------------------------------------------------------------------------------


def test_both_sides_compare_by_the_placement_that_is_named() -> None:
    """One of them reads by the new placement already, the other not yet."""

    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 5)
        old = nodes[0].node.cluster.placement
        new = placement_over(nodes[:4], nodes[0].view)
        begin(nodes, old, new, Step.SYNCED)
        nodes[0].node.cluster.placement = new
        ahead, behind = nodes[0].node.anti_entropy, nodes[1].node.anti_entropy
        assert ahead.shared(nodes[1].id) != behind.shared(nodes[0].id)
        for one, other in ((ahead, nodes[1]), (behind, nodes[0])):
            tally = Tally()
            peer = next(node for node in nodes if node.node.anti_entropy is one)
            await world.until(lambda one=one, other=other: one.free(other.id))  # type: ignore[misc]
            await one.exchange(peer.session_to(other), tally)
            assert tally.compared == len(one.shared(other.id)) > 0

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


def test_trust_of_one_placement_is_none_in_another() -> None:
    """N=3, W=2: two others are needed, and one that was met as a home before does not count among those that are homes now."""

    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 4)
        old, new = placement_over(nodes[:3], nodes[0].view), nodes[0].node.cluster.placement
        begin(nodes, old, new)
        partition = next(one for one in range(64) if [home in nodes[:2] for home in homes_in(new, nodes, one)].count(True) == 2)
        nodes[0].records.suspect(partition)
        third = next(home for home in homes_in(new, nodes, partition) if home not in nodes[:2])
        nodes[2].crash()
        if third is nodes[3]:
            nodes[3].crash()
        await trio.sleep(3 * ROUND_S)
        assert nodes[0].records.suspects == {partition}, "one of two has been met"
        trust = nodes[0].node.anti_entropy._trust
        for node in nodes[:2]:
            node.node.cluster.placement = new
        assert nodes[0].node.anti_entropy.suspects_with(nodes[1].id) == [partition]
        assert nodes[0].node.anti_entropy._trust is not trust

    in_virtual_time(scenario)


def test_a_limited_exchange_tells_what_is_in_line_and_moves_nothing_else() -> None:
    async def scenario(world: World) -> None:
        nodes = await at_rest(world, 2, anti_entropy__round_s=1000)
        one, other = nodes
        keys = [b"key%d" % number for number in range(300)]
        for number, key in enumerate(keys):
            nodes[number % 2].write(key, version(b"v"))
        asked = [3, 4, 9]
        inside = [key for key in keys if partition_of(one, key) in asked]
        placement = one.node.cluster.placement
        held = Meeting(one.node.anti_entropy, one.session_to(other), Tally(), Terms(placement, asked))
        await one.node.anti_entropy.hold(held)
        assert held.in_line == set(asked)
        for key in keys:
            assert (one.packed(key) is not None and other.packed(key) is not None) == (key in inside)
        assert len(one.node.anti_entropy.met_s) == 1
        met_s = one.node.anti_entropy.met_s[other.id], other.node.anti_entropy.met_s[one.id]
        assert max(met_s) < one.node.env.now() - 4, "it was no round"
        assert one.node.anti_entropy.free(other.id)
        assert other.node.anti_entropy.free(one.id)

    in_virtual_time(scenario)
