"""What clients did and were told: the record that the checkers judge. It knows nothing of nodes, and fits real processes too.

Every write has a number, and its value starts with it, so that whoever reads a value knows the write that made it. A write's `seen` are
the writes that its context had been shown, by reads or by puts of its own: what it may replace, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum


class Fate(Enum):
    """What a client knows of a request. OPEN: nothing, it never came back."""

    OK = "ok"
    NOT_APPLIED = "certainly not applied"
    UNKNOWN = "unknown"
    OPEN = "open"


@dataclass(slots=True)
class Write:
    """One put or delete. Times are seconds; `w`, `dw` are what was in force for it.

    `firm`: those of `seen` that its context covers, so that they go wherever it is, whatever else was lost. A context that a put returned
    beside siblings covers its own version by its dot, which the next such context forgets: what that version had replaced, its own
    copies know (docs/protocol.md).
    """

    number: int
    actor: str
    key: bytes
    seen: frozenset[int]
    firm: frozenset[int]
    w: int
    dw: int
    strict: bool
    began_s: float
    tombstone: bool = False
    put_id: bytes = b""
    fate: Fate = Fate.OPEN
    ended_s: float = 0.0
    told: str = ""  # the error, if there was one
    clocked: frozenset[int] = frozenset()  # those of `seen` that its context covers by its clock
    stray: bool = False  # its context is of another key


@dataclass(slots=True)
class Read:
    """One get. `shown`: the writes whose versions it showed, deletes that its context covers included; `strange`: values nobody wrote."""

    number: int
    actor: str
    key: bytes
    r: int
    strict: bool
    session: bool
    began_s: float
    fate: Fate = Fate.OPEN
    ended_s: float = 0.0
    shown: frozenset[int] = frozenset()
    strange: tuple[bytes, ...] = ()


@dataclass(slots=True)
class Cart:
    """One addition to a set that siblings are merged into by union."""

    key: bytes
    item: bytes
    fate: Fate = Fate.OPEN


@dataclass
class Version:
    """One version that a key ended with: the write that made it, None if nobody did."""

    write: int | None
    value: bytes
    tombstone: bool


@dataclass
class History:
    """All of it, in the order in which it began. `last_write_wins`: keys whose concurrent writes may be dropped. `forgets`: deletes may be
    forgotten within the run, and then nothing shows any more that there was one."""

    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    carts: list[Cart] = field(default_factory=list)
    last_write_wins: set[bytes] = field(default_factory=set)
    forgets: bool = False
    deletes: dict[bytes, list[Write]] = field(default_factory=dict)  # by key, those of the writes

    def write(self, actor: str, key: bytes, seen: frozenset[int], firm: frozenset[int] | None = None, *, w: int = 2, dw: int = 1,
              strict: bool = False, now_s: float = 0.0, tombstone: bool = False) -> Write:  # fmt: skip
        """A write that begins; firm: None stands for all that was seen."""
        made = Write(len(self.writes), actor, key, seen, seen if firm is None else firm, w, dw, strict, now_s, tombstone)
        self.writes.append(made)
        if tombstone:
            self.deletes.setdefault(key, []).append(made)
        return made

    def read(self, actor: str, key: bytes, *, r: int = 2, strict: bool = False, session: bool = False, now_s: float = 0.0) -> Read:
        """A read that begins."""
        made = Read(len(self.reads), actor, key, r, strict, session, now_s)
        self.reads.append(made)
        return made

    def keys_written(self) -> list[bytes]:
        """Every key that anybody wrote to, in the order of the first writes."""
        return list(dict.fromkeys([*(one.key for one in self.writes), *(one.key for one in self.carts)]))

    @property
    def acknowledged(self) -> int:
        return sum(one.fate is Fate.OK for one in self.writes) + sum(one.fate is Fate.OK for one in self.carts)


def value_of(write: int, length: int = 0) -> bytes:
    """The value that a write puts: its number, filled up to a length."""
    return (b"%d;" % write).ljust(length, b".")


def write_of(value: bytes) -> int | None:
    """The number of the write that put a value; None for a value that nobody put."""
    number, semicolon, fill = value.partition(b";")
    return int(number) if semicolon and number.isdigit() and not fill.strip(b".") else None


def writes_in(history: History, key: bytes, values: Iterable[bytes]) -> tuple[frozenset[int], tuple[bytes, ...]]:
    """The writes behind the values of one key, and the values that no write of that key made, or that stand there a second time."""
    known: set[int] = set()
    strange = []
    for value in values:
        number = write_of(value)
        made = None if number is None or number >= len(history.writes) else history.writes[number]
        if made is None or made.key != key or made.tombstone or made.number in known:
            strange.append(value)
        else:
            known.add(made.number)
    return frozenset(known), tuple(strange)


def join_carts(carts: Iterable[bytes]) -> bytes:
    """The union of sets of items."""
    return b",".join(sorted({item for cart in carts for item in cart.split(b",") if item}))
