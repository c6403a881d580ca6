"""The scrub looks at every leaf within its period, leaves the loop to others meanwhile, and tells what it finds."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import cast

import pytest
import trio
import trio.testing

from dynamo_fast.env import Env
from dynamo_fast.node.cluster import Cluster
from dynamo_fast.node.interfaces import Engine
from dynamo_fast.node.scrub import LEAVES, PAUSE_S, SLICE_S, Scrub
from dynamo_fast.storage.report import LeafFindings


class World:
    """Env, engine and cluster in one: virtual time, which a look at a leaf may take some of, and what was looked at when."""

    def __init__(self, draw: float = 0.0, leaf_s: float = 0.0) -> None:
        self.draw, self.leaf_s = draw, leaf_s
        self.spent_s = 0.0
        self.looks: list[tuple[float, int, int]] = []
        self.findings: dict[tuple[int, int], LeafFindings] = {}

    def now(self) -> float:
        return trio.current_time() + self.spent_s

    def random(self) -> float:
        return self.draw

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    @property
    def history(self) -> World:
        return self

    @property
    def view(self) -> SimpleNamespace:
        return SimpleNamespace(mac_key=b"secret")

    def recompute(self, partition: int, leaf: int, mac_key: bytes) -> LeafFindings:
        assert mac_key == b"secret"
        self.looks.append((self.now(), partition, leaf))
        self.spent_s += self.leaf_s
        return self.findings.get((partition, leaf), LeafFindings(records=2))


def run(world: World, partitions: int, period_s: float, for_s: float) -> Scrub:
    scrub = Scrub(cast(Env, world), cast(Engine, world), cast(Cluster, world), partitions, period_s)

    async def main() -> None:
        with trio.move_on_after(for_s):
            await scrub.run()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return scrub


@pytest.mark.parametrize(("partitions", "period_s"), [(1, 60), (4, 604_800), (64, 600)])
def test_a_round_takes_its_period_and_leaves_nothing_out(partitions: int, period_s: int) -> None:
    world = World(draw=0.6)
    scrub = run(world, partitions, period_s, period_s * 1.01)
    assert scrub.rounds == 1
    round_one = [(partition, leaf) for _, partition, leaf in world.looks[: partitions * LEAVES]]
    assert sorted(round_one) == [(partition, leaf) for partition in range(partitions) for leaf in range(LEAVES)]
    assert round_one[0] == (int(0.6 * partitions), 0)
    gaps = [later - earlier for (earlier, *_), (later, *_) in zip(world.looks, world.looks[1:], strict=False)]
    assert max(gaps) < 2 * max(PAUSE_S, period_s / (partitions * LEAVES))


def test_a_period_that_cannot_be_kept_leaves_the_loop_to_others() -> None:
    """Leaves of 0.4 ms each: a slice ends after its millisecond, and then others have 20."""
    world = World(leaf_s=0.0004)
    scrub = run(world, 1024, 60, 2.0)
    assert scrub.leaves <= 2.0 / PAUSE_S * (SLICE_S / 0.0004 + 1)
    assert scrub.leaves > 100


def test_damage_is_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.findings = {
        (0, 3): LeafFindings(records=1, unreadable=2, corrected=True, repair=True),
        (0, 9): LeafFindings(records=1, misplaced=1),
        (0, 11): LeafFindings(wrong_hash=1),
        (0, 12): LeafFindings(corrected=True),
    }
    with caplog.at_level(logging.WARNING, logger="dynamo_fast.node"):
        scrub = run(world, 1, 60, 60.1)
    assert [(record.partition, record.leaf) for record in caplog.records] == list(world.findings)  # type: ignore[attr-defined]
    assert scrub.statistics() == {
        "rounds": 1, "leaves": LEAVES, "records": 2 * (LEAVES - 4) + 2, "unreadable": 2, "misplaced": 1, "wrong_hashes": 1,
        "leaves_corrected": 2,
    }  # fmt: skip
