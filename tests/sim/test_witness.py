"""Who looks at what nodes do sees it when they do it wrongly, and nothing when they do it well."""

from __future__ import annotations

import pytest

import dynamo_fast.testing
from dynamo_fast.core.change import Step, step_to_do
from dynamo_fast.core.membership import Gone
from dynamo_fast.node.transfer import Transfer
from dynamo_fast.testing import rest
from dynamo_fast.testing.cluster import Cluster
from dynamo_fast.testing.guard import Guard
from dynamo_fast.testing.user import Probes
from dynamo_fast.testing.witness import Witness


def what_is_seen(*, gone_at_once: bool = False) -> list[str]:
    """Three nodes with thirty keys, a fourth one joins, and one leaves; what is said of that, without the names and keys."""

    async def scenario(cluster: Cluster) -> list[str]:
        witness = Witness(cluster, Guard([(2, 1)]), {}, Probes(), [])
        async with cluster.connect() as db:
            for number in range(30):
                await db.put(f"key {number}", b"one", dw=2)
        cluster.add_machine("d")
        await cluster.join("d")
        await cluster.settled()
        if gone_at_once:
            node = cluster["a"].node
            assert node is not None
            await node.cluster.add(Gone(node_id=node.cluster.node_id))
        else:
            await cluster.leave("a")
            await cluster.settled()
        assert rest.company(cluster) == []
        return [one.text for one in witness.violations]

    return dynamo_fast.testing.run(scenario, nodes=3, seed=1)


def test_nothing_is_said_of_a_change_that_goes_well() -> None:
    assert what_is_seen() == []


def test_who_tells_before_it_has_brought_anything_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> None:
        pass

    monkeypatch.setattr(Transfer, "bring", nothing)
    assert any("has told that it holds what" in text for text in what_is_seen())


def test_who_does_not_wait_for_the_others_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def hasty(*given: object) -> Step:
        step = step_to_do(*given)  # type: ignore[arg-type]
        return Step.SYNCED if step == Step.DOUBLE else step

    monkeypatch.setattr("dynamo_fast.node.succession.step_to_do", hasty)
    assert any("has not told of the one before" in text for text in what_is_seen())


def test_who_says_that_it_is_gone_and_holds_something_is_seen() -> None:
    assert any("says that it is gone" in text for text in what_is_seen(gone_at_once=True))
