"""What a run came to, judged: everything that clients were told, every dot that was ever issued, and what each home holds in the end.

The same for every simulator. The checkers themselves are in `checkers.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dynamo_fast.core.siblings import Siblings
from dynamo_fast.testing import checkers
from dynamo_fast.testing.checkers import Final, Violation
from dynamo_fast.testing.dots import DotRegistry
from dynamo_fast.testing.history import History, Version, Write, join_carts, write_of

Copies = Mapping[bytes, Mapping[str, bytes | None]]  # by key and by home, what that one holds, packed


DotsOf = Callable[[Write], list[tuple[bytes, float]]]  # node, epoch and counter, 32 bytes each; and when it was made, seconds


def applied_twice(write: Write, dots_of: DotsOf) -> bool:
    """Whether two coordinators made a version of it."""
    return len(dots_of(write)) > 1


def final_versions(history: History, copies: Copies) -> dict[bytes, list[Version]]:
    """By key, all that any home has, merged; a delete's write is found by its put id."""
    of_put = {(one.key, one.put_id): one.number for one in history.writes if one.put_id}
    found = {}
    for key, homes in copies.items():
        merged = Siblings.reconcile([Siblings(one) for one in homes.values() if one is not None])
        found[key] = [
            Version(of_put.get((key, one.request_id)) if one.tombstone else write_of(one.value), one.value, one.tombstone)
            for one in merged.siblings
        ]
    return found


def judge(
    history: History, dots: DotRegistry, dots_of: DotsOf, copies: Copies, *, n: int, lossless: bool, regular: bool,
    deadline_s: float,
) -> list[Violation]:  # fmt: skip
    """`dots_of`: those that a write was given; `lossless`: nothing was ever lost anywhere; `regular`: strict reads with R+W>N are promised
    to be so; `deadline_s`: of every put."""
    final = final_versions(history, copies)
    carts = {one.key for one in history.carts}
    plain: Final = {key: versions for key, versions in final.items() if key not in carts}
    items = {key: frozenset(join_carts([one.value for one in final[key]]).split(b",")) for key in final if key in carts}
    found = [Violation("a dot is never issued twice", b"", text) for text in dots.violations]
    found += checkers.lost_writes(history, plain)
    found += checkers.lost_items(history, items)
    found += checkers.zombies(history, plain, lambda write: applied_twice(write, dots_of), lossless=lossless)
    found += checkers.phantoms(history, plain)
    found += checkers.dishonest_refusals(history, lambda write: bool(dots_of(write)))
    found += checkers.strays_accepted(history)
    found += checkers.retries_applied(history, dots_of, deadline_s)
    found += checkers.several_winners(history, plain)
    found += checkers.diverged(copies)
    found += checkers.broken_sessions(history)
    if regular:
        found += checkers.stale_reads(history, n)
    return found
