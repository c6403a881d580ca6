"""A retry after a restart of its coordinator is still a retry: the log remembers put ids."""

from pathlib import Path

from dynamo_fast.core.digest import key_position
from dynamo_fast.core.siblings import Siblings
from dynamo_fast.disk import Disk
from dynamo_fast.node.logged_puts import LoggedPuts
from dynamo_fast.storage.lmdb_engine import LmdbEngine
from dynamo_fast.storage.memory_engine import MemoryEngine
from dynamo_fast.storage.schema import encode_record, encode_store_key
from dynamo_fast.storage.settings import StorageSettings
from dynamo_fast.testing.faulty_engine import FaultyEngine
from tests.node.planes import MAC_KEY, PARTITIONS, WALL_MS, Planes

DEADLINE_MS_MAX = 60_000


def memory(ids_max: int = 1000) -> LoggedPuts:
    return LoggedPuts(1, ids_max, DEADLINE_MS_MAX, 1000, WALL_MS)


def written(visitor: LoggedPuts, key: bytes, put_id: bytes, timestamp_ms: int = WALL_MS) -> None:
    """The visitor is shown a version that this put made."""
    packed = Siblings().put(b"v", node=b"n" * 16, request_id=put_id, timestamp_ms=timestamp_ms).packed
    visitor.on_replayed(encode_store_key(MAC_KEY, key_position(key), key), encode_record(key, packed))


def retry_id(key: bytes, put_id: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(put_id, key_position(key), strict=True))


def test_lately_written_ids_are_known_for_their_key_and_old_ones_are_not() -> None:
    visitor = memory()
    written(visitor, b"k", b"1" * 16)
    written(visitor, b"k", b"2" * 16, WALL_MS - 2 * DEADLINE_MS_MAX)
    written(visitor, b"k", b"3" * 16, WALL_MS - 2 * DEADLINE_MS_MAX - 1)
    assert [retry_id(b"k", b"%d" % number * 16) in visitor.ids for number in (1, 2, 3)] == [True, True, False]
    assert retry_id(b"other", b"1" * 16) not in visitor.ids


def test_an_id_seen_again_takes_no_more_room_and_the_room_is_bounded() -> None:
    visitor = memory(ids_max=5)
    for number in range(1, 10):
        for _ in range(3):
            written(visitor, b"k", bytes([number]) * 16)
    assert len(visitor.ids) == 5


def test_after_a_restart_a_retry_of_what_was_superseded_makes_no_version(tmp_path: Path) -> None:
    cluster = Planes(1)
    settings = StorageSettings()

    def start() -> LmdbEngine:
        engine = LmdbEngine(tmp_path, Disk(), settings, partitions=PARTITIONS, visitor=memory())
        cluster.restart(0, FaultyEngine(engine))
        assert isinstance(engine.visitor, LoggedPuts)
        cluster.nodes[0].plane.remember_puts(engine.visitor)
        return engine

    first = start()
    context = cluster.put(0, b"k", b"mine", put_id=b"r" * 16).context
    cluster.put(0, b"k", b"newer", context=context)
    first.close()
    second = start()
    cluster.put(0, b"k", b"mine", put_id=b"r" * 16)
    assert cluster.get(0, b"k").values == [b"newer"]
    second.close()
    cluster.restart(0, FaultyEngine(MemoryEngine(partitions=PARTITIONS)))
