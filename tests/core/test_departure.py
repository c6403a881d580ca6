"""What a node that has departed is told: enough for its own history to say so, and nothing that anybody else could have said."""

import msgspec
import pytest
from hypothesis import given

from dynamo_fast.core.departure import LABEL, departure_of, vouched_for
from dynamo_fast.core.membership import Change, Gone, History, Join, Leave, NodeEntry, Replace, make_record
from dynamo_fast.wire.control_messages import encode
from tests.core.test_membership import BIRTH, entry, node_id, records_of, timed

STRANGER_BYTES_MAX = 4096  # of a body before the hello is done
BUCKET_BYTES_MAX = 64  # of a bucket's name
ONE, TWO, FOUR = node_id(1), node_id(2), node_id(4)


def history(*changes: Change, birth: Change = BIRTH) -> History:
    return History([make_record(change, author=TWO, time=time) for time, change in enumerate((birth, *changes))])


@pytest.mark.parametrize(
    ("changes", "records"),
    [
        ((), 0),
        ((Leave(node_id=ONE),), 0),
        ((Gone(node_id=ONE),), 0),
        ((Replace(old=ONE, member=entry(4)),), 0),
        ((Leave(node_id=TWO, dead=True),), 0),
        ((Leave(node_id=ONE, dead=True),), 1),
        ((Replace(old=ONE, member=entry(4), dead=True),), 1),
        ((Leave(node_id=ONE), Leave(node_id=ONE, dead=True)), 1),
        ((Leave(node_id=ONE), Leave(node_id=ONE, dead=True), Gone(node_id=ONE)), 1),
        ((Leave(node_id=ONE), Leave(node_id=ONE), Gone(node_id=ONE), Gone(node_id=ONE)), 2),
        ((Gone(node_id=ONE), Replace(old=ONE, member=entry(4))), 2),
    ],
)
def test_only_who_is_dead_or_gone_is_told_so_by_as_few_records_as_say_it(changes: tuple[Change, ...], records: int) -> None:
    known = history(*changes)
    departure = departure_of(ONE, known)
    assert (len(departure.records) if departure else 0) == records
    assert (departure is not None) == (ONE in known.view.dead)


@given(timed)
def test_the_records_make_any_history_of_the_cluster_say_the_same(parts) -> None:
    known = History(records_of(parts))
    for number in range(1, 7):
        departure = departure_of(node_id(number), known)
        assert (departure is not None) == (node_id(number) in known.view.dead)
        if departure is not None:
            own = History(records_of([]))
            assert vouched_for(departure, node_id(number), own.view)
            own.merge(departure.records)
            assert node_id(number) in own.view.dead


def test_nobody_without_the_secret_says_it_and_what_was_said_of_one_holds_for_no_other() -> None:
    known = history(Leave(node_id=ONE, dead=True), Leave(node_id=TWO, dead=True))
    departure, other = departure_of(ONE, known), departure_of(TWO, known)
    assert departure is not None
    assert other is not None
    assert vouched_for(departure, ONE, known.view)
    assert not vouched_for(departure, TWO, known.view)
    assert not vouched_for(other, ONE, known.view)
    assert not vouched_for(msgspec.structs.replace(departure, records=other.records), ONE, known.view)
    assert not vouched_for(msgspec.structs.replace(departure, records=departure.records * 2), ONE, known.view)
    assert not vouched_for(msgspec.structs.replace(departure, mac=departure.mac ^ 1), ONE, known.view)
    for field in ("mac_key", "cluster_id"):
        foreign = history(birth=msgspec.structs.replace(BIRTH, **{field: b"z" * 16}))
        assert not vouched_for(departure, ONE, foreign.view), field


def test_no_store_key_and_no_context_is_made_of_a_text_that_begins_like_it() -> None:
    """The first begins with the length of a bucket's name, the second with its format."""
    assert LABEL[0] > BUCKET_BYTES_MAX


def test_the_longest_fits_what_may_be_said_before_the_hello_is_done() -> None:
    name = "\N{GRINNING FACE}" * 255
    member = NodeEntry(id=FOUR, address=name, host=name, zone=name, weight=65535)
    known = History(
        make_record(change, author=TWO, time=(1 << 63) + time)
        for time, change in enumerate((BIRTH, Replace(old=ONE, member=member), Gone(node_id=ONE), Join(member=entry(5))))
    )
    departure = departure_of(ONE, known)
    assert departure is not None
    assert len(departure.records) == 2
    assert 3 * 4 * 255 < len(encode(departure)) <= STRANGER_BYTES_MAX
