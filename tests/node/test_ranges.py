"""Pages of a partition that is handed over: for whom they are, what they may hold, and how long they get."""

from __future__ import annotations

import pytest
import trio

from dynamo_fast.node.delivery import BATCH_BYTES_MAX
from dynamo_fast.node.ranges import IDLE_BYTES_MAX
from dynamo_fast.wire import replica_messages as replica
from dynamo_fast.wire.object_page import ObjectPageWriter
from tests.node.changing import partition_of
from tests.node.exchanging import version
from tests.node.gaining import KEYS, changing
from tests.node.virtual import World, in_virtual_time


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
