"""When all is healed: does a real cluster come to rest by itself, and did it keep what it acknowledged?

Nobody reads while it comes to rest, since reading mends. Hints go home; after that every node compares all it holds with every other one.
Then the nodes are stopped, and what their engines hold is looked at, byte by byte. Then they start again, and clients read with R=N.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import trio

import dynamo_fast
from dynamo_fast.disk import Disk
from dynamo_fast.node.keys import following
from dynamo_fast.storage.lmdb_engine import LmdbEngine
from dynamo_fast.storage.schema import decode_record
from dynamo_fast.storage.settings import StorageSettings
from dynamo_fast.testing import checkers
from dynamo_fast.testing.checkers import Violation
from dynamo_fast.testing.history import Fate, Version, write_of
from dynamo_fast.wire.control_messages import PlacementReply
from tests.live.cluster import Cluster, Node
from tests.live.drained import wait_drained
from tests.live.raw import Closed, status
from tests.live.users import Record, deleted_in, joined

REST_S = 60.0
ROUNDING_S = 0.1  # of ages in a status
N = 3


async def come_to_rest(cluster: Cluster, db: dynamo_fast.Client, timeout_s: float = REST_S) -> float:
    """Returns, with the seconds it took, when hints are home and since then every node has compared all with all others; TimeoutError."""
    began = time.monotonic()
    await wait_drained(db, timeout_s=timeout_s)
    for _ in range(2):  # a comparison that ended after the hints were home may have begun before
        moment = time.monotonic()
        for node in cluster:
            while not await trio.to_thread.run_sync(compared_since, node, moment):
                if time.monotonic() - began > timeout_s:
                    raise TimeoutError(f"{timeout_s:g} s after healing node {node.index} has not compared all it holds with all others")
                await trio.sleep(0.05)
    return time.monotonic() - began


def compared_since(node: Node, moment: float) -> bool:
    """Whether the node has compared everything with everybody after that moment of time.monotonic()."""
    asked = time.monotonic()
    try:
        age_s = status(node.reach).statistics["anti_entropy"]["last_full_round_age_s"]
    except (OSError, Closed):
        return False
    return age_s is not None and asked - age_s - ROUNDING_S > moment


def records(node: Node, partitions: int) -> Iterator[tuple[bytes, bytes]]:
    """(store key, packed object) of everything in the directory of a node that has stopped."""
    assert not node.running
    engine = LmdbEngine(node.data_dir, Disk(), StorageSettings(), partitions=partitions)
    try:
        at = bytes(24)
        while found := engine.scan(at, b"\xff" * 24, 1000):
            yield from ((store_key, decode_record(record).packed) for store_key, record in found)
            at = following(found[-1][0])
    finally:
        engine.close()


def diverged(cluster: Cluster, placement: PlacementReply) -> list[Violation]:
    """Homes whose copies differ in a byte, and copies where no home is. All nodes have stopped."""
    table = placement.preference_lists()
    index_of = {node.address: index for index, node in enumerate(placement.nodes)}
    copies: dict[bytes, dict[int, bytes]] = {}
    for node in cluster:
        for store_key, packed in records(node, placement.partitions):
            copies.setdefault(store_key, {})[index_of[node.address]] = packed
    found = []
    for store_key, held in copies.items():
        homes = table[int.from_bytes(store_key[:2], "big") * placement.partitions >> 16][: placement.replicas]
        found += checkers.diverged({store_key: {f"node {home}": held.get(home) for home in homes}})
        if strays := held.keys() - set(homes):
            found.append(Violation("convergence", store_key, f"nodes {strays} are no homes of {store_key.hex()} and still hold a copy"))
    return found


async def final_versions(record: Record, db: dynamo_fast.Client) -> dict[bytes, list[Version]]:
    """What every key reads as with R=N, deletes included."""
    history = record.history
    keys = sorted({one.key for one in (*history.writes, *history.carts)})
    found = {}
    for result in await db.get_many(keys, r=N, strict=True, deadline_s=20.0):
        found[result.key] = [Version(write_of(value), value, False) for value in result.values]
        if deleted_in(result):
            deletes = record.deletes_in(result.key, result.context) | record.perhaps_in(result.key, result.context)
            found[result.key] += [Version(one, b"", True) for one in sorted(deletes) if history.writes[one].fate is not Fate.NOT_APPLIED]
    return found


def broken_promises(record: Record, final: dict[bytes, list[Version]]) -> list[Violation]:
    """What the checkers find in what users were told and in what is there now."""
    uncertain = record.complete()
    history = record.history
    plain = {key: versions for key, versions in final.items() if not key.startswith(b"cart")}
    carts = {key: frozenset(joined([one.value for one in final[key]]).split(b",")) for key in final.keys() - plain.keys()}
    return [
        *checkers.lost_writes(history, plain),
        *checkers.lost_items(history, carts),
        *checkers.phantoms(history, plain),
        *(one for one in (*checkers.stale_reads(history, N), *checkers.broken_sessions(history)) if one.key not in uncertain),
    ]
