"""What a get gives back: every causally maximal version of a key, and the one context that covers them (paper 4.4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from dynamo_fast.client.errors import NotFound, Siblings

Resolve = Callable[[Sequence[bytes]], bytes]  # two or more concurrent values, none covering another -> the one that stands for all


class Sibling(NamedTuple):
    """One version that no other version of the key has seen."""

    value: bytes  # empty when deleted
    deleted: bool  # the version is a delete that was concurrent with the others
    timestamp_ms: int  # wall clock of its coordinator, since 1970: for showing, never for ordering


class Result:
    """The answer of a get. A key that is not there is an answer too: `found` is False, `values` is empty.

    `context` says to a later put or delete what was seen here; it is opaque, belongs to this key, and may be kept or sent elsewhere.
    """

    __slots__ = ("context", "key", "resolved", "siblings")

    def __init__(self, key: bytes, context: bytes, siblings: Sequence[Sibling], resolved: bytes | None = None) -> None:
        self.key = key
        self.context = context
        self.siblings = siblings  # as stored, deletes included, in the same order on every node
        self.resolved = resolved  # what the caller's resolve function made of several values; not written back until somebody puts it

    @property
    def values(self) -> tuple[bytes, ...]:
        """The values that stand: none, one, or several concurrent ones. A delete concurrent with a put does not hide the put."""
        if self.resolved is not None:
            return (self.resolved,)
        return tuple([sibling[0] for sibling in self.siblings if not sibling[1]])

    @property
    def found(self) -> bool:
        """Whether there is any value."""
        return any(not sibling[1] for sibling in self.siblings)

    @property
    def value(self) -> bytes:
        """The value when there is exactly one; raises NotFound when there is none and Siblings when there are several."""
        values = self.values
        if len(values) == 1:
            return values[0]
        if not values:
            raise NotFound(f"no value for key {self.key!r}")
        raise Siblings(f"key {self.key!r} has {len(values)} concurrent values: give resolve=, or choose and put with result.context", self)

    def value_or(self, default: bytes | None) -> bytes | None:
        """The value when there is exactly one, `default` when there is none; raises Siblings when there are several."""
        return self.value if self.found else default

    def __repr__(self) -> str:
        return f"Result(key={self.key!r}, values={self.values!r})"


def resolve_with(result: Result, resolve: Resolve | None) -> Result:
    """The same result with several values made one, if there are several and a function was given."""
    if resolve is not None and len(result.siblings) > 1:
        values = result.values
        if len(values) > 1:
            result.resolved = resolve(values)
    return result
