"""Versions that were superseded before they arrived, and the dots by which objects know that (_ext/cloud.h)."""

import pytest

from dynamo_fast.core.siblings import PutRefused, Siblings
from dynamo_fast.core.vector_clock import VectorClock
from tests.models.siblings import event

A, B, C = (bytes([letter]) * 16 for letter in b"abc")


def test_a_put_that_left_unseen_siblings_is_known_by_its_dot_alone() -> None:
    """The answer to a blind put may not speak for the sibling before it: a clock would (counter 2 stands for 1), the dot does not."""
    first = Siblings().put(b"unseen", node=A, epoch=1)
    both = first.put(b"mine", node=A, epoch=1)
    mine = next(sibling for sibling in both.siblings if sibling.value == b"mine")
    assert mine.dot == (A, 1, 2)

    assert both.put(b"newer", node=A, epoch=1, context=both.clock).values == (b"newer",)
    here = both.put(b"newer", node=A, epoch=1, dot=event(mine))
    assert (here.values, here.cloud) == ((b"unseen", b"newer"), ())

    elsewhere = Siblings().put(b"newer", node=B, epoch=9, dot=event(mine))
    assert elsewhere.clock == Siblings().put(b"newer", node=B, epoch=9).clock
    assert elsewhere.cloud == (mine.dot,)
    assert elsewhere.covers(mine.dot)
    assert not elsewhere.covers(first.siblings[0].dot)
    for merged in (both.merge(elsewhere), elsewhere.merge(both), first.merge(elsewhere).merge(both)):
        assert (merged.values, merged.cloud) == ((b"unseen", b"newer"), ())
        assert merged == both.merge(elsewhere)
    between = first.merge(elsewhere)
    assert (between.values, between.cloud) == ((b"unseen", b"newer"), (mine.dot,))
    assert repr(between).endswith("and 1 beyond>")


def test_a_version_that_was_superseded_before_it_came_does_not_come_back() -> None:
    """Written blindly, deleted with the returned context through a coordinator that lacks it: then it is gone."""
    both = Siblings().put(b"other", node=A).put(b"mine", node=A)
    deleted = Siblings().put(node=B, dot=event(both.siblings[1]), tombstone=True)
    assert deleted.merge(both).values == (b"other",)
    # Nor when the deletion is superseded in turn by one who saw it elsewhere and knows nothing of the dot.
    later = Siblings().put(b"later", node=C, context=deleted.clock)
    assert later.merge(both).values == (b"other", b"mine", b"later"), "for now"
    assert later.merge(both).merge(deleted).values == deleted.merge(later).merge(both).values == (b"other", b"later")


def test_objects_that_differ_in_their_clouds_alone_converge() -> None:
    written = Siblings().put(b"a", node=A)
    lone = [
        Siblings().put(b"v", node=B, epoch=epoch, dot=(C, epoch, 5, 0)).put(b"w", node=B, epoch=epoch, overwrite=True) for epoch in (1, 2)
    ]
    one, two = (written.merge(each) for each in lone)
    both = one.merge(two)
    assert both == two.merge(one)
    assert both.cloud == ((C, 1, 5), (C, 2, 5))
    assert both.merge(one) is both
    assert one.merge(both) is both
    forgetful = Siblings(both.packed[:6] + bytes(2) + both.packed[8:-64])
    assert (forgetful.clock, forgetful.siblings, forgetful.cloud) == (both.clock, both.siblings, ())
    assert forgetful.merge(both) is both
    assert both.merge(forgetful) is both
    assert both != forgetful


def test_a_put_is_not_behind_the_event_whose_version_it_lacks() -> None:
    """Else a last-write-wins version that has seen it would yield to that event, whose own version is superseded: nothing would be left."""
    ahead = Siblings().put(b"other", node=A).put(b"from a clock that is ahead", node=A, timestamp_ms=1000)
    plain = Siblings().put(b"plain", node=B, timestamp_ms=10, dot=event(ahead.siblings[1]))
    assert plain.siblings[0].timestamp_ms == 1000
    last = Siblings().put(b"last", node=C, timestamp_ms=10, context=plain.clock, last_write_wins=True)
    assert last.siblings[0].timestamp_ms == 1001
    assert Siblings.reconcile([last, ahead, plain]).values == (b"other", b"last")
    flagged = Siblings().put(b"flagged", node=B, timestamp_ms=10, dot=event(ahead.siblings[1]), last_write_wins=True)
    assert flagged.merge(ahead).values == (b"other", b"flagged")


def test_overwrite_keeps_what_its_writer_had_seen_beyond_what_is_here() -> None:
    both = Siblings().put(b"other", node=A).put(b"mine", node=A)
    over = Siblings().put(b"here", node=B).put(b"over", node=B, overwrite=True, dot=event(both.siblings[1]))
    assert over.values == (b"over",)
    assert over.merge(both).values == (b"other", b"over"), "other was neither here nor seen"


def test_a_cloud_is_bounded() -> None:
    state = Siblings()
    for number in range(1024):
        state = state.put(node=A, overwrite=True, tombstone=True, dot=(B, number, 1, 0))
    assert len(state.cloud) == 1024
    with pytest.raises(PutRefused, match="superseded versions that have not arrived"):
        state.put(node=A, dot=(C, 0, 1, 0))
    assert len(state.put(node=A, dot=(B, 0, 1, 0)).cloud) == 1024  # is there already
    full = state.put(node=A)
    # Merges go on, and so do puts that add nothing.
    more = full.merge(Siblings().put(node=C, dot=(C, 7, 1, 0)))
    assert len(more.cloud) == 1025
    assert len(more.put(node=A, context=more.clock).cloud) == 1025
    arrived = VectorClock((B, number, 1, 0) for number in range(1000))
    assert len(more.put(node=A, context=arrived, dot=(C, 8, 1, 0)).cloud) == 26


def test_a_dot_of_the_cloud_is_never_issued() -> None:
    state = Siblings().put(b"v", node=A, epoch=1).merge(Siblings().put(b"w", node=B, dot=(A, 1, 3, 0)))
    for dot in (None, (A, 1, 2, 0)):
        with pytest.raises(PutRefused, match="needs a new epoch"):
            state.put(b"x", node=A, epoch=1, dot=dot)
    with pytest.raises(PutRefused, match="needs a new epoch"):
        Siblings().put(b"x", node=A, epoch=1, dot=(A, 1, 1, 0))
    assert state.put(b"x", node=A, epoch=2).cloud == ((A, 1, 3),)
    assert state.put(b"x", node=A, epoch=1, context=VectorClock([(A, 1, 3, 0)])).clock.counter(A, 1) == 4


def test_events_out_of_range_are_refused() -> None:
    for dot in ((A, 0, 0, 0), (A, 0, 2**63, 0), (A, 0, 1, 2**63)):
        with pytest.raises(ValueError, match="a dot has a counter"):
            Siblings().put(b"v", node=B, dot=dot)
