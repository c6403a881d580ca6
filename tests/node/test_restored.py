"""A data directory that was restored, or copied, is older than what the others know of its node: what it lacks it may have acknowledged.

The records outlive the restoring here, as if they alone had been saved in time: what counts is that nothing in them is trusted.
"""

import trio

from dynamo_fast.core.change import Step
from dynamo_fast.core.membership import Join
from dynamo_fast.node.keys import homes_of
from tests.node.asking import FRESH, ask, born, entry, ready, settled, spare
from tests.node.exchanging import ExchangingNode
from tests.node.virtual import World, in_virtual_time


async def stopped(node: ExchangingNode) -> None:
    node.crash()
    await trio.sleep(1)


async def restored(world: World, node: ExchangingNode, backup: dict) -> None:
    """The node starts again on the files of then."""
    await stopped(node)
    node.disk.files.clear()
    node.disk.files.update(backup)
    await world.start(node)


async def forgiven(world: World, node: ExchangingNode) -> None:
    await world.until(lambda: not node.engine.suspects, within_s=60)


def test_a_directory_older_than_what_it_has_told_takes_its_word_back_and_trusts_nothing_in_it() -> None:
    async def scenario(world: World) -> None:
        members, (new,) = await ready(world, FRESH[0])
        backup = dict(members[2].disk.files)
        await ask(members[0], Join(member=entry(new)))
        everyone = [*members, new]
        await world.until(lambda: settled(everyone, 2, 4), within_s=20)
        await restored(world, members[2], backup)
        await world.until(lambda: settled(everyone, 2, 4), within_s=30)
        await world.until(lambda: len(members[2].engine.suspects) > 40, within_s=30)
        await world.until(lambda: len({one.node.cluster.progress[members[2].id].word for one in everyone}) == 1, within_s=30)

    in_virtual_time(scenario)


def test_a_restored_directory_is_recognised_in_peace_too_and_trusts_nothing_in_it() -> None:
    async def scenario(world: World) -> None:
        members, _ = await ready(world)
        backup = dict(members[2].disk.files)
        for _ in range(2):
            await stopped(members[2])
            await world.start(members[2])
            await world.until(lambda: len(members[2].peers) == 2)
        await forgiven(world, members[2])
        await restored(world, members[2], backup)
        await world.until(lambda: len(members[2].engine.suspects) > 40, within_s=30)
        assert members[2].node.cluster.starts == 4, "one more than anybody has heard of"
        await forgiven(world, members[2])
        await stopped(members[2])
        await world.start(members[2])
        await world.until(lambda: len(members[2].peers) == 2)
        await trio.sleep(30)
        assert members[2].node.cluster.starts == 5
        assert not members[2].engine.suspects, "what it knows by now is all that anybody does"

    in_virtual_time(scenario)


def suspects_when_it_counts(node: ExchangingNode) -> list[tuple[set[int], set[int]]]:
    """Each time that reads go by other partitions of the node's than before, from now on: these, and those that are suspect by then."""
    seen: list[tuple[set[int], set[int]]] = []
    cluster, work_by = node.node.cluster, node.node.cluster.work_by

    async def watched(old, new=None, step=Step.NONE) -> None:
        own = set(homes_of(new if new is not None and step >= Step.SWITCHED else old, node.id))
        if own != (seen[-1][0] if seen else set()):
            seen.append((own, set(node.engine.suspects)))
        await work_by(old, new, step)

    cluster.work_by = watched
    return seen


def test_a_directory_from_before_its_first_table_trusts_nothing_in_it_either() -> None:
    """It is from before the birth, and comes back in the middle of the first change: it is a home as soon as it has fetched the table, and
    has never told of a change, so that nothing but the number of its starts gives it away."""

    async def scenario(world: World) -> None:
        members, new = born(world), spare(world, FRESH[0])
        lost = members[2]
        await world.start(lost)
        backup = dict(lost.disk.files)
        await world.start(*members[:2], new)
        await world.until(lambda: all(one.view is not None for one in (*members, new)))
        for _ in range(2):
            await stopped(lost)
            await world.start(lost)
            await world.until(lambda: len(lost.peers) == 2)
        await forgiven(world, lost)
        await stopped(lost)
        await ask(members[0], Join(member=entry(new)))
        await world.until(lambda: all(one.node.cluster.change is not None for one in members[:2]))
        lost.flags = new.flags  # it is not to be born any more, and asks for the history as everybody does
        await restored(world, lost, backup)
        assert lost.node.cluster.placement is None
        seen = suspects_when_it_counts(lost)
        everyone = [*members, new]
        await world.until(lambda: settled(everyone, 2, 4), within_s=60)
        (own, suspect), *_ = seen
        assert own <= suspect
        await forgiven(world, lost)

    in_virtual_time(scenario)
