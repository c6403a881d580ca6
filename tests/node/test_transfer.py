"""What a node gains comes to it whole, once, from whoever is there, and from everybody before it is said to be there."""

from __future__ import annotations

import msgspec
import pytest
import trio

from dynamo_fast.core.change import Step
from dynamo_fast.core.placement import Placement
from dynamo_fast.core.siblings import Siblings
from dynamo_fast.core.succession import gains
from dynamo_fast.node.delivery import BATCH_BYTES_MAX
from dynamo_fast.node.ranges import IDLE_BYTES_MAX
from dynamo_fast.node.transfer import CURSORS, SAVE_S, Transfer
from dynamo_fast.storage.schema import decode_record, encode_record
from dynamo_fast.wire import replica_messages as replica
from dynamo_fast.wire.object_page import ObjectPageWriter
from tests.node.changing import begin, homes_in, partition_of, placement_over, settle, work_by
from tests.node.exchanging import ExchangingNode, cluster_of, version
from tests.node.virtual import World, in_virtual_time

KEYS = [b"key%d" % number for number in range(2000)]


class Changing:
    """Four nodes; the first three are the old placement, all four the new one. `joiner` gains."""

    def __init__(self, nodes: list[ExchangingNode]) -> None:
        self.nodes = nodes
        *self.sources, self.joiner = nodes
        self.new: Placement = nodes[0].node.cluster.placement
        self.old = placement_over(self.sources, nodes[0].view)
        begin(nodes, self.old, self.new)

    @property
    def transfer(self) -> Transfer:
        return self.joiner.node.transfer

    @property
    def gained(self) -> dict[int, tuple[bytes, ...]]:
        return gains(self.old, self.new, self.joiner.id)

    def gained_keys(self) -> list[bytes]:
        """Those that the joiner gains."""
        return [key for key in KEYS if partition_of(self.joiner, key) in self.gained]

    async def bring(self) -> None:
        await self.transfer.bring(self.old, self.new)

    def lacking(self, keys: list[bytes]) -> list[bytes]:
        return [key for key in keys if self.joiner.packed(key) is None]


async def changing(world: World, *, value: bytes = b"v", write: bool = True, **flags: object) -> Changing:
    nodes = await cluster_of(world, 4, **flags)
    await world.until(lambda: all(len(node.node.anti_entropy.met_s) == 3 and not node.records.suspects for node in nodes))
    made = Changing(nodes)
    for key in KEYS if write else ():
        for node in made.sources:
            node.write(key, version(value))
    return made


def statistics(transfer: Transfer) -> dict[str, int]:
    return transfer.statistics()  # type: ignore[return-value]


def test_all_that_is_gained_is_here_and_on_disk_and_came_once() -> None:
    async def scenario(world: World) -> None:
        change = await changing(world, value=bytes(1024))
        await change.bring()
        keys = change.gained_keys()
        assert 1000 < len(keys) < len(KEYS)
        assert not change.lacking(keys)
        assert change.joiner.records.durable == change.joiner.records.position
        assert all(change.joiner.packed(key) is None for key in set(KEYS) - set(keys)), "and nothing else is"
        told = statistics(change.transfer)
        assert told["objects"] == len(keys)
        assert told["bytes"] == sum(len(key) + len(version(bytes(1024))) for key in keys)
        assert told["wire_bytes"] <= 1.02 * told["bytes"], "pages cost their objects"
        assert told["partitions_wanted"] == told["partitions_streamed"] == told["partitions_done"] == len(change.gained)
        by_source = [source["objects"] for source in change.transfer.statistics()["sources"].values()]  # type: ignore[attr-defined]
        assert min(by_source) > 0.2 * len(keys), "all three sources share the work"
        assert change.joiner.disk.files[change.transfer._directory.path / CURSORS] == b""
        settle(change.nodes, change.new)
        await trio.sleep(30)
        assert sum(node.node.anti_entropy.total.keys_pulled for node in change.nodes) == 0, "nothing was left to the rounds"

    in_virtual_time(scenario)


def test_who_gains_nothing_brings_nothing() -> None:
    async def scenario(world: World) -> None:
        change = await changing(world, write=False)
        replaced = change.joiner.disk.replaced
        await change.sources[0].node.transfer.bring(change.new, change.old)
        assert gains(change.new, change.old, change.joiner.id) == {}
        await change.transfer.bring(change.new, change.old)
        assert change.joiner.disk.replaced == replaced

    in_virtual_time(scenario)


def test_what_single_sources_hold_is_taken_from_each() -> None:
    """A write that two of three have: whichever of them the stream came from."""

    async def scenario(world: World) -> None:
        change = await changing(world, write=False, anti_entropy__round_s=1000)
        await trio.sleep(5)
        for number, key in enumerate(KEYS):
            for place, node in enumerate(change.sources):
                if place != number % 3:
                    node.write(key, version(b"one"))
            change.sources[number % 3].write(key, version(b"two", node=2))
        await change.bring()
        for key in change.gained_keys():
            assert sorted(Siblings(change.joiner.packed(key) or b"").values) == [b"one", b"two"]

    in_virtual_time(scenario)


def test_writes_that_go_on_meanwhile_neither_hold_it_up_nor_are_missed() -> None:
    async def scenario(world: World) -> None:
        change = await changing(world, value=bytes(1024))
        keys = change.gained_keys()
        written: dict[bytes, bytes] = {}
        over = False

        async def write() -> None:
            """Two of the sources have each write, and the joiner every other one; one key is written all the time."""
            number = 0
            while not over:
                for key in (keys[0], keys[number % len(keys)]):
                    number += 1
                    written[key] = version(b"new %d" % number, node=3, counter=1 + number // 100)
                    for place, node in enumerate(change.sources):
                        if place != number % 3:
                            node.write(key, written[key])
                    if number % 2:
                        change.joiner.write(key, written[key])
                await trio.sleep(0.02)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            with trio.fail_after(120):
                await change.bring()
            over = True
        told = statistics(change.transfer)
        assert told["wire_bytes"] <= 1.02 * sum(len(key) + len(version(bytes(1024))) for key in keys)
        assert told["keys_compared_in"] < 0.1 * len(keys)
        assert not change.lacking(keys)

    in_virtual_time(scenario)


@pytest.mark.parametrize("torn", [False, True])
def test_a_restart_in_the_middle_goes_on_where_it_was(torn: bool) -> None:
    """Even where what it had brought is lost with its disk: the exchanges find that."""

    async def scenario(world: World) -> None:
        change = await changing(world, value=bytes(4096))
        keys = change.gained_keys()
        slow_s = 0.6
        for node in change.sources:
            ranges, _ = node.node.control._handlers[replica.RangeRequest]

            async def slowly(session, request, ranges=ranges):
                await trio.sleep(slow_s)
                return await ranges(session, request)

            node.node.control.on(replica.RangeRequest, slowly, nodes_only=True)
        sent = 0
        joiner = change.joiner
        while joiner.starts < 10:
            with trio.move_on_after(2.5 * SAVE_S) as patience:
                await change.bring()
            sent += statistics(change.transfer)["objects"]
            if not patience.cancelled_caught:
                break
            joiner.crash()
            await trio.sleep(1)
            if torn:
                joiner.wipe()
            await world.start(joiner)
            await world.until(lambda: len(change.joiner.peers) == 3)
            begin([joiner], change.old, change.new)
        assert 1 < joiner.starts < 10
        assert not change.lacking(keys)
        assert change.joiner.records.durable == change.joiner.records.position
        if not torn:
            assert sent <= 1.5 * len(keys), "what was here and written down did not come again"
        else:
            assert statistics(change.transfer)["keys_compared_in"] > 0

    in_virtual_time(scenario)


def test_sources_that_are_away_are_waited_for() -> None:
    async def scenario(world: World) -> None:
        change = await changing(world)
        keys = change.gained_keys()
        away = change.sources[1]
        only = [b"only there %d" % number for number in range(200)]
        for key in only:
            away.write(key, version(b"v"))
        gone_id = away.id
        away.crash()
        await world.until(lambda: gone_id not in change.joiner.peers)
        async with trio.open_nursery() as nursery:
            done = trio.Event()

            async def bring() -> None:
                await change.bring()
                done.set()

            nursery.start_soon(bring)
            await trio.sleep(60)
            assert not done.is_set()
            assert not change.lacking(keys), "what others have has come from them"
            assert change.transfer.statistics()["waiting_for"] == [gone_id]
            assert statistics(change.transfer)["partitions_done"] == 0
            await world.start(away)
            await world.until(lambda: len(away.peers) == 3)
            begin([away], change.old, change.new)
            with trio.fail_after(60):
                await done.wait()
        assert not change.lacking([key for key in only if partition_of(change.joiner, key) in change.gained])

    in_virtual_time(scenario)


def test_sources_that_are_dead_are_left_out() -> None:
    async def scenario(world: World) -> None:
        change = await changing(world)
        dead = change.sources[1]
        gone_id = dead.id
        dead.crash()
        await world.until(lambda: gone_id not in change.joiner.peers)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(change.bring)
            await trio.sleep(30)
            assert statistics(change.transfer)["partitions_done"] == 0
            history = change.joiner.node.cluster.history
            view = msgspec.structs.replace(history.view, dead=frozenset([gone_id]), departed=frozenset([gone_id]))
            history._view = view
            await world.until(lambda: change.transfer._gaining.done, within_s=10)
        assert not change.lacking(change.gained_keys())

    in_virtual_time(scenario)


def test_a_change_that_is_replaced_finds_what_was_streamed_for_it() -> None:
    async def scenario(world: World) -> None:
        change = await changing(world, value=bytes(4096))
        with trio.move_on_after(1.5 * SAVE_S):
            await change.bring()
        had = change.transfer._gaining.fetched
        assert sum(one.objects for one in had.values()) > 0
        await change.bring()
        assert not change.lacking(change.gained_keys())

    in_virtual_time(scenario)


def test_what_was_kept_for_others_becomes_this_nodes_own() -> None:
    """At once, be those for whom it was kept there or not: handoff delivers nothing here."""

    async def scenario(world: World) -> None:
        change = await changing(world)
        joiner, keys = change.joiner, change.gained_keys()
        joiner.node.handoff.round = trio.lowlevel.checkpoint
        only = b"only a hint"
        number = 0
        while partition_of(joiner, only) not in change.gained:
            number += 1
            only = b"only a hint %d" % number
        for key in (keys[0], keys[1], only):
            hint = encode_record(key, version(b"kept"), hash=decode_record(joiner_record(joiner, key, version(b"kept"))).hash, owed=2,
                                 placement_number=1)  # fmt: skip
            joiner.records.put(joiner.store_key(key), hint)
        await change.bring()
        assert change.transfer.hints_owned == 3
        for key in (keys[0], keys[1], only):
            assert decode_record(joiner.records.get(joiner.store_key(key)) or b"").owed == 0
        assert joiner.packed(only) == version(b"kept")

    in_virtual_time(scenario)


def joiner_record(node: ExchangingNode, key: bytes, packed: bytes) -> bytes:
    """The record that a merge of that object makes; not kept."""
    node.write(key, packed)
    record = node.records.get(node.store_key(key))
    assert record is not None
    node.records.delete(node.store_key(key))
    return record


def test_old_copies_are_compared_and_not_sent_again() -> None:
    async def scenario(world: World) -> None:
        change = await changing(world, value=bytes(4096))
        keys = change.gained_keys()
        for key in keys:
            change.joiner.write(key, version(bytes(4096)))
        for key in keys[:50]:
            for node in change.sources:
                node.write(key, version(b"newer", counter=2))
        await change.bring()
        assert statistics(change.transfer)["objects"] < 0.2 * len(keys)
        assert statistics(change.transfer)["keys_compared_in"] >= 30
        assert all(change.joiner.packed(key) == version(b"newer", counter=2) for key in keys[:50])

    in_virtual_time(scenario)


def test_what_was_lost_before_is_no_matter_and_what_is_lost_meanwhile_is() -> None:
    async def scenario(world: World) -> None:
        change = await changing(world)
        joiner = change.joiner
        first, *rest = sorted(change.gained)
        joiner.records.suspect(first)
        key = next(key for key in change.gained_keys() if partition_of(joiner, key) == first)
        joiner.write(key, version(b"v"))
        await change.bring()
        assert not joiner.records.suspects
        joiner.records.suspect(rest[0])
        await trio.sleep(5)
        assert joiner.records.suspects == {rest[0]}, "this node is about to be a home of it"
        for node in change.nodes:
            node.node.cluster.placement = change.new
        await world.until(lambda: not joiner.records.suspects)

    in_virtual_time(scenario)


def test_a_member_that_leaves_gives_all_it_has_to_those_that_stay() -> None:
    """Fewer homes than before, and no new one: whoever stays takes over what the one that goes has."""

    async def scenario(world: World) -> None:
        nodes = await cluster_of(world, 3)
        await world.until(lambda: all(len(node.node.anti_entropy.met_s) == 2 for node in nodes))
        old, new = nodes[0].node.cluster.placement, placement_over(nodes[:2], nodes[0].view)
        begin(nodes, old, new)
        for node in nodes[:2]:
            node.node.rounds._round_s = 1000
        for key in KEYS[:100]:
            nodes[2].write(key, version(b"v"))
        for node in nodes[:2]:
            transfer = node.node.transfer
            await transfer.bring(old, new)
            assert all(node.packed(key) for key in KEYS[:100])
            assert statistics(transfer)["objects"] == 0, "nothing was streamed"

    in_virtual_time(scenario)


def test_pages_are_for_members_about_what_the_asked_is_a_home_of() -> None:
    async def scenario(world: World) -> None:
        change = await changing(world, write=False)
        one, joiner = change.sources[0], change.joiner
        session = one.session_to(joiner)
        foreign = next(partition for partition in range(64) if partition not in change.gained)
        for request, said in (
            (replica.RangeRequest(placement=change.old.name, partition=foreign, bytes_max=1000), "no home"),
            (replica.RangeRequest(placement=change.old.name + 1, partition=min(change.gained), bytes_max=1000), "another placement"),
        ):
            with pytest.raises(Exception, match=said):
                await session.call(request)
        async with one.node.sessions.contact(joiner.address) as passing:
            with pytest.raises(Exception, match="only members"):
                await passing.call(replica.RangeRequest(placement=change.new.name, partition=min(change.gained), bytes_max=1000))

    in_virtual_time(scenario)


@pytest.mark.parametrize("wrong", ["elsewhere", "backwards", "nothing", "no range", "cut short"])
def test_pages_that_cannot_be_are_merged_by_nobody(wrong: str) -> None:
    async def scenario(world: World) -> None:
        change = await changing(world, write=False)
        joiner = change.joiner
        partition = min(change.gained)
        keys = sorted((joiner.store_key(key), key) for key in KEYS if partition_of(joiner, key) == partition)
        foreign = next(key for key in KEYS if partition_of(joiner, key) not in change.gained)

        async def answer(session, request):
            if wrong == "no range":
                return replica.CompareReply()
            named = {"elsewhere": [foreign], "backwards": [keys[1][1], keys[0][1]], "nothing": [],
                     "cut short": [keys[0][1]]}[wrong]  # fmt: skip
            page = ObjectPageWriter()
            for key in named:
                page.push(b"", key, version(b"v"))
            if wrong == "cut short":
                return replica.RangeReply(objects=bytes(page)[:-1], last=b"", done=True)
            return replica.RangeReply(objects=bytes(page), last=request.after, done=False)

        for node in change.sources:
            node.node.control.on(replica.RangeRequest, answer, nodes_only=True)
        with trio.move_on_after(30):
            await change.bring()
        assert joiner.records.statistics()["puts"] == 0
        assert change.transfer._said
        assert len(joiner.peers) == 3

    in_virtual_time(scenario)


def test_a_disk_that_refuses_holds_it_up_and_no_more() -> None:
    async def scenario(world: World) -> None:
        change = await changing(world)
        change.joiner.records.failure = "no space left"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(change.bring)
            await trio.sleep(20)
            assert statistics(change.transfer)["partitions_done"] == 0
            change.joiner.records.heal()
        assert not change.lacking(change.gained_keys())

    in_virtual_time(scenario)


def test_a_disk_that_is_behind_is_not_sent_more() -> None:
    async def scenario(world: World) -> None:
        change = await changing(world)
        change.joiner.records.behind = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(change.bring)
            await trio.sleep(20)
            assert statistics(change.transfer)["objects"] == 0
            change.joiner.records.behind = False
        assert not change.lacking(change.gained_keys())

    in_virtual_time(scenario)


@pytest.mark.parametrize(("share", "longest"), [(1.0, IDLE_BYTES_MAX), (0.5, BATCH_BYTES_MAX)])
def test_pages_are_long_only_while_the_source_has_no_requests(share: float, longest: int) -> None:
    async def scenario(world: World) -> None:
        change = await changing(world, value=bytes(40_000))
        asked: list[int] = []
        for node in change.sources:
            node.node.admission._controller.window = lambda *seen: None
            node.node.admission._controller.share = share
            answer, _ = node.node.control._handlers[replica.RangeRequest]

            async def noted(session, request, answer=answer):
                asked.append(request.bytes_max)
                return await answer(session, request)

            node.node.control.on(replica.RangeRequest, noted, nodes_only=True)
        await change.bring()
        assert max(asked) == longest
        assert not change.lacking(change.gained_keys())

    in_virtual_time(scenario)


def test_nothing_counts_as_streamed_that_the_data_plane_did_not_take() -> None:
    """It may not have been told of the change yet."""

    async def scenario(world: World) -> None:
        change = await changing(world)
        joiner = change.joiner
        work_by(joiner, change.old)
        with trio.move_on_after(10):
            await change.bring()
        assert statistics(change.transfer)["partitions_streamed"] == 0
        work_by(joiner, change.old, change.new, Step.SYNCED)
        await change.bring()
        assert not change.lacking(change.gained_keys())

    in_virtual_time(scenario)


def test_one_source_is_enough_to_stream_from_and_all_are_met() -> None:
    async def scenario(world: World) -> None:
        change = await changing(world)
        assert all(len(homes_in(change.old, change.sources, partition)) == 3 for partition in change.gained)
        met: set[bytes] = set()
        hold = change.joiner.node.anti_entropy.hold

        async def watched(meeting):
            await hold(meeting)
            met.add(meeting.peer)

        change.joiner.node.anti_entropy.hold = watched
        await change.bring()
        assert met >= {node.id for node in change.sources}

    in_virtual_time(scenario)
