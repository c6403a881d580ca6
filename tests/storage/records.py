"""Store keys, objects and records for the storage tests, made from small numbers."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Sequence

from dynamo_fast.core.merkle import Forest, entry_hash
from dynamo_fast.storage.engine import Engine
from dynamo_fast.storage.schema import encode_record, encode_store_key

MAC_KEY = bytes(range(16))
LOWEST = bytes(24)
HIGHEST = b"\xff" * 24

Write = tuple[bytes, bytes | None]  # a store key and its record from then on, None for a deletion


def store_key(number: int) -> bytes:
    key = b"key-%d" % number
    return encode_store_key(MAC_KEY, hashlib.md5(key).digest(), key)


@functools.cache
def numbers_in(wanted: tuple[int, ...], partitions: int, count: int) -> list[int]:
    """The first `count` numbers whose keys lie in one of the wanted partitions."""
    found = (number for number in itertools.count() if int.from_bytes(store_key(number)[:4], "big") * partitions >> 32 in wanted)
    return list(itertools.islice(found, count))


def record(number: int, version: int, value_bytes: int = 20) -> bytes:
    """A record whose object stands for `version` of key `number`; storage never looks into objects."""
    key = b"key-%d" % number
    packed = (b"%d/%d." % (number, version) * (value_bytes // 3 + 1))[:value_bytes]
    return encode_record(key, packed, mark_nonce=7, mark_epoch=version, hash=entry_hash(hashlib.md5(key).digest(), packed))


def after(writes: Sequence[Write]) -> dict[bytes, bytes]:
    """What an engine holds after these."""
    return {key: stored for key, stored in dict(writes).items() if stored is not None}


def write(engine: Engine, key: bytes, stored: bytes | None) -> None:
    """A put or a deletion."""
    if stored is None:
        engine.delete(key)
    else:
        engine.put(key, stored)


def hash_of(stored: bytes | None) -> int:
    return 0 if stored is None else int.from_bytes(stored[32:40], "little")


def forest_of(model: dict[bytes, bytes], partitions: int) -> Forest:
    """The forest that holds exactly these records."""
    forest = Forest(partitions, 256)
    for key, stored in model.items():
        forest.replace(key[:16], 0, hash_of(stored))
    return forest


def roots(forest: Forest) -> list[int]:
    return [forest.root(partition) for partition in range(forest.partitions)]
