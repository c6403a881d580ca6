"""Each checker finds the wrong history that was planted, and nothing in the same one put right."""

from __future__ import annotations

import pytest

from dynamo_fast.core.change import Step
from dynamo_fast.core.membership import NodeEntry
from dynamo_fast.core.siblings import Siblings
from dynamo_fast.storage.schema import decode_record, encode_record
from dynamo_fast.testing import checkers
from dynamo_fast.testing.history import Cart, Fate, History, Version, Write, value_of, write_of, writes_in

KEY = b"k"


def version(write: Write) -> Version:
    return Version(write.number, b"" if write.tombstone else value_of(write.number), write.tombstone)


def written(history: History, *seen: Write, fate: Fate = Fate.OK, key: bytes = KEY, ended_s: float = 0.0, **options: object) -> Write:
    """A write that had seen these, and its fate."""
    write = history.write("actor", key, frozenset(one.number for one in seen), **options)  # type: ignore[arg-type]
    write.fate, write.ended_s = fate, ended_s
    return write


def shown(history: History, *writes: Write, began_s: float = 0.0, **options: object) -> None:
    """A read that showed these."""
    read = history.read("actor", KEY, now_s=began_s, **options)  # type: ignore[arg-type]
    read.fate, read.ended_s, read.shown = Fate.OK, began_s + 0.1, frozenset(one.number for one in writes)


def never(write: Write) -> bool:
    return False


def test_a_value_says_which_write_made_it() -> None:
    assert write_of(value_of(17, 40)) == 17
    assert len(value_of(17, 40)) == 40
    for strange in (b"", b"17", b";", b"x;", b"17;.a"):
        assert write_of(strange) is None
    history = History()
    one, other = written(history), written(history, key=b"other")
    assert writes_in(history, KEY, [value_of(one.number), value_of(other.number), b"?"]) == ({0}, (value_of(1), b"?"))


def test_an_acknowledged_write_that_is_nowhere_is_lost() -> None:
    history = History()
    first = written(history)
    assert checkers.lost_writes(history, {KEY: []}) != []
    assert checkers.lost_writes(history, {KEY: [version(first)]}) == []


def test_a_write_lives_on_in_those_that_had_seen_it() -> None:
    """Through an unacknowledged one in between; but not in one that had not seen it."""
    history = History()
    first = written(history)
    second = written(history, first, fate=Fate.UNKNOWN)
    third = written(history, second)
    stranger = written(history)
    assert checkers.lost_writes(history, {KEY: [version(third), version(stranger)]}) == []
    assert [one.key for one in checkers.lost_writes(history, {KEY: [version(stranger)]})] == [KEY, KEY]


def test_a_delete_that_was_forgotten_takes_along_what_it_had_replaced() -> None:
    for forgets in (True, False):
        history = History(forgets=forgets)
        first = written(history)
        written(history, first, tombstone=True, ended_s=1.0)
        shown(history, began_s=2.0, session=True)
        assert (checkers.lost_writes(history, {}) == []) is forgets
        assert (checkers.broken_sessions(history) == []) is forgets
        assert (checkers.stale_reads(history, 3, strict_only=False) == []) is forgets


def test_what_was_never_acknowledged_may_be_gone() -> None:
    history = History()
    for fate in (Fate.UNKNOWN, Fate.NOT_APPLIED, Fate.OPEN):
        written(history, fate=fate)
    assert checkers.lost_writes(history, {}) == []


def test_what_was_replaced_does_not_come_back() -> None:
    history = History()
    first = written(history)
    second = written(history, first, tombstone=True)
    final = {KEY: [version(first)]}
    assert checkers.zombies(history, final, never, lossless=True) != []
    assert checkers.zombies(history, final, lambda write: write is first, lossless=True) == []
    assert checkers.zombies(history, {KEY: [version(second)]}, never, lossless=True) == []
    second.firm = frozenset()
    assert checkers.zombies(history, final, never, lossless=True) == []


def test_a_replacement_that_was_only_shown_binds_where_nothing_was_lost() -> None:
    history = History()
    first = written(history)
    second = written(history, first, fate=Fate.UNKNOWN)
    shown(history, second)
    assert checkers.zombies(history, {KEY: [version(first)]}, never, lossless=True) != []
    assert checkers.zombies(history, {KEY: [version(first)]}, never, lossless=False) == []


def test_nobody_is_shown_what_nobody_wrote() -> None:
    history = History()
    shown(history)
    assert checkers.phantoms(history, {}) == []
    history.reads[0].strange = (b"?",)
    assert checkers.phantoms(history, {}) != []
    assert checkers.phantoms(History(), {KEY: [Version(None, b"?", False)]}) != []


def test_certainly_not_applied_is_certain() -> None:
    history = History()
    refused = written(history, fate=Fate.NOT_APPLIED)
    assert checkers.phantoms(history, {KEY: [version(refused)]}) != []
    assert checkers.dishonest_refusals(history, never) == []
    assert checkers.dishonest_refusals(history, lambda write: True) != []
    shown(history, refused)
    assert checkers.phantoms(history, {}) != []


def test_what_is_shown_twice_is_strange() -> None:
    history = History()
    one = written(history)
    assert writes_in(history, KEY, [value_of(one.number)] * 2) == ({0}, (value_of(0),))


@pytest.mark.parametrize(("copies", "on_disk", "enough"), [(3, 1, True), (2, 1, True), (1, 1, False), (3, 0, False)])
def test_an_acknowledged_put_has_its_copies(copies: int, on_disk: int, enough: bool) -> None:
    write = written(History(), w=2, dw=1)
    assert (checkers.copies_missing(write, copies, on_disk, 3) == []) is enough


def test_where_there_are_fewer_homes_than_copies_are_wanted_all_of_them_are() -> None:
    write = written(History(), w=3, dw=3)
    assert checkers.copies_missing(write, 2, 2, 2) == []
    assert checkers.copies_missing(write, 2, 1, 2) != []


def test_where_nobody_is_away_everything_is_answered() -> None:
    history = History()
    write = written(history)
    written(history, fate=Fate.NOT_APPLIED).stray = True
    shown(history, write)
    assert checkers.unanswered(history) == []
    write.fate = history.reads[0].fate = Fate.UNKNOWN
    assert [one.text.split()[0] for one in checkers.unanswered(history)] == ["write", "read"]


def test_a_context_is_of_one_key() -> None:
    history = History()
    write = written(history)
    write.stray = True
    assert [one.key for one in checkers.strays_accepted(history)] == [KEY]
    write.fate = Fate.NOT_APPLIED
    assert checkers.strays_accepted(history) == []


def test_only_a_home_can_tell_that_there_is_nothing() -> None:
    read = History().read("actor", KEY)
    assert checkers.nothing_said(read, {"a": True, "b": True, "c": False}) == []
    assert [one.promise for one in checkers.nothing_said(read, {"a": True, "b": True, "c": True})] == ["honest answers"]


def test_a_listing_shows_each_living_key_once() -> None:
    history = History()
    one, gone = written(history), written(history, key=b"gone", tombstone=True)
    final = {KEY: [version(one)], b"gone": [version(gone)]}
    assert checkers.listed_wrongly([KEY], final) == []
    told = [found.text.partition(" ")[2] for found in checkers.listed_wrongly([b"gone", b"gone"], final)]
    assert told == ["is listed, and was deleted, or never written", "is not listed", "is listed twice"]


@pytest.mark.parametrize(("dots", "twice"), [
    ([], False),
    ([(b"a" * 24 + b"1" * 8, 0.0)], False),
    ([(b"a" * 24 + b"1" * 8, 0.0), (b"b" * 24 + b"1" * 8, 0.1)], False),  # two coordinators
    ([(b"a" * 24 + b"1" * 8, 0.0), (b"a" * 24 + b"2" * 8, 0.1)], True),
    ([(b"a" * 24 + b"1" * 8, 0.0), (b"a" * 24 + b"2" * 8, 1.1)], False),  # the deadline was over, and the id may be forgotten
])  # fmt: skip
def test_a_coordinator_makes_one_version_of_a_put(dots: list[tuple[bytes, float]], twice: bool) -> None:
    history = History()
    written(history)
    assert (checkers.retries_applied(history, lambda write: dots, 1.0) != []) is twice


def test_items_of_a_cart_stay() -> None:
    history = History(carts=[Cart(b"cart", b"book", Fate.OK), Cart(b"cart", b"pen", Fate.UNKNOWN)])
    assert checkers.lost_items(history, {b"cart": frozenset([b"book"])}) == []
    assert checkers.lost_items(history, {b"cart": frozenset([b"pen"])}) != []
    assert checkers.lost_items(history, {}) != []


def test_the_clock_leaves_one_winner() -> None:
    history = History(last_write_wins={KEY})
    one, two = written(history), written(history)
    assert checkers.several_winners(history, {KEY: [version(one), version(two)]}) != []
    assert checkers.several_winners(history, {KEY: [version(two)]}) == []
    assert checkers.lost_writes(history, {KEY: [version(two)]}) == []


def test_homes_that_differ_are_found() -> None:
    assert checkers.diverged({KEY: {"a": b"1", "b": b"1", "c": b"1"}}) == []
    assert checkers.diverged({KEY: {"a": b"1", "b": b"2", "c": b"1"}}) != []
    assert checkers.diverged({KEY: {"a": b"1", "b": None, "c": b"1"}}) != []


@pytest.mark.parametrize(("strict", "w", "r", "began_s", "regular"), [
    (True, 2, 2, 2.0, False),
    (True, 1, 2, 2.0, True),  # R+W=N: nobody promised it
    (False, 2, 2, 2.0, True),  # nor of sloppy requests
    (True, 2, 2, 0.5, True),  # it began while the write was under way
])  # fmt: skip
def test_a_strict_read_misses_no_strict_write_before_it(strict: bool, w: int, r: int, began_s: float, regular: bool) -> None:
    history = History()
    write = written(history, w=w, strict=strict, ended_s=1.0)
    shown(history, began_s=began_s, r=r, strict=strict)
    assert (checkers.stale_reads(history, 3) == []) is regular
    assert (checkers.stale_reads(history, 3, strict_only=False) == []) is (began_s < 1)
    history.reads[0].shown = frozenset([written(history, write, fate=Fate.UNKNOWN).number])
    assert checkers.stale_reads(history, 3, strict_only=False) == []


def test_a_session_reads_its_writes_and_never_goes_back() -> None:
    history = History()
    write = written(history, ended_s=1.0)
    shown(history, began_s=2.0, session=True)
    assert checkers.broken_sessions(history) != []
    history.reads[0].shown = frozenset([write.number])
    assert checkers.broken_sessions(history) == []
    stranger = history.write("another", KEY, frozenset())
    shown(history, write, stranger, began_s=3.0, session=True)
    shown(history, write, began_s=4.0, session=True)
    assert len(checkers.broken_sessions(history)) == 1
    history.reads[-1].session = False
    assert checkers.broken_sessions(history) == []


def test_a_session_may_forget_what_nobody_acknowledged_once_deletes_are_forgotten() -> None:
    history = History()
    shown(history, written(history, fate=Fate.UNKNOWN), began_s=1.0, session=True)
    shown(history, began_s=2.0, session=True)
    assert len(checkers.broken_sessions(history)) == 1
    history.forgets = True
    assert checkers.broken_sessions(history) == []


def test_a_hint_goes_when_its_owner_has_all_of_it_on_disk() -> None:
    hint = Siblings().put(b"one", node=bytes(16))
    other = Siblings().put(b"other", node=b"o" * 16)
    held = {"a": hint.packed, "b": hint.merge(other).packed, "c": hint.put(b"next", node=bytes(16), context=hint.clock).packed}
    assert checkers.hint_gone_early(KEY, hint.packed, held) == []
    found = checkers.hint_gone_early(KEY, hint.packed, {"a": None, "b": other.packed})
    assert [one.promise for one in found] == ["hints reach their owners"] * 2


def test_a_delete_is_forgotten_when_nobody_holds_what_it_replaced() -> None:
    value = Siblings().put(b"one", node=bytes(16))
    delete = value.put(b"", node=bytes(16), context=value.clock, tombstone=True)
    assert checkers.forgotten_early("a", KEY, delete.packed, {"b": None, "c": delete.packed}) == []
    found = checkers.forgotten_early("a", KEY, delete.packed, {"b": None, "c": value.packed})
    assert [one.text.rpartition(", and ")[2] for one in found] == ["c holds something that it has replaced"]


def test_what_was_confirmed_is_not_kept() -> None:
    packed = Siblings().put(b"one", node=bytes(16)).packed
    record = encode_record(KEY, packed, owed=0b110, placement_number=7)
    hash_ = decode_record(record).hash
    assert checkers.still_owed("a", None, hash_, 0b010, 7) == []
    assert checkers.still_owed("a", record, hash_, 0b001, 7) == []
    assert checkers.still_owed("a", record, hash_ ^ 1, 0b010, 7) == []  # another version by now
    assert [one.promise for one in checkers.still_owed("a", record, hash_, 0b010, 7)] == ["hints reach their owners"]
    assert checkers.still_owed("a", record, hash_, 0b001, 8) != []  # it counts in another placement still, and all homes are owed


def test_who_says_that_it_has_brought_everything_has_it() -> None:
    packed, other = (Siblings().put(value, node=value.ljust(16)).packed for value in (b"one", b"other"))
    assert checkers.brought_short("a", "b", {b"1": packed}, {b"1": Siblings(packed).merge(Siblings(other)).packed}) == []
    assert len(checkers.brought_short("a", "b", {b"1": packed, b"2": packed}, {b"1": None, b"2": other})) == 2


def test_a_step_waits_for_all_and_nobody_listens_to_the_dead() -> None:
    assert checkers.hasty("a", Step.SYNCED, {"b": Step.DOUBLE, "c": Step.SYNCED}, {"b": []}) == []
    found = checkers.hasty("a", Step.SYNCED, {"b": Step.KNOWN, "c": Step.SYNCED}, {"c": ["z"]})
    told = [one.text.rpartition(", and ")[2] for one in found]
    assert told == ["b has not told of the one before", "c still listens to z, which is dead"]


@pytest.mark.parametrize(("homes", "weights", "hosts", "told"), [
    ([["a", "b"], ["c", "d"]], {}, {}, []),
    ([["a", "b"], ["a", "b"]], {}, {}, ["a with a weight of 100 is home of 2 partitions"]),
    ([["a", "b"], ["a", "c"]], {"a": 200}, {"d": "c"}, []),  # weights do not decide alone
    ([["a", "b"], ["c", "d"]], {}, {"b": "a"}, ["the homes a, b of partition 0 are in 1 machines"]),
])  # fmt: skip
def test_partitions_are_spread_by_machines_and_weights(homes, weights, hosts, told: list[str]) -> None:
    members = {
        name: NodeEntry(id=name.encode() * 16, address=name, host=hosts.get(name, name), weight=weights.get(name, 100)) for name in "abcd"
    }
    assert list(dict.fromkeys(one.text.partition(", ")[0] if "weight" in one.text else one.text.partition(", and")[0]
                              for one in checkers.placed(homes, members, 2)))[:1] == told  # fmt: skip


def test_a_copy_goes_when_enough_homes_have_all_of_it_on_disk() -> None:
    copy = Siblings().put(b"one", node=bytes(16))
    other = Siblings().put(b"other", node=b"o" * 16)
    homes = {"a": copy.packed, "b": copy.merge(other).packed, "c": other.packed, "d": None}
    assert checkers.copy_gone_early(KEY, copy.packed, homes, 2) == []
    found = checkers.copy_gone_early(KEY, copy.packed, homes, 3)
    assert [one.promise for one in found] == ["membership changes lose nothing"]
    assert "only a, b had all of it" in found[0].text


@pytest.mark.parametrize(("homes", "told"), [
    ([["a", "b", "c"], ["b", "c", "d"]], []),
    ([["a", "b", "c"], ["b", "c"]], ["partition 1 has the homes b, c, and should have 3"]),
    ([["a", "b", "b"], ["b", "c", "d"]], ["partition 0 has the homes a, b, b, and should have 3"]),
    ([["a", "b", "z"], ["b", "c", "d"]], ["a home of partition 0 is z, which has left"]),
    ([["a", "b", "y"], ["b", "c", "d"]], ["a home of partition 0 is y, which has never joined"]),
])  # fmt: skip
def test_every_partition_has_n_homes_that_are_members(homes: list[list[str]], told: list[str]) -> None:
    assert [one.text for one in checkers.wrong_homes(homes, {"a", "b", "c", "d"}, {"z"}, 3)] == told


def test_two_members_are_two_homes() -> None:
    assert checkers.wrong_homes([["a", "b"]], {"a", "b"}, set(), 3) == []


def test_who_is_no_home_holds_nothing() -> None:
    homes = [["a", "b", "c"], ["b", "c", "d"]]
    assert checkers.strays(homes, {"a": [0], "b": [0, 1], "z": []}) == []
    found = checkers.strays(homes, {"a": [0, 1], "z": [0]})
    assert [one.text.split(",")[0] for one in found] == ["a holds something of the partitions 1", "z holds something of the partitions 0"]
