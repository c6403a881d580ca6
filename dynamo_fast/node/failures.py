"""What a nursery's tasks fail with comes out as one group; whoever asked several peers at once wants to know of one failure."""

from __future__ import annotations


def failure_of(group: BaseExceptionGroup[BaseException], *kinds: type[Exception]) -> BaseException:
    """The first failure of these kinds in a group, as itself. Whatever else is in it goes before them: who is cancelled while others fail
    is cancelled, and nothing else."""
    failures, others = group.split(kinds)
    if others is not None:
        return others
    found: BaseException = group if failures is None else failures
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
