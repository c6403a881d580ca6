"""kill -9 under load, again and again; afterwards every acknowledged write is looked for. `make crash KILLS=100`.

    python -m tests.live.crash --kills 1000 --nodes 3 --nodes 5

Tasks of one client write to a cluster of real processes without pause. Each time at least ACKS_PER_KILL writes were acknowledged
since the last kill, and puts are in flight, a node drawn at random is killed with SIGKILL and started again; every fifth time all
nodes die at once. Rounds of at most KILLS_PER_ROUND kills have a cluster of their own each, with every number of nodes in turn. When the
kills of a round are done, two kinds of writes are checked:

* fresh keys, written once: each acknowledged one is read with R=2 and compared byte for byte;
* shared keys, edited by several tasks with contexts: causal closure. Every acknowledged edit is among the final siblings, or was
  seen by the author of an edit that is (or that such an edit descends from). A value that nobody wrote, or that the store said it
  had certainly not applied, is an error too.
"""

import hashlib
import random
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import trio

import dynamo_fast
from bench.compare.rows import Row
from tests.live.cluster import Cluster
from tests.live.raw import status
from tests.reliability.rows import Measured, arguments, report

ACKS_PER_KILL = 1000
KILLS_PER_ROUND = 100
WRITERS = 48
EDITORS = 16
SHARED_KEYS = 64
ALL_AT_ONCE_EVERY = 5
# Small bounds, so that checkpoints and the turning over of log segments are under way when a node is killed.
CONFIG = """
[storage]
log_bytes_max = 8388608
log_segment_bytes = 1048576
write_buffer_bytes_max = 4194304
"""


def value_of(key: bytes) -> bytes:
    """The one value a fresh key is given: from 0 to about 2,000 bytes, drawn from the key."""
    digest = hashlib.sha256(key).digest()
    return (digest * 64)[: int.from_bytes(digest[:2], "little") % 2000 if digest[2] < 32 else digest[0]]


@dataclass
class Edit:
    """One put to a shared key; its value is its id."""

    key: bytes
    parents: frozenset[bytes]  # ids of the edits that the author had seen
    fate: str = "unknown"  # or "acked", "not applied"


@dataclass
class Tally:
    """What the load did and what the store said to it."""

    acked_fresh: dict[bytes, int] = field(default_factory=dict)  # key -> number of kills before its acknowledgement
    edits: dict[bytes, Edit] = field(default_factory=dict)  # by id
    acks: int = 0
    in_flight: int = 0
    kills: int = 0
    unknown: int = 0
    not_applied: int = 0
    in_flight_at_kills: list[int] = field(default_factory=list)
    restart_s: list[float] = field(default_factory=list)
    checkpoints: int = 0  # that the killed processes had finished


class Load:
    """The tasks that write, and the one that kills."""

    def __init__(self, cluster: Cluster, kills: int, seed: int) -> None:
        self.cluster = cluster
        self.kills_wanted = kills
        self.rng = random.Random(seed)
        self.tally = Tally()
        self.stopping = False
        self.progress = trio.Event()  # replaced at each kill; set when enough was acknowledged since the last
        self.acks_at_kill = 0
        self.back = trio.Event()  # replaced at each kill; set when the killed are back
        self.back.set()

    def acknowledged(self) -> None:
        self.tally.acks += 1
        if self.tally.acks - self.acks_at_kill >= ACKS_PER_KILL:
            self.progress.set()

    async def turn(self) -> None:
        """While nodes are away, as much is written as between two kills, and then no more: all of it has to be read in the end."""
        if self.tally.acks - self.acks_at_kill >= ACKS_PER_KILL:
            await self.back.wait()

    async def put(self, db: dynamo_fast.Client, key: bytes, value: bytes, context: bytes = b"") -> tuple[str, bytes]:
        """The fate of one put, and the new context if it was acknowledged."""
        self.tally.in_flight += 1
        try:
            context = await db.put(key, value, context=context, w=2)
        except dynamo_fast.NotApplied:
            self.tally.not_applied += 1
            return "not applied", b""
        except dynamo_fast.Unknown:
            self.tally.unknown += 1
            return "unknown", b""
        finally:
            self.tally.in_flight -= 1
        self.acknowledged()
        return "acked", context

    async def write_fresh_keys(self, db: dynamo_fast.Client, writer: int) -> None:
        number = 0
        while not self.stopping:
            await self.turn()
            number += 1
            key = b"fresh/%d/%d" % (writer, number)
            fate, _ = await self.put(db, key, value_of(key))
            if fate == "acked":
                self.tally.acked_fresh[key] = self.tally.kills

    async def edit_shared_keys(self, db: dynamo_fast.Client, editor: int) -> None:
        """Read, then put with the context once or twice: the second time with the one that the first put returned."""
        rng = random.Random(self.rng.random())
        number = 0
        while not self.stopping:
            await self.turn()
            key = b"shared/%d" % rng.randrange(SHARED_KEYS)
            try:
                result = await db.get(key, r=2)
            except dynamo_fast.DynamoError:
                continue
            context, parents = result.context, frozenset(result.values)
            for _ in range(rng.randint(1, 2)):
                number += 1
                name = b"%d.%d" % (editor, number)
                edit = self.tally.edits[name] = Edit(key, parents)
                edit.fate, context = await self.put(db, key, name, context)
                if edit.fate != "acked":
                    break
                parents = frozenset([name])

    async def kill_and_restart(self) -> None:
        """One round: enough acknowledgements, puts in flight, SIGKILL, start again, ready."""
        await self.progress.wait()
        together = (self.tally.kills + 1) % ALL_AT_ONCE_EVERY == 0 and self.kills_wanted - self.tally.kills >= len(self.cluster)
        victims = list(self.cluster) if together else [self.rng.choice(self.cluster.nodes)]
        for node in victims:
            reply = await trio.to_thread.run_sync(status, node.address)
            self.tally.checkpoints += reply.statistics["storage"]["checkpoints"]
        while self.tally.in_flight == 0:
            await trio.lowlevel.checkpoint()
        self.tally.in_flight_at_kills.append(self.tally.in_flight)
        self.acks_at_kill, self.progress, self.back = self.tally.acks, trio.Event(), trio.Event()
        for node in victims:
            node.kill()
        began = time.monotonic()
        for node in victims:
            node.start()
        await trio.to_thread.run_sync(self.cluster.wait_ready)
        self.tally.restart_s.append(time.monotonic() - began)
        self.tally.kills += 1
        self.acks_at_kill, self.progress = self.tally.acks, trio.Event()
        self.back.set()

    async def run(self, db: dynamo_fast.Client) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(WRITERS):
                nursery.start_soon(self.write_fresh_keys, db, number)
            for number in range(EDITORS):
                nursery.start_soon(self.edit_shared_keys, db, number)
            while self.tally.kills < self.kills_wanted:
                await self.kill_and_restart()
                print(f"kill {self.tally.kills}: {self.tally.acks} acks so far, {self.tally.in_flight_at_kills[-1]} puts in flight, "
                      f"back after {self.tally.restart_s[-1]:.2f} s", flush=True)
            await self.progress.wait()
            self.stopping = True


def lost_edits(edits: dict[bytes, Edit], found: dict[bytes, frozenset[bytes]]) -> list[str]:
    """What breaks causal closure, in words; `found` has the final siblings of each shared key."""
    wrong = []
    accounted: set[bytes] = set()
    for key, siblings in found.items():
        for name in siblings:
            if name not in edits or edits[name].key != key:
                wrong.append(f"{key!r} holds {name!r}, which nobody wrote there")
            elif edits[name].fate == "not applied":
                wrong.append(f"{key!r} holds {name!r}, which was said to be certainly not applied")
        pending = [name for name in siblings if name in edits]
        while pending:
            name = pending.pop()
            if name not in accounted:
                accounted.add(name)
                pending.extend(edits[name].parents)
    wrong += [f"{edit.key!r} lost {name!r}" for name, edit in edits.items() if edit.fate == "acked" and name not in accounted]
    return wrong


async def read_all(db: dynamo_fast.Client, keys: Iterable[bytes]) -> dict[bytes, tuple[bytes, ...]]:
    """Every key's values, read with R=2."""
    wanted = list(keys)
    found = {}
    for start in range(0, len(wanted), 1000):
        for result in await db.get_many(wanted[start : start + 1000], r=2, deadline_s=10.0):
            found[result.key] = result.values
    return found


async def verify(db: dynamo_fast.Client, tally: Tally) -> list[str]:
    """Everything that is wrong with what the cluster holds now; empty when all is well."""
    fresh = await read_all(db, tally.acked_fresh)
    wrong = [f"{key!r}, acknowledged after kill {kill}, reads as {len(fresh[key])} values that are not the one written"
             for key, kill in tally.acked_fresh.items() if fresh[key] != (value_of(key),)]
    shared = await read_all(db, {edit.key for edit in tally.edits.values()})
    return wrong + lost_edits(tally.edits, {key: frozenset(values) for key, values in shared.items()})


class WritesLost(AssertionError):
    """What was acknowledged and is not found, or is found and was never written, one sentence each."""

    def __init__(self, seed: int, wrong: list[str]) -> None:
        self.wrong = wrong
        super().__init__(f"seed {seed}: {len(wrong)} wrong:\n" + "\n".join(wrong[:50]))


async def crash(directory: Path, kills: int, seed: int, nodes: int = 3) -> Tally:
    """One round. Raises WritesLost when an acknowledged write is not found."""
    with Cluster(directory, nodes, config=CONFIG) as cluster:
        await trio.to_thread.run_sync(cluster.wait_ready)
        load = Load(cluster, kills, seed)
        async with dynamo_fast.connect(cluster.addresses) as db:
            await load.run(db)
            wrong = await verify(db, load.tally)
        if wrong:
            raise WritesLost(seed, wrong)
        assert all(load.tally.in_flight_at_kills), "a kill found no put in flight"
        return load.tally


def rounds(kills: int, seed: int, sizes: list[int]) -> Measured:
    """All rounds; those that lost something are said and counted, and the others still run."""
    done: list[Tally] = []
    lost: list[str] = []
    for number, first in enumerate(range(0, kills, KILLS_PER_ROUND)):
        nodes = sizes[number % len(sizes)]
        print(f"round {number + 1}: {nodes} nodes, seed {seed + number}", flush=True)
        with tempfile.TemporaryDirectory(prefix="dynamo-fast-crash-") as directory:
            try:
                done.append(trio.run(crash, Path(directory), min(KILLS_PER_ROUND, kills - first), seed + number, nodes))
            except WritesLost as error:
                print(error, flush=True)
                lost += error.wrong
    evidence = {
        "nodes": sizes,
        "seed": seed,
        "kills": sum(tally.kills for tally in done),
        "fresh keys acknowledged": sum(len(tally.acked_fresh) for tally in done),
        "edits acknowledged": sum(edit.fate == "acked" for tally in done for edit in tally.edits.values()),
        "puts unknown": sum(tally.unknown for tally in done),
        "puts not applied": sum(tally.not_applied for tally in done),
        "least puts in flight at a kill": min((min(tally.in_flight_at_kills) for tally in done), default=0),
        "checkpoints by those killed": sum(tally.checkpoints for tally in done),
        "slowest restart, s": round(max((max(tally.restart_s) for tally in done), default=0.0), 2),
    }
    row = Row(f"kill -9 of real processes, {kills} times: acknowledged writes lost", float(len(lost)), "writes", 0.0, at_most=True)
    return [(row, evidence)]


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--nodes", type=int, action="append", help="in a cluster; may be given again, for every other round (default: 3)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    print(f"{options.kills} kills, at least {ACKS_PER_KILL} acks between two", flush=True)
    return report(options.output, lambda: rounds(options.kills, options.seed, options.nodes or [3]))


if __name__ == "__main__":
    sys.exit(main())
