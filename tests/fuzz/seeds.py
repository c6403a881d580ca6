"""Where the fuzzers start: the golden messages of docs/protocol.md, and objects, clocks and contexts made by the core."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from dynamo_fast.core.context import seal_context
from dynamo_fast.core.siblings import Siblings
from tests.wire.golden import VECTORS

NODES = [bytes([i]) * 16 for i in range(3)]
SECRET = bytes(range(16))


def objects() -> list[Siblings]:
    """One of each kind: empty, one value, siblings, a tombstone beside a value, last-write-wins, several actors, clouds."""
    first = Siblings().put(b"one", node=NODES[0], epoch=1, timestamp_ms=1000, request_id=b"a" * 16)
    second = first.put(b"two", node=NODES[0], epoch=1, timestamp_ms=2000, request_id=b"b" * 16)
    elsewhere = first.put(b"three", node=NODES[1], epoch=9, timestamp_ms=3000, context=first.clock, request_id=b"c" * 16)
    deleted = elsewhere.put(node=NODES[2], epoch=3, timestamp_ms=4000, tombstone=True, request_id=b"d" * 16)
    last = Siblings().put(b"last", node=NODES[1], epoch=9, timestamp_ms=5000, last_write_wins=True, request_id=b"e" * 16)
    clouded = first
    for counter, epoch in ((2, 1), (4, 1), (1, 2)):
        clouded = clouded.put(b"five", node=NODES[1], epoch=9, context=clouded.clock, dot=(NODES[0], epoch, counter, 2000))
    return [Siblings(), first, second, elsewhere, deleted, last, clouded, second.merge(elsewhere), second.merge(deleted)]


def frame_seeds() -> Iterator[bytes]:
    yield from (vector.frame for vector in VECTORS)
    yield b"".join(vector.frame for vector in VECTORS[:6])


def message_seeds() -> Iterator[bytes]:
    yield from (bytes([vector.type]) + vector.body_bytes for vector in VECTORS)


def object_seeds() -> Iterator[bytes]:
    for a in objects():
        for b in objects():
            yield struct.pack("<H", len(a.packed)) + a.packed + b.packed


def clock_seeds() -> Iterator[bytes]:
    for a in objects():
        for b in objects():
            yield bytes([len(a.clock)]) + bytes(a.clock) + bytes(b.clock)


def context_seeds() -> Iterator[bytes]:
    yield from (seal_context(SECRET, NODES[0], NODES[1], each.clock) for each in objects())
    yield seal_context(SECRET, NODES[0], NODES[1], objects()[1].clock, (NODES[2], 7, 5, 1000))


def siblings_seeds() -> Iterator[bytes]:
    """Programs of two bytes an instruction, see fuzz_siblings.c: puts at each replica, then merges around."""
    puts = bytes([0x10, 0x08, 0x21, 0x08, 0x26, 0x0A, 0x32, 0x09, 0x66, 0x08, 0x91, 0x08])
    merges = bytes([0x04, 0x00, 0x09, 0x00, 0x02, 0x00])
    yield from (puts, puts + merges, (puts + merges) * 4, merges + puts)


SEEDS = {
    "frame": frame_seeds, "messages": message_seeds, "object": object_seeds,
    "siblings": siblings_seeds, "clock": clock_seeds, "context": context_seeds,
}


def write(noun: str, directory: Path) -> int:
    """Writes the seeds of a target into a directory, one file each; how many."""
    directory.mkdir(parents=True, exist_ok=True)
    made = list(SEEDS[noun]())
    for i, seed in enumerate(made):
        (directory / f"seed-{i:03}").write_bytes(seed)
    return len(made)
