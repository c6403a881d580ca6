"""Waiting until every node has handed over what it kept for others, and nothing is owed to anybody.

A node tells of its hints by reading them, which takes long when there are many: it is asked for that only once its status, which costs
nothing, shows none.
"""

from __future__ import annotations

import time

import trio

import dynamo_fast
from dynamo_fast.cli.hints import kept
from dynamo_fast.client.errors import DynamoError
from dynamo_fast.wire.control_messages import StatusReply

LOOK_S = 0.1
PATIENCE_S = 60.0  # with one count


async def hints_kept(db: dynamo_fast.Client) -> int:
    """Hints on all nodes that answer."""
    return kept(await db.cluster.hints(PATIENCE_S))


async def wait_drained(db: dynamo_fast.Client, *, timeout_s: float) -> float:
    """Returns, with the seconds it took, when all nodes answer and none keeps a hint; TimeoutError says what is left."""
    began = time.monotonic()
    while True:
        states = (await db.cluster.status()).values()
        if all(isinstance(one, StatusReply) and one.statistics["requests"]["hint_bytes"] == 0 for one in states):
            found = await db.cluster.hints(PATIENCE_S)
            if not kept(found) and not any(isinstance(reply, DynamoError) for reply in found.values()):
                return time.monotonic() - began
        if time.monotonic() - began > timeout_s:
            raise TimeoutError(f"after {timeout_s:g} s hints are kept: {await db.cluster.hints(PATIENCE_S)}")
        await trio.sleep(LOOK_S)
