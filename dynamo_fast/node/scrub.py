"""The scrub: one leaf of a Merkle tree after another is recomputed from its records, so that damage which no read meets is found.

A flipped bit, a key that vanished, two records in each other's place: the engine mends its trees and makes the partition suspect
(`storage/scrubbing.py` says how and why that is right), whereupon anti-entropy fetches what is missing. A leaf is a few
records, read in one step; between leaves the loop is free, and a round over all partitions is spread evenly over its period.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dynamo_fast.env import Env

if TYPE_CHECKING:
    from dynamo_fast.node.cluster import Cluster
    from dynamo_fast.node.interfaces import Engine

log = logging.getLogger("dynamo_fast.node")

LEAVES = 256  # of a partition
SLICE_S = 0.001  # of leaves one after another, before requests have their turn
PAUSE_S = 0.02  # between slices at least: a scrub takes a twentieth of the loop at most, whatever its period


class Scrub:
    """Looks at `partitions` times 256 leaves within `period_s`, or as soon after as its share of the loop allows."""

    def __init__(self, env: Env, engine: Engine, cluster: Cluster, partitions: int, period_s: float) -> None:
        self._env, self._engine, self._cluster = env, engine, cluster
        self._partitions = partitions
        self._leaf_s = period_s / (partitions * LEAVES)
        self.rounds = 0
        self.leaves = 0
        self.records = 0
        self.unreadable = 0
        self.misplaced = 0
        self.wrong_hashes = 0
        self.corrected = 0

    async def run(self) -> None:
        """Round after round, until cancelled. Begins somewhere, so that a node which is often restarted gets everywhere in time."""
        first = int(self._env.random() * self._partitions)
        due_s = 0.0
        began_s = self._env.now()
        while True:
            for number in range(self._partitions):
                for leaf in range(LEAVES):
                    due_s += self._leaf_s
                    if due_s >= PAUSE_S or self._env.now() - began_s >= SLICE_S:
                        await self._env.sleep(max(due_s, PAUSE_S))
                        due_s = 0.0
                        began_s = self._env.now()
                    self.look_at((first + number) % self._partitions, leaf)
            self.rounds += 1

    def look_at(self, partition: int, leaf: int) -> None:
        """One leaf; damage is counted and told."""
        view = self._cluster.history.view
        found = self._engine.recompute(partition, leaf, view.mac_key if view is not None else None)
        self.leaves += 1
        self.records += found.records
        self.unreadable += found.unreadable
        self.misplaced += found.misplaced
        self.wrong_hashes += found.wrong_hash
        self.corrected += found.corrected or found.repair
        if found != found._replace(unreadable=0, misplaced=0, wrong_hash=0, corrected=False, repair=False):
            log.warning(
                "records were lost on the disk: their partition is to be synced from its other homes",
                extra={"partition": partition, "leaf": leaf, **found._asdict()},
            )

    def statistics(self) -> dict[str, int]:
        """Counts since the start: whole rounds, leaves, records read, and damage by kind."""
        return {
            "rounds": self.rounds,
            "leaves": self.leaves,
            "records": self.records,
            "unreadable": self.unreadable,
            "misplaced": self.misplaced,
            "wrong_hashes": self.wrong_hashes,
            "leaves_corrected": self.corrected,
        }
