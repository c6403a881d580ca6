"""Was every promise kept? Pure functions over a recorded history; each returns the violations it finds.

The first is causal closure: every acknowledged write is among the final versions, or was seen by a write that is itself accounted for.
It needs no search: what a version had seen, and so on, is known (causes.py), and whatever acknowledged write is not among it is lost.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import accumulate
from operator import or_
from typing import NamedTuple

from dynamo_fast.core.change import Step
from dynamo_fast.core.membership import NodeEntry
from dynamo_fast.core.siblings import Siblings
from dynamo_fast.storage.schema import decode_record
from dynamo_fast.testing.causes import Causes
from dynamo_fast.testing.history import Fate, History, Read, Version, Write

ACTOR_BYTES = 24  # of a dot: node and epoch
Final = Mapping[bytes, Sequence[Version]]  # by key, the versions that remain when all is healed


class Violation(NamedTuple):
    """A promise that was not kept, for which key, in a sentence."""

    promise: str
    key: bytes
    text: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.text}"


def there(history: History, causes: Causes, final: Final) -> dict[bytes, int]:
    """By key, the writes of the final versions and whatever they had seen, as bits of `causes`."""
    bits: dict[bytes, int] = {}
    for versions in final.values():
        for one in versions:
            if one.write is not None:
                key = history.writes[one.write].key
                bits[key] = bits.get(key, 0) | causes.of([one.write])
    return bits


def lost_writes(history: History, final: Final) -> list[Violation]:
    """Acknowledged, and neither there nor replaced by a write that had seen it."""
    causes = Causes(history)
    reached = there(history, causes, final)
    return [
        Violation("no lost write", one.key, f"write {one.number} of {one.key!r} by {one.actor} was acknowledged at {one.ended_s:.6f} s"
                  f" (W={one.w} DW={one.dw}) and is neither there nor replaced by one that had seen it")
        for one in history.writes
        if one.fate is Fate.OK
        and not (reached.get(one.key, 0) | causes.forgotten.get(one.key, 0)) & causes.bit[one.number]
        and one.key not in history.last_write_wins
    ]  # fmt: skip


def zombies(history: History, final: Final, applied_twice: Callable[[Write], bool], *, lossless: bool) -> list[Violation]:
    """There, although a write that was applied had seen it.

    A put that two coordinators applied is two versions, and one may outlive the other (docs/protocol.md): such a write is nobody's zombie.
    Unless nothing was ever lost (`lossless`), a write that was never acknowledged may have been shown and then be gone, and what
    it had replaced stands again.
    """
    causes = Causes(history)
    reached = there(history, causes, final)
    shown = {number for read in history.reads for number in read.shown} if lossless else set()
    replaced: dict[int, int] = {}
    for one in history.writes:
        if one.fate is Fate.OK or one.number in shown or reached.get(one.key, 0) & causes.bit[one.number]:
            replaced |= dict.fromkeys(one.firm, one.number)
    return [
        Violation("no zombie", key, f"write {version.write} of {key!r} is there, although write {replaced[version.write]} had seen it")
        for key, versions in final.items()
        for version in versions
        if version.write in replaced and key not in history.last_write_wins and not applied_twice(history.writes[version.write])
    ]


def phantoms(history: History, final: Final) -> list[Violation]:
    """Shown or there, although nobody wrote it, or its writer was told that it certainly was not applied."""
    found = [
        Violation("no phantom", read.key, f"read {read.number} of {read.key!r} showed {value[:40]!r}, which nobody wrote there, or twice")
        for read in history.reads
        for value in read.strange
    ]
    found += [
        Violation("honest answers", read.key, f"read {read.number} showed write {number}, whose writer {history.writes[number].actor}"
                  f" was told it was certainly not applied: {history.writes[number].told}")
        for read in history.reads
        for number in sorted(read.shown)
        if history.writes[number].fate is Fate.NOT_APPLIED
    ]  # fmt: skip
    for key, versions in final.items():
        for version in versions:
            if version.write is None:
                found.append(Violation("no phantom", key, f"{key!r} ended with {version.value[:40]!r}, which nobody wrote there"))
            elif history.writes[version.write].fate is Fate.NOT_APPLIED:
                found.append(Violation("honest answers", key, f"{key!r} ended with write {version.write}, which certainly was not applied"))
    return found


def dishonest_refusals(history: History, applied: Callable[[Write], bool]) -> list[Violation]:
    """Some replica stored it, although its writer was told that it certainly was not applied."""
    return [
        Violation("honest answers", one.key, f"write {one.number} of {one.key!r} was stored, and {one.actor} was told: {one.told}")
        for one in history.writes
        if one.fate is Fate.NOT_APPLIED and applied(one)
    ]


def unanswered(history: History) -> list[Violation]:
    """Nobody is away, and nothing is wrong but contexts of other keys: every put is acknowledged, and every get answered."""
    requests: list[Write | Read] = [*(one for one in history.writes if not one.stray), *history.reads]
    return [
        Violation("always writable", one.key, f"{type(one).__name__.lower()} {one.number} of {one.key!r} by {one.actor} is"
                  f" {one.fate.value}, and nobody was away")
        for one in requests
        if one.fate is not Fate.OK
    ]  # fmt: skip


def strays_accepted(history: History) -> list[Violation]:
    """A context is of one key: with that of another one, which says nothing of what its writer has seen here, nothing is written."""
    return [
        Violation("no lost write", one.key, f"write {one.number} of {one.key!r} by {one.actor} was made with the context of another key")
        for one in history.writes
        if one.stray and one.fate is Fate.OK
    ]


def nothing_said(read: Read, homes: Mapping[str, bool]) -> list[Violation]:
    """A get is being answered with nothing at all; by home, whether it has held a version of the key since before the get began. Only a
    home can tell that there is none."""
    if not all(homes.values()):
        return []
    text = f"read {read.number} of {read.key!r} by {read.actor} found nothing, and all homes ({', '.join(homes)}) hold it all the time"
    return [Violation("honest answers", read.key, text)]


def copies_missing(write: Write, copies: int, on_disk: int, homes: int) -> list[Violation]:
    """A put that is being acknowledged: on how many machines are copies of it, and on how many disks; and how many homes the key has."""
    if copies >= min(write.w, homes) and on_disk >= min(write.dw, homes):
        return []
    text = f"write {write.number} of {write.key!r} by {write.actor} was acknowledged with {copies} copies, {on_disk} of them on disk"
    return [Violation("acknowledged is W copies, DW on disk", write.key, f"{text} (W={write.w} DW={write.dw})")]


def retries_applied(history: History, dots: Callable[[Write], Sequence[tuple[bytes, float]]], deadline_s: float) -> list[Violation]:
    """A coordinator made two versions of one put within its deadline, though it has held the key all the time. `dots` of a write: node,
    epoch and counter, and when each was made."""
    found = []
    for write in history.writes:
        actors = [dot[:ACTOR_BYTES] for dot, made_s in dots(write) if made_s <= write.began_s + deadline_s]
        if len(set(actors)) < len(actors):
            text = f"write {write.number} of {write.key!r} by {write.actor} is {len(actors)} versions, two of one coordinator"
            found.append(Violation("a retry makes one version", write.key, text))
    return found


def lost_items(history: History, final_carts: Mapping[bytes, frozenset[bytes]]) -> list[Violation]:
    """Additions to a set that were acknowledged and are not in the union of its final versions."""
    return [
        Violation("no lost write", one.key, f"item {one.item!r} of the cart {one.key!r} was acknowledged and is gone")
        for one in history.carts
        if one.fate is Fate.OK and one.item not in final_carts.get(one.key, frozenset())
    ]


def several_winners(history: History, final: Final) -> list[Violation]:
    """A key whose conflicts the clock settles has at most one version."""
    return [
        Violation("last write wins", key, f"{key!r} has {len(versions)} versions")
        for key, versions in final.items()
        if key in history.last_write_wins and len(versions) > 1
    ]


def listed_wrongly(listed: Sequence[bytes], final: Final) -> list[Violation]:
    """A listing of all keys, at rest: each that has a living version once, and no other."""
    living = {key for key, versions in final.items() if any(not one.tombstone for one in versions)}
    wrong = [(key, "is listed, and was deleted, or never written") for key in sorted(set(listed) - living)]
    wrong += [(key, "is not listed") for key in sorted(living - set(listed))]
    wrong += [(key, "is listed twice") for key, times in Counter(listed).items() if times > 1]
    return [Violation("a listing shows the living keys", key, f"{key!r} {text}") for key, text in wrong]


def diverged(copies: Mapping[bytes, Mapping[str, bytes | None]]) -> list[Violation]:
    """By key, what each home holds, packed: all the same."""
    return [
        Violation("convergence", key, f"the homes of {key!r} differ: "
                  + ", ".join(f"{home} {'nothing' if one is None else f'{len(one)} bytes'}" for home, one in homes.items()))
        for key, homes in copies.items()
        if len(set(homes.values())) > 1
    ]  # fmt: skip


def hint_gone_early(key: bytes, kept: bytes, owners: Mapping[str, bytes | None]) -> list[Violation]:
    """A hint, packed, that is being removed; by owner that it was kept for, what that one has on disk: each has all that the hint says."""
    hint = Siblings(kept)
    return [
        Violation("hints reach their owners", key, f"a hint for {name} on {key!r} was removed, and {name} has "
                  + ("nothing" if held is None else "something else") + " on its disk")
        for name, held in owners.items()
        if held is None or Siblings(held).merge(hint).packed != held
    ]  # fmt: skip


def forgotten_early(home: str, key: bytes, forgotten: bytes, held: Mapping[str, bytes | None]) -> list[Violation]:
    """A delete, packed, that a home forgets; by other machine, what that one holds of the key: nothing that the delete has replaced, which
    would come back."""
    delete = Siblings(forgotten)
    return [
        Violation("no zombie", key, f"{home} forgets a delete of {key!r}, and {name} holds something that it has replaced")
        for name, packed in held.items()
        if packed is not None and Siblings(packed).merge(delete).packed != packed
    ]


def still_owed(keeper: str, record: bytes | None, hash: int, slots: int, placement_number: int) -> list[Violation]:
    """A hint's record once the homes in those slots have confirmed the version of that hash, and their keeper has taken note of it: it is
    not kept for them any more."""
    if record is None:
        return []
    parts = decode_record(record)
    if parts.hash != hash or not parts.owed or (parts.placement_number == placement_number & 0xFFFF and not parts.owed & slots):
        return []
    return [Violation("hints reach their owners", parts.key, f"{keeper} keeps a hint on {parts.key!r} for who has confirmed it")]


def hasty(name: str, step: Step, told: Mapping[str, Step], listening: Mapping[str, Collection[str]]) -> list[Violation]:
    """A node begins a step. By other node that it has to wait for, the last step on the same way that this one has told of: the one before,
    at least; and whom of the dead it still listens to: nobody."""
    found = [f"{other} has not told of the one before" for other, last in told.items() if last < step - 1]
    found += [f"{other} still listens to {', '.join(dead)}, which is dead" for other, dead in listening.items() if dead]
    return [Violation("membership changes lose nothing", b"", f"{name} begins {step.name}, and {one}") for one in found]


def brought_short(gainer: str, source: str, held: Mapping[bytes, bytes], has: Mapping[bytes, bytes | None]) -> list[Violation]:
    """Somebody says that it has brought up to date what it gains. By store key, what a home before held when that began, packed, and what
    the gainer has on disk: all of it."""
    found = []
    for store_key, packed in held.items():
        mine = has[store_key]
        if mine is None or Siblings(mine).merge(Siblings(packed)).packed != mine:
            text = f"{gainer} has told that it holds what {source} held, and has {'nothing' if mine is None else 'something else'}"
            found.append(Violation("membership changes lose nothing", b"", f"{text} on its disk under {store_key.hex()}"))
    return found


def copy_gone_early(key: bytes, kept: bytes, homes: Mapping[str, bytes | None], copies: int) -> list[Violation]:
    """A copy, packed, that is being removed by somebody who is no home any more; by home, what that one has on disk: as many as make a
    write safe have all that the copy says."""
    copy = Siblings(kept)
    whole = [name for name, held in homes.items() if held is not None and Siblings(held).merge(copy).packed == held]
    if len(whole) >= copies:
        return []
    text = f"a copy of {key!r} was removed by one that had been its home, and of the homes {', '.join(homes)}"
    return [Violation("membership changes lose nothing", key, f"{text} only {', '.join(whole) or 'none'} had all of it on disk")]


def wrong_homes(homes: Sequence[Sequence[str]], members: Collection[str], departed: Collection[str], replicas: int) -> list[Violation]:
    """By partition, the names of its homes: as many as there have to be, all different, all of them members."""
    wanted = min(replicas, len(members))
    found = []
    for partition, names in enumerate(homes):
        wrong = [name for name in names if name not in members or name in departed]
        strangers = [f"{name}, which has {'left' if name in departed else 'never joined'}" for name in wrong]
        if len(set(names)) != wanted:
            found.append(f"partition {partition} has the homes {', '.join(names)}, and should have {wanted}")
        if strangers:
            found.append(f"a home of partition {partition} is {' and '.join(strangers)}")
    return [Violation("every key has N owners", b"", text) for text in found]


def huddled(homes: Sequence[Sequence[str]], place_of: Mapping[str, str], what: str, replicas: int) -> list[Violation]:
    """By partition, the names of its homes; by member, the machine or the zone that it is in: homes are in as many as there are."""
    wanted = min(replicas, len(set(place_of.values())))
    found = []
    for partition, names in enumerate(homes):
        places = {place_of[name] for name in names if name in place_of}
        if len(places) < wanted:
            text = f"the homes {', '.join(names)} of partition {partition} are in {len(places)} {what}, and could be in {wanted}"
            found.append(Violation("membership changes lose nothing", b"", text))
    return found


def uneven(homes: Sequence[Sequence[str]], weights: Mapping[str, int]) -> list[Violation]:
    """No member is home of so many partitions that another one, with one more than it has, would hold less for its weight; where nothing
    but weights decides, which is within one zone, on a machine for each member."""
    loads = {name: sum(name in names for names in homes) for name in weights}
    return [
        Violation("membership changes lose nothing", b"", f"{one} with a weight of {weights[one]} is home of {loads[one]} partitions, {two}"
                  f" with {weights[two]} of {loads[two]}")
        for one in weights
        for two in weights
        if loads[two] < len(homes) and loads[one] * weights[two] > (loads[two] + 1) * weights[one]
    ]  # fmt: skip


def placed(homes: Sequence[Sequence[str]], members: Mapping[str, NodeEntry], replicas: int) -> list[Violation]:
    """The partitions are spread over machines and zones as far as that can be, and over members by their weights."""
    hosts = {name: one.host for name, one in members.items()}
    zones = {name: one.zone for name, one in members.items()}
    found = huddled(homes, hosts, "machines", replicas) + huddled(homes, zones, "zones", replicas)
    if len(set(zones.values())) == 1 and len(set(hosts.values())) == len(hosts):
        found += uneven(homes, {name: one.weight for name, one in members.items()})
    return found


def strays(homes: Sequence[Sequence[str]], holding: Mapping[str, Iterable[int]]) -> list[Violation]:
    """By machine, the partitions of which it holds anything: it is a home of all of them."""
    found = []
    for name, held in holding.items():
        foreign = [partition for partition in held if name not in homes[partition]]
        if foreign:
            text = f"{name} holds something of the partitions {', '.join(map(str, foreign))}, of which it is no home"
            found.append(Violation("every key has N owners", b"", text))
    return found


def stale_reads(history: History, n: int, *, strict_only: bool = True) -> list[Violation]:
    """Reads that miss a write which was acknowledged before they began. With `strict_only` those of strict reads and strict writes with
    R+W>N, which are promised to be regular; else all, which sloppy ones are not: the negative control."""
    causes = Causes(history)
    by_key: dict[bytes, list[Write]] = {}
    for write in sorted(history.writes, key=lambda write: write.ended_s):
        if write.fate is Fate.OK and write.key not in history.last_write_wins:
            by_key.setdefault(write.key, []).append(write)
    before: dict[tuple[bytes, int], tuple[list[float], list[int]]] = {}  # by key and least W, when writes ended, and all up to each as bits
    found = []
    for read in history.reads:
        if read.fate is not Fate.OK or (strict_only and not read.strict):
            continue
        w_min = n - read.r + 1 if strict_only else 0
        if (read.key, w_min) not in before:
            counting = [one for one in by_key.get(read.key, ()) if one.w >= w_min and (one.strict or not strict_only)]
            bits = accumulate((causes.bit[one.number] for one in counting), or_, initial=0)
            before[read.key, w_min] = [one.ended_s for one in counting], list(bits)
        ends, known = before[read.key, w_min]
        missed = known[bisect_left(ends, read.began_s)] & ~causes.of(read.shown) & ~causes.forgotten.get(read.key, 0)
        for number in causes.numbers(read.key, missed):
            text = f"read {read.number} of {read.key!r} by {read.actor} began at {read.began_s:.6f} s and missed write {number}"
            ended_s = history.writes[number].ended_s
            found.append(Violation("strict reads are regular", read.key, f"{text}, acknowledged at {ended_s:.6f} s"))
    return found


def broken_sessions(history: History) -> list[Violation]:
    """In a session no read misses what the session wrote or read before it, of the same key. Where deletes may be forgotten within the run,
    so may be, for a session, whatever is as old and was lost without having been acknowledged."""
    causes = Causes(history)
    lasting = {one.number for one in history.writes if one.fate is Fate.OK or not history.forgets}
    found = []
    events: dict[tuple[str, bytes], list[tuple[float, int, bool]]] = {}
    for write in history.writes:
        if write.fate is Fate.OK:
            events.setdefault((write.actor, write.key), []).append((write.ended_s, write.number, False))
    for read in history.reads:
        if read.fate is Fate.OK and read.session:
            events.setdefault((read.actor, read.key), []).append((read.ended_s, read.number, True))
    for (actor, key), in_order in events.items():
        known = 0
        for _, number, is_read in sorted(in_order):
            if not is_read:
                known |= causes.bit[number]
                continue
            shown = history.reads[number].shown
            missed = causes.numbers(key, known & ~causes.of(shown) & ~causes.forgotten.get(key, 0))
            if missed and key not in history.last_write_wins:
                text = f"read {number} of {key!r} by {actor} missed write {missed[0]}, which its session knew"
                found.append(Violation("sessions", key, text))
            for one in shown & lasting:
                known |= causes.bit[one]
    return found
