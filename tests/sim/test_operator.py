"""The operator of a simulated run asks for nothing that would leave too few members, and for one death at a time."""

from __future__ import annotations

import random

import pytest
import trio

import dynamo_fast.testing
from dynamo_fast.client.errors import BadRequest, Unreachable
from dynamo_fast.testing.cluster import Cluster
from dynamo_fast.testing.guard import Guard
from dynamo_fast.testing.operator import ATTEMPTS, LIVING_MAX, Operator
from dynamo_fast.wire.membership_messages import ChangeReply


def of(cluster: Cluster, promise: tuple[int, int] = (2, 2)) -> Operator:
    return Operator(cluster, Guard([promise]), random.Random(1))


def test_n_members_stay() -> None:
    async def scenario(cluster: Cluster) -> None:
        operator = of(cluster)
        assert operator.staying() == ["a", "b", "c", "d"]
        name = operator.one_to_let_go()
        assert name in operator.staying()
        operator.leave(name)
        assert len(operator.staying()) == 3  # whatever came of the request
        assert operator.one_to_let_go() is None

    dynamo_fast.testing.run(scenario, nodes=4)


def test_spare_machines_are_added_up_to_a_bound_and_each_is_used_once() -> None:
    async def scenario(cluster: Cluster) -> None:
        operator = of(cluster)
        spares = []
        while (name := operator.spare()) is not None:
            assert operator.spare() == name
            operator.join(name)
            spares.append(name)
        assert len(spares) == len(set(spares)) == LIVING_MAX - 3
        assert operator.newcomers() == spares
        await cluster.destroy("a")
        assert operator.spare() not in {None, *spares}

    dynamo_fast.testing.run(scenario)


def test_one_machine_dies_for_good_and_only_where_the_promises_allow_it() -> None:
    async def scenario(cluster: Cluster) -> None:
        assert not of(cluster, (1, 1)).lose("a", destroyed=True)
        operator = of(cluster)
        assert await cluster.clock.moment(lambda: operator.lose("a", destroyed=True))
        assert cluster["a"].destroyed
        assert not operator.lose("b", destroyed=True)
        operator.guard.healed()
        assert not operator.lose("b", destroyed=True)  # as long as nobody was told that the first one is dead
        assert operator.staying() == ["b", "c", "d"]

    dynamo_fast.testing.run(scenario, nodes=4)


@pytest.mark.parametrize(("error", "outcome", "asked"), [
    (None, "change accepted", 1),
    (BadRequest, "change refused", 1),
    (Unreachable, "change not answered", ATTEMPTS),
    (trio.TooSlowError, "change not answered", ATTEMPTS),
])  # fmt: skip
def test_a_request_is_repeated_until_there_is_an_answer(error: type[Exception] | None, outcome: str, asked: int) -> None:
    calls = []

    async def join(*names: str) -> ChangeReply:
        calls.append(names)
        if error is not None:
            raise error
        return ChangeReply(ids=[], number=0)

    async def scenario(cluster: Cluster) -> None:
        operator = of(cluster)
        cluster.join = join  # type: ignore[method-assign, assignment]
        operator.join("d")
        assert operator.busy == 1
        await cluster.until(lambda: not operator.busy, 60)
        assert operator.counts == {outcome: 1}

    dynamo_fast.testing.run(scenario)
    assert calls == [("d",)] * asked
