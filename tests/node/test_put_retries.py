"""A put that is tried again with its id makes one version at the same coordinator, and is shown as one wherever it was tried."""

from dynamo_fast.wire.status import MessageType, Status
from tests.node.planes import WALL_MS, Planes, frames


def test_a_retry_at_the_same_coordinator_makes_one_version_even_after_it_was_superseded() -> None:
    cluster = Planes()
    put_id = b"r" * 16
    context = cluster.put(0, b"k", b"mine", put_id=put_id).context
    assert cluster.put(0, b"k", b"mine", put_id=put_id).status == Status.OK
    assert cluster.copy(0, b"k").values == (b"mine",)
    cluster.put(0, b"k", b"newer", context=context)
    assert cluster.put(0, b"k", b"mine", put_id=put_id).status == Status.OK
    assert [cluster.copy(node, b"k").values for node in range(3)] == [(b"newer",)] * 3


def test_a_retry_after_an_unknown_reaches_the_homes_that_had_missed_it() -> None:
    cluster = Planes()
    client = cluster.client(0)
    cluster.drop(frames(MessageType.REPLICATE))
    first = client.put(b"k", b"v", put_id=b"r" * 16)
    cluster.pass_time(1100)
    assert client.answers[first].status == Status.DEADLINE
    cluster.release()
    again = client.put(b"k", b"v", put_id=b"r" * 16)
    cluster.run()
    assert client.answers[again].status == Status.OK
    assert [cluster.copy(node, b"k").values for node in range(3)] == [(b"v",)] * 3


def test_a_retry_at_a_coordinator_that_holds_the_id_makes_no_second_dot() -> None:
    cluster = Planes()
    cluster.put(0, b"k", b"v", put_id=b"r" * 16)
    cluster.put(1, b"k", b"v", put_id=b"r" * 16)
    assert len(cluster.copy(2, b"k").siblings) == 1


def test_a_retry_elsewhere_that_does_make_a_second_dot_is_shown_once_and_covered_whole() -> None:
    cluster = Planes()
    cluster.isolate(0)
    cluster.put(0, b"k", b"v", put_id=b"r" * 16, w=1)
    cluster.put(1, b"k", b"v", put_id=b"r" * 16)
    cluster.link(0, 1)
    cluster.link(0, 2)
    answer = cluster.get(1, b"k", r=3)
    assert answer.siblings == [(b"v", False, WALL_MS)]
    cluster.put(1, b"k", b"w", context=answer.context)
    assert cluster.get(2, b"k", r=3).values == [b"w"]


def test_one_id_on_two_keys_is_two_puts() -> None:
    cluster = Planes()
    for key in (b"one", b"two"):
        there = cluster.put(0, key, b"before", put_id=key.ljust(16))
        assert cluster.put(0, key, b"of " + key, put_id=b"same" * 4, context=there.context).status == Status.OK
    assert cluster.get(1, b"one").values == [b"of one"]
    assert cluster.get(1, b"two").values == [b"of two"]


def test_puts_without_an_id_are_never_taken_for_each_other() -> None:
    """An id of zeros is nobody's: a client that sends no ids must not lose its second put."""
    cluster = Planes()
    first = cluster.put(0, b"k", b"1", put_id=bytes(16))
    assert cluster.put(0, b"k", b"2", put_id=bytes(16), context=first.context).status == Status.OK
    assert cluster.get(1, b"k").values == [b"2"]
    theirs = cluster.put(0, b"k", b"3", put_id=bytes(16))
    assert cluster.get(1, b"k").values == [b"2", b"3"]
    cluster.put(0, b"k", b"4", put_id=bytes(16), context=theirs.context)
    assert cluster.get(1, b"k").values == [b"2", b"4"], "the context of 3 covers 3 alone"
