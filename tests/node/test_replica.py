"""This node's own copy: a dot is never issued twice, and never claims what its maker has not seen; the tree follows every store."""

import itertools

import pytest
import xxhash

from dynamo_fast.core.digest import key_position
from dynamo_fast.core.merkle import Forest
from dynamo_fast.core.siblings import Siblings
from dynamo_fast.storage.memory_engine import MemoryEngine
from dynamo_fast.storage.schema import decode_record
from dynamo_fast.testing.faulty_engine import FaultyEngine
from dynamo_fast.wire.data_messages import encode_replicate
from dynamo_fast.wire.status import MessageType, Status
from tests.node.planes import PARTITIONS, Planes

ALL = bytes(24), b"\xff" * 24


def copied(engine: FaultyEngine) -> FaultyEngine:
    """The same records on another disk, as a backup restored or a data directory cloned would have them."""
    made = MemoryEngine(partitions=PARTITIONS)
    for store_key, record in engine.scan(*ALL, 10_000):
        made.put(store_key, record)
    return FaultyEngine(made)


def epochs(cluster: Planes, node: int, key: bytes = b"k") -> list[tuple[int, int]]:
    """(epoch, counter) of node 0 in the clock of a copy."""
    return [(entry.epoch, entry.counter) for entry in cluster.copy(node, key).clock if entry.node == cluster.node_ids[0]]


def write_on(cluster: Planes, *values: bytes, node: int = 0, key: bytes = b"k") -> None:
    for value in values:
        context = cluster.get(node, key, r=1).context
        assert cluster.put(node, key, value, context=context, w=1).status == Status.OK


# The epoch rule ----------------------------------------------------------------------------------------------------


def test_one_process_counts_on_in_one_epoch_per_key() -> None:
    cluster = Planes()
    write_on(cluster, b"1", b"2", b"3")
    write_on(cluster, b"1", key=b"other")
    ((epoch, counter),) = epochs(cluster, 0)
    assert counter == 3
    ((other, one),) = epochs(cluster, 0, b"other")
    assert one == 1
    assert other != epoch


def test_merges_from_elsewhere_do_not_end_an_epoch() -> None:
    cluster = Planes()
    write_on(cluster, b"1")
    write_on(cluster, b"2", node=1)
    write_on(cluster, b"3")
    assert [counter for _, counter in epochs(cluster, 0)] == [2]


def test_every_start_begins_a_new_epoch() -> None:
    cluster = Planes()
    for start in range(1, 4):
        write_on(cluster, b"1", b"2")
        assert sorted(counter for _, counter in epochs(cluster, 1)) == [2] * start
        cluster.restart(0)
    assert len({epoch for epoch, _ in epochs(cluster, 1)}) == 3
    assert cluster.nodes[0].count("epoch_alarms") == 0


def test_a_lost_record_begins_a_new_epoch() -> None:
    """The node has no copy any more, and the others know dots of it: to count from one again would issue them twice."""
    cluster = Planes()
    write_on(cluster, b"1", b"2")
    cluster.restart(0, FaultyEngine(MemoryEngine(partitions=PARTITIONS)))
    assert cluster.put(0, b"k", b"blind").status == Status.OK
    assert sorted(counter for _, counter in epochs(cluster, 1)) == [1, 2]
    assert cluster.get(1, b"k", r=3).values == [b"2", b"blind"]


def test_a_record_that_cannot_be_read_begins_a_new_epoch_in_the_same_process() -> None:
    cluster = Planes()
    write_on(cluster, b"1", b"2")
    cluster.nodes[0].engine.damage(cluster.store_key(b"k"))
    assert cluster.put(0, b"k", b"blind").status == Status.OK
    assert sorted(counter for _, counter in epochs(cluster, 1)) == [1, 2]
    assert cluster.get(1, b"k", r=3).values == [b"2", b"blind"]


def test_a_lost_record_that_comes_back_by_repair_begins_a_new_epoch() -> None:
    cluster = Planes()
    write_on(cluster, b"1", b"2")
    cluster.nodes[0].engine.damage(cluster.store_key(b"k"))
    assert cluster.get(0, b"k").values == [b"2"], "which mends it"
    write_on(cluster, b"3")
    assert sorted(counter for _, counter in epochs(cluster, 1)) == [1, 2]


def test_two_processes_over_clones_of_one_directory_issue_no_dot_twice() -> None:
    """Both have the same node id and the same records; they write apart and then meet."""
    cluster, twin = Planes(), Planes(seed=2)
    write_on(cluster, b"before")
    twin.restart(0, copied(cluster.nodes[0].engine))
    twin.nodes[0].plane.statistics()
    write_on(cluster, b"here")
    write_on(twin, b"there")
    (packed,) = {twin.packed(0, b"k")}
    assert packed is not None
    cluster.inject(0, 1, MessageType.REPLICATE, encode_replicate(cluster.placement.name, b"k", packed), request_id=1)
    cluster.run()
    assert cluster.get(0, b"k", r=3).values == [b"here", b"there"]


def shown_the_future(cluster: Planes) -> bytes:
    """A copy in which node 0 has counted on in the epoch it is in: from a clone that a bug, or malice, let continue."""
    copy = cluster.copy(0, b"k")
    ((epoch, _),) = epochs(cluster, 0)
    made = copy.put(b"by the clone", node=cluster.node_ids[0], epoch=epoch, context=copy.clock)
    assert isinstance(made, Siblings)
    return made.packed


def test_a_higher_counter_of_ones_own_epoch_in_a_copy_raises_an_alarm_and_ends_the_epoch() -> None:
    cluster = Planes()
    write_on(cluster, b"1")
    body = encode_replicate(cluster.placement.name, b"k", shown_the_future(cluster))
    cluster.inject(0, 1, MessageType.REPLICATE, body, request_id=1)
    cluster.run()
    assert cluster.nodes[0].count("epoch_alarms") == 1
    assert cluster.put(0, b"k", b"blind").status == Status.OK
    assert sorted(counter for _, counter in epochs(cluster, 0)) == [1, 2]
    assert cluster.get(0, b"k", r=3).values == [b"blind", b"by the clone"]
    assert cluster.nodes[0].count("epoch_alarms") == 1, "once is enough"


def test_a_higher_counter_of_ones_own_epoch_in_a_context_raises_an_alarm_and_ends_the_epoch() -> None:
    cluster = Planes()
    write_on(cluster, b"1")
    body = encode_replicate(cluster.placement.name, b"k", shown_the_future(cluster))
    cluster.isolate(0)
    cluster.inject(1, 2, MessageType.REPLICATE, body, request_id=1)
    cluster.run()
    context = cluster.get(1, b"k", r=1).context
    assert cluster.put(0, b"k", b"new", context=context, w=1).status == Status.OK
    assert cluster.nodes[0].count("epoch_alarms") == 1
    assert sorted(counter for _, counter in epochs(cluster, 0)) == [1, 2]
    assert cluster.copy(0, b"k").values == (b"new",)


def test_an_equal_or_lower_counter_is_no_alarm() -> None:
    cluster = Planes()
    write_on(cluster, b"1")
    older = cluster.packed(0, b"k")
    assert older is not None
    write_on(cluster, b"2")
    for packed in (older, cluster.packed(0, b"k")):
        assert packed is not None
        cluster.inject(0, 1, MessageType.REPLICATE, encode_replicate(cluster.placement.name, b"k", packed), request_id=1)
    cluster.run()
    write_on(cluster, b"3")
    assert [counter for _, counter in epochs(cluster, 0)] == [3]
    assert cluster.nodes[0].count("epoch_alarms") == 0


# The tree ----------------------------------------------------------------------------------------------------


def rebuilt(engine: FaultyEngine) -> Forest:
    """The forest that the records themselves make."""
    forest = Forest(PARTITIONS, 256)
    for store_key, record in engine.scan(*ALL, 10_000):
        forest.replace(store_key[:16], 0, xxhash.xxh3_64_intdigest(store_key[:16] + decode_record(record).packed))
    return forest


def test_the_tree_is_that_of_the_records_and_equal_replicas_have_equal_trees() -> None:
    cluster = Planes()
    keys = [b"%d" % number for number in range(40)]
    for turn, key in itertools.product(range(3), keys):
        node = cluster.chance.randrange(3)
        context = cluster.get(node, key).context if cluster.chance.random() < 0.7 else b""
        gone = cluster.chance.random() < 0.2
        cluster.put(node, key, b"" if gone else b"%d" % turn, context=context, tombstone=gone)
    for key in keys:
        cluster.get(0, key, r=3)
    roots = [[node.engine.forest.root(partition) for partition in range(PARTITIONS)] for node in cluster.nodes]
    again = rebuilt(cluster.nodes[0].engine)
    assert roots[0] == roots[1] == roots[2] == [again.root(partition) for partition in range(PARTITIONS)]
    record = cluster.record(0, keys[0])
    assert record is not None
    parts = decode_record(record)
    assert parts.hash == xxhash.xxh3_64_intdigest(key_position(keys[0]) + parts.packed)


# What the engine cannot take ----------------------------------------------------------------------------------------------------


def test_a_store_that_the_engine_refuses_leaves_everything_as_it_was() -> None:
    cluster = Planes()
    write_on(cluster, b"1")
    before = cluster.record(0, b"k")
    cluster.fill_disk(0, "no space left")
    cluster.put(1, b"k", b"2", context=cluster.get(1, b"k").context)
    assert cluster.record(0, b"k") == before
    assert cluster.nodes[0].errors == []
    cluster.nodes[0].engine.heal()
    assert cluster.get(0, b"k", r=3).values == [b"2"]
    assert cluster.copy(0, b"k").values == (b"2",)


@pytest.mark.parametrize("value_bytes", [0, 1, 4096, 1 << 20])
@pytest.mark.parametrize("key_bytes", [1, 4096])
def test_sizes_from_least_to_most(key_bytes: int, value_bytes: int) -> None:
    cluster = Planes()
    key, value = b"k" * key_bytes, bytes(value_bytes)
    assert cluster.put(0, key, value, w=3).status == Status.OK
    assert cluster.get(1, key, r=3).values == [value]
