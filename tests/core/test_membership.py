"""The history of changes: union in any order gives the same state, ids never return, bytes on disk are checked."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_fast.core.membership import (
    AddressChange,
    Birth,
    BucketChange,
    Change,
    ForeignHistoryError,
    History,
    HistoryError,
    Join,
    Leave,
    NodeEntry,
    Record,
    Replace,
    Roster,
    WeightChange,
    ZoneChange,
    decode_history,
    encode_history,
    hybrid_time,
    make_record,
    read_change,
    record_id,
)
from dynamo_fast.core.options import BucketSettings


def node_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def entry(number: int) -> NodeEntry:
    return NodeEntry(id=node_id(number), address=f"10.0.0.{number}:7400", host=f"h{number}")


BIRTH = Birth(cluster_id=b"c" * 16, mac_key=b"k" * 16, partitions=64, replicas=3, members=[entry(1), entry(2), entry(3)],
              placement_algorithm=1, placement_digest=b"d" * 16)  # fmt: skip

ids = st.integers(1, 6).map(node_id)
changes = st.one_of(
    st.integers(1, 6).map(lambda number: Join(member=entry(number))),
    ids.map(lambda one: Leave(node_id=one)),
    st.builds(Replace, old=ids, member=st.integers(1, 6).map(entry)),
    st.builds(WeightChange, node_id=ids, weight=st.integers(1, 3)),
    st.builds(ZoneChange, host=st.sampled_from(["h1", "h2", "h5"]), zone=st.sampled_from(["a", "b"])),
    st.builds(AddressChange, node_id=ids, address=st.sampled_from(["a:1", "b:2"])),
    st.builds(BucketChange, name=st.sampled_from([b"", b"cart"]), settings=st.builds(BucketSettings, w=st.none() | st.integers(1, 3))),
)
timed = st.lists(st.tuples(changes, ids, st.integers(1, 9)), max_size=12)


def records_of(parts: list[tuple[Change, bytes, int]]) -> list[Record]:
    birth = make_record(BIRTH, author=node_id(1), time=0)
    return [birth, *(make_record(change, author=author, time=time) for change, author, time in parts)]


@given(timed, st.randoms(use_true_random=False))
def test_any_order_and_any_repetition_of_exchanges_gives_the_same_state(parts, rng: random.Random) -> None:
    records = records_of(parts)
    in_order = History(records)
    shuffled, pieces = History(), records * 2
    rng.shuffle(pieces)
    for piece in pieces:
        shuffled.merge([piece])
    assert shuffled.digest == in_order.digest
    assert shuffled.view == in_order.view
    assert encode_history(shuffled) == encode_history(in_order)


@given(timed, timed)
def test_an_exchange_of_what_is_missing_makes_two_histories_one(left_parts, right_parts) -> None:
    left, right = History(records_of(left_parts)), History(records_of(right_parts))
    wanted = left.ids_lacking(right.ids())
    new_right = right.merge(left.records_not_in(right.ids()))
    new_left = left.merge(right.records_of(wanted))
    assert left.digest == right.digest
    assert left.view == right.view
    assert not {record.id for record in new_left} & {record.id for record in new_right}
    assert left.merge(right.records) == []


@given(timed)
def test_a_departed_id_never_returns_whatever_the_timestamps_say(parts) -> None:
    view = History(records_of(parts)).view
    assert view is not None
    departed = {change.node_id for change, _, _ in parts if isinstance(change, Leave)}
    departed |= {change.old for change, _, _ in parts if isinstance(change, Replace)}
    joined = {change.member.id for change, _, _ in parts if isinstance(change, Join | Replace)} | {member.id for member in BIRTH.members}
    assert set(view.members) == joined - departed
    assert view.departed == departed


def test_the_latest_settings_of_a_bucket_hold_as_a_whole() -> None:
    parts = [(BucketChange(name=b"cart", settings=BucketSettings(w=3, r=1)), node_id(1), 5),
             (BucketChange(name=b"cart", settings=BucketSettings(w=1)), node_id(2), 6)]  # fmt: skip
    view = History(records_of(parts[::-1])).view
    assert view is not None
    assert view.buckets == {b"cart": BucketSettings(w=1)}


def test_a_member_may_move_to_another_address() -> None:
    view = History(records_of([(AddressChange(node_id=node_id(2), address="b:9"), node_id(2), 4)])).view
    assert view is not None
    assert view.members[node_id(2)].address == "b:9"
    assert view.first_members == tuple(BIRTH.members)


def test_a_replacement_is_a_departure_and_a_join() -> None:
    view = History(records_of([(Replace(old=node_id(2), member=entry(7)), node_id(1), 4)])).view
    assert view is not None
    assert set(view.members) == {node_id(1), node_id(3), node_id(7)}
    assert view.departed == {node_id(2)}


def test_the_latest_weight_of_a_member_holds() -> None:
    parts = [(WeightChange(node_id=node_id(2), weight=weight), node_id(1), time) for weight, time in ((50, 4), (70, 6), (60, 5))]
    view = History(records_of([*parts, (WeightChange(node_id=node_id(9), weight=1), node_id(1), 7)])).view
    assert view is not None
    assert {member.id: member.weight for member in view.members.values()} == {node_id(1): 100, node_id(2): 70, node_id(3): 100}


def on_host(number: int, host: str, zone: str) -> NodeEntry:
    return NodeEntry(id=node_id(number), address=f"10.0.0.{number}:7400", host=host, zone=zone)


@given(st.lists(st.one_of(
    st.builds(Join, member=st.builds(on_host, st.integers(4, 9), st.sampled_from(["h1", "h2", "x"]), st.sampled_from(["a", "b"]))),
    st.builds(ZoneChange, host=st.sampled_from(["h1", "h2", "x"]), zone=st.sampled_from(["a", "b", "c"])),
    st.builds(Leave, node_id=ids),
), max_size=10))  # fmt: skip
def test_a_host_is_in_one_zone_whatever_was_said_of_it(changes: list[Change]) -> None:
    zone_of: dict[str, str] = {}
    for member in Roster({member.id: member for member in BIRTH.members}).after(changes).members.values():
        assert zone_of.setdefault(member.host, member.zone) == member.zone


def test_a_zone_is_of_the_machine() -> None:
    changes = [Join(member=on_host(7, "h2", "elsewhere")), ZoneChange(host="h2", zone="west"), Join(member=on_host(8, "h2", "east"))]
    members = Roster({member.id: member for member in BIRTH.members}).after(changes).members
    assert {number: members[node_id(number)].zone for number in (1, 2, 7, 8)} == {1: "", 2: "west", 7: "west", 8: "west"}


def test_who_replaces_whom() -> None:
    roster = Roster({member.id: member for member in BIRTH.members}, frozenset([node_id(5)]))

    def heirs(*pairs: tuple[int, int]) -> list[tuple[int, int]]:
        found = roster.heirs(Replace(old=node_id(old), member=entry(new)) for old, new in pairs)
        return [(int.from_bytes(old, "big"), int.from_bytes(new, "big")) for old, new in found.items()]

    assert heirs((1, 7), (2, 8)) == [(1, 7), (2, 8)]
    assert heirs((1, 7), (1, 8)) == [(1, 7)]  # whoever comes second only joins
    assert heirs((1, 7), (2, 7)) == [(1, 7)]
    assert heirs((1, 3), (1, 5), (4, 7)) == []  # a member already, departed long ago, no member to replace
    assert heirs((1, 7), (7, 8)) == []  # gone before it was there


@given(timed, timed)
def test_a_copy_goes_its_own_way(parts, later) -> None:
    history = History(records_of(parts))
    before = (history.digest, history.view, list(history.records))
    copied = history.copy()
    assert (copied.digest, copied.view, list(copied.records)) == before
    copied.merge(records_of(later))
    assert (history.digest, history.view, list(history.records)) == before
    assert copied.view == History([*history.records, *records_of(later)]).view


def test_there_is_no_view_before_a_birth_is_known() -> None:
    history = History([make_record(Leave(node_id=node_id(1)), author=node_id(1), time=1)])
    assert history.view is None


def test_two_births_never_merge_and_nothing_of_the_foreign_records_stays() -> None:
    history = History(records_of([]))
    foreign = make_record(msgspec.structs.replace(BIRTH, cluster_id=b"x" * 16), author=node_id(9), time=0)
    bucket = make_record(BucketChange(name=b"a", settings=BucketSettings()), author=node_id(9), time=1)
    before = history.digest
    with pytest.raises(ForeignHistoryError):
        history.merge([bucket, foreign])
    assert history.digest == before
    assert len(history) == 1


def test_a_record_of_an_unknown_kind_is_kept_and_passed_on() -> None:
    body = msgspec.msgpack.encode({"kind": "eclipse", "depth": 3})
    stranger = Record(record_id(7, node_id(1), body), 7, node_id(1), body)
    history = History([*records_of([]), stranger])
    assert read_change(stranger) is None
    assert history.unknown_count == 1
    assert decode_history(encode_history(history)).records == history.records


def test_a_record_that_does_not_hold_what_its_id_says_is_refused() -> None:
    good = make_record(Leave(node_id=node_id(1)), author=node_id(1), time=1)
    with pytest.raises(HistoryError, match="does not hold"):
        History([Record(good.id, good.time + 1, good.author, good.change)])


@given(st.integers(0, 1 << 63), st.integers(0, 1 << 44))
def test_a_hybrid_timestamp_never_goes_back_and_follows_the_wall_clock(last: int, wall_ms: int) -> None:
    time = hybrid_time(last, wall_ms)
    assert time > last
    assert time >> 16 >= wall_ms


def test_every_cut_and_every_flipped_byte_of_the_file_is_refused() -> None:
    data = encode_history(History(records_of([(Leave(node_id=node_id(1)), node_id(1), 3)])))
    for cut in range(len(data)):
        with pytest.raises(HistoryError):
            decode_history(data[:cut])
    for place in range(len(data)):
        with pytest.raises(HistoryError):
            decode_history(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
