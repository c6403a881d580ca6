"""A change of members through the control plane of real nodes, in virtual time: everybody goes through the steps, whatever goes wrong."""

import pytest
import trio

from dynamo_fast.core.change import Step
from dynamo_fast.core.membership import Join, Leave, NodeEntry, Replace, WeightChange, ZoneChange
from dynamo_fast.node.cluster import load_progress
from dynamo_fast.node.control import Refusal
from dynamo_fast.node.identity import DataDirectory, DirectoryRefused
from tests.node.asking import FRESH, ask, entry, ready, settled
from tests.node.exchanging import ExchangingNode
from tests.node.virtual import World, in_virtual_time


def steps_of(node: ExchangingNode) -> list[tuple[int, Step]]:
    """What the node was seen to do, in order: (number of the placement that comes, step). Recorded from now on."""
    seen: list[tuple[int, Step]] = []
    cluster = node.node.cluster
    work_by = cluster.work_by

    async def watched(old, new=None, step=Step.NONE) -> None:
        before = cluster.change, cluster.placement
        await work_by(old, new, step)
        if (cluster.change, cluster.placement) != before:
            seen.append((new.number, step) if new is not None else (old.number, Step.SETTLED))

    cluster.work_by = watched
    return seen


def test_a_node_joins_and_all_go_through_every_step() -> None:
    async def scenario(world: World) -> None:
        members, (new,) = await ready(world, FRESH[0])
        seen = [steps_of(one) for one in (*members, new)]
        reply = await ask(members[1], Join(member=entry(new)))
        assert reply.number == 2
        await world.until(lambda: settled([*members, new], 2, 4), within_s=20)
        for steps in seen:
            assert [step for _, step in steps] == sorted({step for _, step in steps}), steps
            assert steps[-1] == (2, Step.SETTLED)
        assert {Step.KNOWN, Step.DOUBLE, Step.SYNCED, Step.SWITCHED, Step.SINGLE, Step.SETTLED} == {step for _, step in seen[1]}
        assert len({one.node.cluster.placement.digest for one in (*members, new)}) == 1
        await world.until(lambda: all(one.node.cluster.quiet for one in (*members, new)), within_s=20)
        assert new.node.state() == "ready"

    in_virtual_time(scenario)


def test_no_two_nodes_are_ever_more_than_one_step_apart() -> None:
    async def scenario(world: World) -> None:
        members, spares = await ready(world, *FRESH)
        nodes = [*members, *spares]
        doing: dict[bytes, tuple[int, int]] = {}

        def note(node: ExchangingNode):
            cluster, work_by = node.node.cluster, node.node.cluster.work_by

            async def watched(old, new=None, step=Step.NONE) -> None:
                await work_by(old, new, step)
                number = new.number if new is not None else old.number
                doing[node.id] = (number, int(step) if new is not None else int(Step.SETTLED))
                there = [step for at, step in doing.values() if at == number]
                assert max(there) - min(there) <= 1, doing

            cluster.work_by = watched

        for one in nodes:
            note(one)
        await ask(members[0], *(Join(member=entry(one)) for one in spares))
        await world.until(lambda: settled(nodes, 2, 6), within_s=30)
        await ask(members[2], Leave(node_id=members[0].id), Leave(node_id=spares[0].id))
        await world.until(lambda: settled(nodes, 3, 4), within_s=30)
        assert members[0].node.state() == "leaving"

    in_virtual_time(scenario)


@pytest.mark.parametrize("seed", range(10))
def test_changes_asked_of_two_nodes_at_once_all_come_into_force(seed: int) -> None:
    async def scenario(world: World) -> None:
        members, spares = await ready(world, *FRESH)
        async with trio.open_nursery() as nursery:
            for member, one in zip(members, spares, strict=True):
                nursery.start_soon(ask, member, Join(member=entry(one)))
        everyone = [*members, *spares]
        await world.until(
            lambda: all(len(one.node.cluster.placement.node_ids) == 6 and one.node.cluster.change is None for one in everyone), within_s=60
        )
        assert len({one.node.cluster.placement.digest for one in everyone}) == 1

    in_virtual_time(scenario, seed=seed)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("victim", ["asked", "other", "new"])
def test_a_node_that_crashes_at_any_moment_of_a_change_goes_on_with_it(victim: str, seed: int) -> None:
    async def scenario(world: World) -> None:
        members, (new,) = await ready(world, FRESH[0])
        await ask(members[0], Join(member=entry(new)))
        await trio.sleep(0.02 * seed)
        node = {"asked": members[0], "other": members[2], "new": new}[victim]
        node.crash()
        await trio.sleep(3)
        running = [one for one in (*members, new) if one.node]
        progress = max(one.node.cluster.placement.number for one in running)
        await world.start(node)
        await world.until(lambda: settled([*members, new], 2, 4), within_s=30)
        assert progress in (1, 2)

    in_virtual_time(scenario, seed=seed)


class Busy:
    """A data plane in which a request is under way that began then; the rest of it is the node's own."""

    def __init__(self, node: ExchangingNode) -> None:
        self._node = node
        self.began()

    def began(self) -> None:
        """The oldest request is one that begins now."""
        self.oldest_request_us = int(self._node.node.env.now() * 1e6)

    def __getattr__(self, name: str) -> object:
        return getattr(self._node.told, name)


def test_a_step_is_told_of_when_the_requests_from_before_it_are_over() -> None:
    """Those that have begun since are no matter."""

    async def scenario(world: World) -> None:
        members, (new,) = await ready(world, FRESH[0])
        everyone, slow = [*members, new], members[1].node
        busy = Busy(members[1])
        slow.succession._data_plane = busy
        await ask(members[0], Join(member=entry(new)))
        for step in (Step.DOUBLE, Step.SWITCHED, Step.SINGLE):
            await world.until(lambda step=step: slow.cluster.change is not None and slow.cluster.change.step == step, within_s=20)
            await trio.sleep(5)
            assert slow.cluster.progress[members[1].id].step == step - 1
            assert all(one.node.cluster.change.step == step for one in everyone)
            busy.began()
        await world.until(lambda: settled(everyone, 2, 4), within_s=20)

    in_virtual_time(scenario)


def test_who_was_declared_dead_is_connected_to_nobody_who_tells_of_knowing_it() -> None:
    """Though the dead one hears of nothing, and its connections stand."""

    async def scenario(world: World) -> None:
        members, (new,) = await ready(world, FRESH[0])
        await ask(members[0], Join(member=entry(new)))
        await world.until(lambda: settled([*members, new], 2, 4), within_s=20)
        dead, rest = members[2], [*members[:2], new]
        dead_id = dead.id
        dead.node.reactor.deliver = lambda connection, data: None
        told: list[bytes] = []

        def watch(node: ExchangingNode) -> None:
            cluster, tell = node.node.cluster, node.node.cluster.tell

            async def watched(placement: bytes, step: Step, dead_digest: bytes) -> None:
                if cluster.refuses(dead_id):
                    assert dead_id not in node.peers
                    assert dead_id not in node.told.peers_up()
                    told.append(node.id)
                await tell(placement, step, dead_digest)

            cluster.tell = watched

        for one in rest:
            watch(one)
            assert dead_id in one.peers
        await rest[0].node.cluster.add(Leave(node_id=dead_id, dead=True))
        await world.until(lambda: settled(rest, 3, 3), within_s=9)
        assert {*told} == {one.id for one in rest}

    in_virtual_time(scenario)


def test_an_absent_member_holds_a_change_up_until_it_is_declared_dead() -> None:
    async def scenario(world: World) -> None:
        members, (new,) = await ready(world, *FRESH[:1])
        members[2].crash()
        await world.until(lambda: all(members[2].id not in one.peers for one in members[:2]))
        await ask(members[0], Join(member=entry(new)))
        rest = [*members[:2], new]
        await trio.sleep(60)
        assert all(one.node.cluster.placement.number == 1 for one in rest)
        assert members[0].node.succession.waits_for() == [members[2].id]
        with pytest.raises(Refusal, match="cannot be reached, so it cannot hand over"):
            await ask(members[0], Leave(node_id=members[2].id))
        reply = await ask(members[1], Leave(node_id=members[2].id, dead=True))
        assert reply.number == 0
        await world.until(lambda: settled(rest, 3, 3), within_s=30)
        await world.start(members[2])
        await world.until(lambda: members[2].node.state() == "left", within_s=30)
        assert all(members[2].id not in one.peers for one in rest)

    in_virtual_time(scenario)


def test_who_is_replaced_goes_and_its_places_are_taken() -> None:
    async def scenario(world: World) -> None:
        members, (new,) = await ready(world, FRESH[0])
        before = members[0].node.cluster.placement
        await ask(members[0], Replace(old=members[1].id, member=entry(new)))
        await world.until(lambda: settled([*members, new], 2, 3), within_s=30)
        after = members[0].node.cluster.placement
        assert members[1].id not in after.node_ids
        assert after.loads()[new.id] == before.loads()[members[1].id]

    in_virtual_time(scenario)


def test_what_makes_no_sense_is_refused_in_a_sentence() -> None:
    async def scenario(world: World) -> None:
        members, (new,) = await ready(world, FRESH[0])
        stranger = NodeEntry(id=b"s" * 16, address="10.0.0.9:7400", host="h9")
        taken = NodeEntry(id=b"s" * 16, address=members[1].address, host="h9")
        cases = [
            (Join(member=stranger), "cannot be reached from here"),
            (Join(member=entry(members[1])), "is a member already"),
            (Join(member=taken), "is the address of member"),
            (Leave(node_id=b"x" * 16), "is no member"),
            (Leave(node_id=members[1].id, dead=True), "is to be declared dead and answers"),
            (Leave(node_id=members[1].id), "2 members would be left for 3 replicas"),
            (WeightChange(node_id=b"x" * 16, weight=5), "is no member"),
            (ZoneChange(host="nowhere", zone="z"), "no member is on host"),
        ]
        for change, sentence in cases:
            with pytest.raises(Refusal, match=sentence):
                await ask(members[0], change)
        with pytest.raises(Refusal, match="no member of a cluster"):
            await ask(new, Join(member=entry(new)))
        assert members[0].node.cluster.placement.number == 1
        await ask(members[0], Leave(node_id=members[1].id), unsafe=True)
        await world.until(lambda: settled(members, 2, 2), within_s=30)

    in_virtual_time(scenario)


def test_a_clock_that_is_far_off_makes_no_changes() -> None:
    async def scenario(world: World) -> None:
        members, (new,) = await ready(world, FRESH[0])
        cluster = members[0].node.cluster
        await trio.sleep(5)
        cluster.clock_offsets_ms = dict.fromkeys(cluster.clock_offsets_ms, 61000)
        with pytest.raises(Refusal, match="clock is 61 s behind"):
            await ask(members[0], Join(member=entry(new)))

    in_virtual_time(scenario)


def test_what_a_node_has_told_is_on_its_disk_before_anybody_hears_it() -> None:
    async def scenario(world: World) -> None:
        members, (new,) = await ready(world, FRESH[0])
        on_disk: dict[bytes, int] = {}

        def look() -> None:
            for one in (*members, new):
                kept = load_progress(DataDirectory(one.node.cluster._directory.path, one.id, one.disk, None)) if one.node else {}
                on_disk[one.id] = max((told.word for told in kept.values()), default=0)
                for other in (*members, new):
                    heard = other.node.cluster.progress.get(one.id)
                    assert heard is None or heard.word <= on_disk[one.id]

        for one in (*members, new):
            one.disk.after_replace = look
        await ask(members[0], Join(member=entry(new)))
        await world.until(lambda: settled([*members, new], 2, 4), within_s=20)
        assert min(on_disk.values()) >= 5

    in_virtual_time(scenario)


def test_a_node_that_joins_late_fetches_what_it_cannot_compute() -> None:
    async def scenario(world: World) -> None:
        members, (new, late) = await ready(world, *FRESH[:2])
        late.crash()
        await trio.sleep(1)
        await ask(members[0], Join(member=entry(new)))
        await world.until(lambda: settled([*members, new], 2, 4), within_s=20)
        await ask(members[0], WeightChange(node_id=new.id, weight=120))
        await world.until(lambda: settled([*members, new], 3, 4), within_s=20)
        await world.start(late)
        await world.until(lambda: settled([late], 3, 4), within_s=20)
        assert late.node.state() == "waiting"
        await ask(new, Join(member=entry(late)))
        await world.until(lambda: settled([*members, new, late], 4, 5), within_s=20)

    in_virtual_time(scenario)


@pytest.mark.parametrize("name", ["placements", "progress"])
def test_a_damaged_file_is_named_and_what_to_do_is_said(name: str) -> None:
    async def scenario(world: World) -> None:
        members, (new,) = await ready(world, FRESH[0])
        await ask(members[0], Join(member=entry(new)))
        await world.until(lambda: settled([*members, new], 2, 4), within_s=20)
        members[1].crash()
        await trio.sleep(1)
        path = next(path for path in members[1].disk.files if path.name == name)
        members[1].disk.files[path] = b"\xc1" + members[1].disk.files[path]
        await world.start(members[1])
        assert isinstance(members[1].failure, DirectoryRefused)
        assert f"{name} is damaged" in str(members[1].failure)

    in_virtual_time(scenario)
