"""Waiting until every node has handed over what it kept for others, and nothing is owed to anybody."""

from __future__ import annotations

import time

import trio

import dynamo_fast
from dynamo_fast.cli.hints import kept
from dynamo_fast.client.errors import DynamoError

LOOK_S = 0.1


async def hints_kept(db: dynamo_fast.Client) -> int:
    """Hints on all nodes that answer."""
    return kept(await db.cluster.hints())


async def wait_drained(db: dynamo_fast.Client, *, timeout_s: float) -> float:
    """Returns, with the seconds it took, when all nodes answer and none keeps a hint; TimeoutError says what is left."""
    began = time.monotonic()
    while True:
        found = await db.cluster.hints()
        silent = [address for address, reply in found.items() if isinstance(reply, DynamoError)]
        if not silent and not kept(found):
            return time.monotonic() - began
        if time.monotonic() - began > timeout_s:
            raise TimeoutError(f"after {timeout_s:g} s {kept(found)} hints are kept, and there is no answer from {silent or 'nobody'}")
        await trio.sleep(LOOK_S)
