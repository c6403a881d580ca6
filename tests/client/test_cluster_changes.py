"""db.cluster.join, leave, replace, set_weight, set_zone and wait_settled: what they ask for, of whom, and what they refuse themselves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

import dynamo_fast
from dynamo_fast.client.members import ChangeProgress, progress_of
from dynamo_fast.core.membership import Join, Leave, NodeEntry, Replace, WeightChange, ZoneChange
from dynamo_fast.wire.control_messages import ChangeStatus
from dynamo_fast.wire.status import Status
from tests.client.fake_node import FakeNode, fake_cluster, in_virtual_time
from tests.client.loopback import loopback_cluster


def entry(node: FakeNode, **fields: object) -> NodeEntry:
    return NodeEntry(**{"id": node.id, "address": node.address, "host": node.address, "weight": node.weight, **fields})  # type: ignore[arg-type]


@in_virtual_time
async def test_nodes_join_as_what_they_say_they_are_in_one_request() -> None:
    async with fake_cluster() as (cluster, db):
        new, other = cluster.stranger(), cluster.stranger()
        new.weight = 250
        reply = await db.cluster.join(new.address, other.address)
        ((_, request),) = cluster.changes
        assert request.changes == [Join(member=entry(new)), Join(member=entry(other))]
        assert not request.unsafe
        assert (reply.number, len(reply.ids)) == (2, 2)
        assert await db.cluster.wait_settled(at_least=reply.number)
        assert set(await db.cluster.status()) == {node.address for node in (*cluster.nodes, new, other)}


@in_virtual_time
async def test_a_node_that_has_just_been_started_is_waited_for() -> None:
    async with fake_cluster() as (cluster, db):
        new = cluster.stranger()
        new.away, known, new.cluster_id = True, new.cluster_id, None

        async def start() -> None:
            await trio.sleep(1)
            new.away = False
            await trio.sleep(1)
            new.cluster_id = known

        async with trio.open_nursery() as nursery:
            nursery.start_soon(start)
            assert (await db.cluster.join(new.address)).number == 2
        lost = cluster.stranger()
        lost.cluster_id = None
        with pytest.raises(dynamo_fast.BadRequest, match="knows of no cluster: start it with --seeds"):
            await db.cluster.join(lost.address)
        with pytest.raises(dynamo_fast.Unreachable, match="nobody at"):
            await db.cluster.join("10.9.9.9:1")


def has_left(node: FakeNode) -> None:
    node.state = "left"


def has_data(node: FakeNode) -> None:
    node.statistics = {"storage": {"lmdb_records": 0, "buffer_records": 1}}


def is_foreign(node: FakeNode) -> None:
    node.cluster_id = b"x" * 16


def is_member(node: FakeNode) -> None:
    node.member = True


@pytest.mark.parametrize(
    ("make", "reason"),
    [(has_left, "has left this cluster"), (has_data, "holds records of an earlier life"), (is_foreign, "of another cluster"),
     (is_member, "a member already")],
)  # fmt: skip
@in_virtual_time
async def test_who_must_not_join(make: Callable[[FakeNode], None], reason: str) -> None:
    async with fake_cluster() as (cluster, db):
        new = cluster.stranger()
        make(new)
        for ask in (db.cluster.join(new.address), db.cluster.replace(cluster.addresses[0], new.address)):
            with pytest.raises(dynamo_fast.BadRequest, match=reason):
                await ask
        with pytest.raises(dynamo_fast.BadRequest, match="a member already"):
            await db.cluster.join(cluster.addresses[0])
        assert not cluster.changes


@pytest.mark.parametrize("elsewhere", ["10.0.0.1:7400", "10.7.7.7:7400"])
@in_virtual_time
async def test_a_node_must_be_where_it_says_that_it_is(elsewhere: str) -> None:
    async with fake_cluster() as (cluster, db):
        new = cluster.stranger()
        new.reports.append({"address": elsewhere})
        with pytest.raises(dynamo_fast.BadRequest, match=f"says that it is reached at {elsewhere}, .*--advertise"):
            await db.cluster.join(new.address)
        other = cluster.stranger()
        other.reports.append({"address": new.address, "node_id": new.id})  # the same node under another name
        assert (await db.cluster.join(other.address)).number == 2
        assert cluster.changes[0][1].changes == [Join(member=entry(new, host=other.address))]


@in_virtual_time
async def test_another_node_at_a_members_address_replaces_it() -> None:
    async with fake_cluster() as (cluster, _):
        old = cluster.nodes[2]
        new = cluster.stranger()
        new.address, new.weight = old.address, 7
        await old.kill()
        cluster.strangers = [new]

        async def dial(host: str, port: int) -> trio.abc.Stream:
            cluster.nodes.remove(old)
            try:
                return await cluster.dial(host, port)
            finally:
                cluster.nodes.append(old)

        async with dynamo_fast.connect(cluster.addresses[:2], settings=cluster.settings()) as other:
            object.__setattr__(other._shared.settings, "dial", dial)
            with pytest.raises(dynamo_fast.BadRequest, match=rf"replace 03030303 {new.address} --dead"):
                await other.cluster.join(new.address)
            await other.cluster.replace("030303", new.address, dead=True)
        assert cluster.changes[0][1].changes == [Replace(old=old.id, member=entry(new, weight=100), dead=True)]


@in_virtual_time
async def test_members_leave_change_weight_and_zone_by_any_of_their_names() -> None:
    async with fake_cluster(nodes=5) as (cluster, db):
        nodes = cluster.nodes
        await db.cluster.set_weight(nodes[0].address, 40)
        await db.cluster.set_zone(nodes[1].address, "west")
        await db.cluster.leave(nodes[2].id.hex()[:4], nodes[3].address, nodes[2].address)
        assert [request.changes for _, request in cluster.changes] == [
            [WeightChange(node_id=nodes[0].id, weight=40)], [ZoneChange(host=nodes[1].address, zone="west")],
            [Leave(node_id=nodes[2].id), Leave(node_id=nodes[3].id)],
        ]  # fmt: skip
        assert cluster.changes[2][0] not in nodes[2:4], "who stays is asked"
        for ask in (db.cluster.leave("nobody"), db.cluster.set_zone("nowhere", "west"), db.cluster.set_weight("01", 3)):
            with pytest.raises(ValueError, match=r"nobody|nowhere|no node of this cluster"):
                await ask
        for ask in (db.cluster.leave(), db.cluster.join()):
            with pytest.raises(ValueError, match=r"nothing is to be changed|nobody is named"):
                await ask


@in_virtual_time
async def test_a_node_that_answers_is_not_declared_dead() -> None:
    async with fake_cluster(nodes=4) as (cluster, db):
        node, new = cluster.nodes[3], cluster.stranger()
        for ask in (db.cluster.leave(node.address, dead=True), db.cluster.replace(node.address, new.address, dead=True)):
            with pytest.raises(dynamo_fast.BadRequest, match="it is not dead"):
                await ask
        assert not cluster.changes
        await node.kill()
        await db.cluster.leave(node.address, dead=True)
        assert cluster.changes[0][1].changes == [Leave(node_id=node.id, dead=True)]


@in_virtual_time
async def test_a_refusal_is_final_and_names_nodes_and_who_cannot_leads_to_the_next() -> None:
    async with fake_cluster() as (cluster, db):
        cluster.refusals.append((Status.BAD_REQUEST, f"node {cluster.nodes[1].id.hex()} would hold every partition"))
        with pytest.raises(dynamo_fast.BadRequest, match=f"node {cluster.nodes[1].address} would hold"):
            await db.cluster.set_weight(cluster.addresses[1], 1000)
        assert len(cluster.changes) == 1
        cluster.refusals.extend([(Status.READ_ONLY, "full"), (Status.NOT_READY, "starting")])
        assert (await db.cluster.set_weight(cluster.addresses[1], 50)).number == 2
        assert len({node.address for node, _ in cluster.changes[1:]}) == 3
        cluster.refusals.append((Status.DEADLINE, "late"))
        with pytest.raises(dynamo_fast.Unknown):
            await db.cluster.set_weight(cluster.addresses[1], 60)
        assert len(cluster.changes) == 5, "nobody else is asked: it might be done twice"


@in_virtual_time
async def test_waiting_shows_how_far_it_is() -> None:
    async with fake_cluster() as (cluster, db):
        first, second, _ = cluster.nodes
        comes = cluster.stranger()
        moved = {"partitions_wanted": 48, "partitions_done": 12, "bytes": 1000, "bytes_per_s": 500.0, "seconds_left": 6.0}
        beside = [entry(comes)]
        waiting = ChangeStatus(from_number=1, to_number=2, step="synced", waiting_for=[comes.address, first.address], waiting_changes=1)
        comes.reports.append({"statistics": {"transfer": moved}, "change": waiting})
        first.reports.append({"change": waiting, "beside": beside})
        second.reports.append({"change": ChangeStatus(from_number=1, to_number=2, step="double")})
        first.reports.append({"statistics": {"parting": {"old_copies": 5}}})
        seen: list[ChangeProgress] = []
        assert await db.cluster.wait_settled(look=seen.append)
        assert seen[0] == ChangeProgress(
            settled=False, from_number=1, to_number=2, step="double", waiting_changes=1, partitions_wanted=48, partitions_done=12,
            bytes_moved=1000, bytes_per_s=500.0, seconds_left=6.0,
        )  # fmt: skip
        assert seen[1] == ChangeProgress(settled=False, old_copies=5)
        assert seen[2] == ChangeProgress(settled=True)


@pytest.mark.parametrize(
    "fields",
    [{"change": ChangeStatus(from_number=1, to_number=1, step="none", waiting_changes=1)}, {"history_digest": b"o" * 16},
     {"placement_number": 2}, {"statistics": {"parting": {"old_copies": 1}}}, {"state": "leaving"},
     {"beside": [NodeEntry(id=b"b" * 16, address="b:1", host="b")]}],
)  # fmt: skip
@in_virtual_time
async def test_it_is_not_over_while_one_node_says_otherwise(fields: dict[str, object]) -> None:
    async with fake_cluster() as (cluster, db):
        cluster.nodes[1].reports.extend([fields] * 12)
        began_s = trio.current_time()
        assert await db.cluster.wait_settled()
        assert 2.9 < trio.current_time() - began_s < 3.1
        cluster.nodes[1].reports.extend([fields] * 12)
        assert not await db.cluster.wait_settled(1.0)
        cluster.nodes[1].reports.clear()
        assert not await db.cluster.wait_settled(1.0, at_least=2)
        await cluster.nodes[2].kill()
        assert not await db.cluster.wait_settled(1.0)
        assert (await db.cluster.progress()).silent == (cluster.addresses[2],)


def test_progress_of_nobody_is_not_the_end() -> None:
    assert not progress_of({}).settled
    assert progress_of({"a:1": dynamo_fast.Unreachable("away")}) == ChangeProgress(settled=False, silent=("a:1",))


def test_the_blocking_client_does_the_same() -> None:
    with loopback_cluster(nodes=4, strangers=2) as cluster, dynamo_fast.blocking.connect(cluster.addresses) as db:
        first, second = cluster.strangers
        assert db.cluster.join(first.address).number == 2
        db.cluster.replace(cluster.addresses[0], second.address)
        db.cluster.set_weight(second.address, 50)
        db.cluster.set_zone(second.address, "west", unsafe=True)
        db.cluster.leave(first.address)
        assert db.cluster.wait_settled(10.0, at_least=6)
        assert db.cluster.progress().settled
        assert [request.unsafe for _, request in cluster.changes] == [False, False, False, True, False]


