"""Clients at work behind a scenario: strict writes and strict reads of a few keys, all the while, and what is to be said of them then.

A strict read with R+W>N shows every write that was acknowledged before it began. Nothing that happens in a scenario may change that.
"""

from __future__ import annotations

import random
from collections import Counter

import trio

from dynamo_fast.client.client import Client
from dynamo_fast.testing import checkers
from dynamo_fast.testing.checkers import Violation
from dynamo_fast.testing.cluster import Cluster
from dynamo_fast.testing.history import Fate, History, Version, write_of
from dynamo_fast.testing.user import Habits, Probes
from dynamo_fast.testing.workload import Actor, PutIds

N = 3
ACTORS = 3
HABITS = Habits(
    keys=60, carts=0, writes=((2, 1), (2, 2)), reads=(2,), strict=1.0, blind=0.0, old_context=0.1, delete=0.0, read=0.6, cart=0.0,
    deadline_s=2.0,
)  # fmt: skip


class Load:
    """`run` works until `stop`; `verdict` reads what is left and says in sentences what is wrong."""

    def __init__(self, cluster: Cluster) -> None:
        self.history = History()
        self._cluster = cluster
        self._stopped = False
        self._ended = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Task: the clients, on a host of their own."""
        cluster, put_ids = self._cluster, PutIds()
        async with cluster.connect(host="load") as client, trio.open_nursery() as nursery:
            put_ids.note(client)
            for number in range(ACTORS):
                chance = random.Random(f"{cluster.seed} load {number}")
                actor = Actor(f"load{number}", client, self.history, HABITS, cluster.dots, Probes(), put_ids, chance)
                nursery.start_soon(actor.run, lambda: self._stopped)
            task_status.started()
        self._ended.set()

    async def stop(self) -> None:
        """Returns when nothing is under way any more."""
        self._stopped = True
        await self._ended.wait()

    async def verdict(self, client: Client) -> list[str]:
        """What the clients were told and what is there now, in a few lines."""
        final: dict[bytes, list[Version]] = {}
        for key in self.history.keys_written():
            result = await client.get(key, r=N)
            final[key] = [Version(write_of(one.value), one.value, one.deleted) for one in result.siblings]
        found: list[Violation] = checkers.lost_writes(self.history, final) + checkers.phantoms(self.history, final)
        found += checkers.stale_reads(self.history, N) + checkers.broken_sessions(self.history)
        failed = Counter(one.told.partition(":")[0] for one in self.history.writes if one.fate is not Fate.OK)
        failed["read"] = sum(one.fate is not Fate.OK for one in self.history.reads)
        lines = [f"{count} times {what}" for what, count in sorted(failed.items()) if count]
        return lines + ([str(one) for one in found] or ["every write is there, and no strict read has missed one"])
