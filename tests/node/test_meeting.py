"""One exchange of two members: what goes wrong in it, and what one about some partitions alone tells."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest
import trio

from dynamo_fast.core.change import Step
from dynamo_fast.core.siblings import Siblings
from dynamo_fast.node import meeting
from dynamo_fast.node.exchange import pack_listing
from dynamo_fast.node.meeting import Meeting, Tally, Terms
from dynamo_fast.node.rounds import RETRY_S
from dynamo_fast.wire import control_messages as messages
from dynamo_fast.wire import replica_messages as replica
from tests.node.changing import begin, partition_of, placement_over
from tests.node.exchanging import ROUND_S, at_rest, at_rest_again, everywhere, moved, same, version
from tests.node.virtual import World, in_virtual_time


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
