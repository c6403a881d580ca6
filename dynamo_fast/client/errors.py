"""What can go wrong with a request, sorted by the one question that matters: was it applied?

    DynamoError
    +-- NotApplied      certainly not applied: change the request, or try again later
    |   +-- BadRequest TooLarge BadContext TooManySiblings NoSuchBucket ClockFull KeyCollision UnsupportedVersion
    |   |   WrongCluster                        the same request would be refused again
    |   +-- Overload NotReady ReadOnly StalePlacement NotEnoughReplicas Unreachable
    |                                           the same request may succeed later, or at another node
    +-- Unknown         some replicas may hold it: a later read may or may not show it
    |   +-- QuorumFailed DeadlineExceeded ConnectionLost
    +-- NotFound        `.value` of a result that has none (a get itself does not raise it)
    +-- Siblings        `.value` of a result that has several
    +-- BatchFailed     some requests of a get_many or put_many failed; it has every outcome

A client retries by itself, within the request's deadline, whatever a retry can help: the error that comes out is what was left then.
An error after an attempt whose fate is unknown is always an `Unknown`, even if the last attempt was refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dynamo_fast.wire.status import Outcome, Status, outcome_of

if TYPE_CHECKING:
    from dynamo_fast.client.results import Result


class DynamoError(Exception):
    """Any failure of the store or of the way to it; its text says what happened and what to do."""


class NotApplied(DynamoError):
    """The request was certainly not applied: no replica holds anything of it."""


class Unknown(DynamoError):
    """The request may have been applied on some replicas, on all, or on none.

    Reading again, or repeating the same put with the context it had, loses nothing: at worst there is one more sibling of equal value.
    """


class BadRequest(NotApplied):
    """The request makes no sense: an empty key, an R above N, a malformed option."""


class TooLarge(NotApplied):
    """The key or the value is longer than the cluster's limits; or a get's answer longer than `Settings.answer_bytes_max`."""


class BadContext(NotApplied):
    """The context belongs to another key, bucket or cluster, or was damaged: read the key again and use the context of that read."""


class Overload(NotApplied):
    """A named limit was reached, in a node or in this client: slow down and try again."""


class TooManySiblings(NotApplied):
    """The key has as many siblings as the cluster allows: read it, resolve, and put with the context."""


class NotReady(NotApplied):
    """The node has not joined a cluster, or is still starting."""


class NoSuchBucket(NotApplied):
    """The bucket was never set: `dynamo-fast bucket set NAME` makes it."""


class ReadOnly(NotApplied):
    """The node's disk is full or failing: it answers reads only."""


class StalePlacement(NotApplied):
    """The request was sent after a placement that is no longer in force."""


class UnsupportedVersion(NotApplied):
    """Client and node have no protocol version in common."""


class ClockFull(NotApplied):
    """The key's clock has as many entries as a put may leave, or more than a get can tell: once it is settled it has fewer."""


class NotEnoughReplicas(NotApplied):
    """Too few replicas could be asked, known before anything was applied."""


class KeyCollision(NotApplied):
    """Another key is stored under the same hash (chance 2^-192): use another key."""


class WrongCluster(NotApplied):
    """The node belongs to another cluster than the one this client works with."""


class Unreachable(NotApplied):
    """No node could be asked: nothing was sent."""


class QuorumFailed(Unknown):
    """Fewer replicas answered than asked for, after some may have applied the request."""


class DeadlineExceeded(Unknown):
    """No answer within the request's deadline."""


class ConnectionLost(Unknown):
    """The connection broke after the request was sent and before its answer came."""


class NotFound(DynamoError, LookupError):
    """There is no value: the key was never put, or was deleted."""


class Siblings(DynamoError):
    """There are several concurrent values: choose or merge, then put with `.result.context`."""

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        self.result = result


class BatchFailed(DynamoError):
    """Some requests of a batch failed. `.outcomes` has, in the order of the batch, each one's result (as without failure) or its error."""

    def __init__(self, outcomes: Sequence[Any]) -> None:
        self.outcomes = outcomes
        self.errors = [outcome for outcome in outcomes if isinstance(outcome, DynamoError)]
        unknown = sum(isinstance(error, Unknown) for error in self.errors)
        super().__init__(
            f"{len(self.errors)} of {len(outcomes)} requests failed ({len(self.errors) - unknown} certainly not applied, "
            f"{unknown} unknown); first: {self.errors[0]}"
        )


OF_STATUS: dict[int, type[DynamoError]] = {
    Status.BAD_REQUEST: BadRequest,
    Status.TOO_LARGE: TooLarge,
    Status.BAD_CONTEXT: BadContext,
    Status.OVERLOAD: Overload,
    Status.TOO_MANY_SIBLINGS: TooManySiblings,
    Status.NOT_READY: NotReady,
    Status.NO_SUCH_BUCKET: NoSuchBucket,
    Status.READ_ONLY: ReadOnly,
    Status.STALE_PLACEMENT: StalePlacement,
    Status.UNSUPPORTED_VERSION: UnsupportedVersion,
    Status.CLOCK_FULL: ClockFull,
    Status.NOT_ENOUGH_REPLICAS: NotEnoughReplicas,
    Status.KEY_COLLISION: KeyCollision,
    Status.WRONG_CLUSTER: WrongCluster,
    Status.DEPARTED: WrongCluster,
    Status.QUORUM_FAILED: QuorumFailed,
    Status.DEADLINE: DeadlineExceeded,
}
RETRYABLE = (Overload, NotReady, ReadOnly, StalePlacement, NotEnoughReplicas, Unreachable, Unknown)


def no_such_bucket(name: bytes) -> NoSuchBucket:
    """The error of a bucket that was never set, by its name."""
    shown = name.decode("utf-8", "backslashreplace")
    return NoSuchBucket(f"there is no bucket {shown!r}: make it with `dynamo-fast bucket set {shown}`, or db.cluster.set_bucket")


def error_of(status: int, body: bytes) -> DynamoError:
    """The error of a reply whose status is neither OK nor NOT_FOUND; body: its text, UTF-8 (docs/protocol.md).

    A status of a newer protocol is taken by its range (wire/status.py).
    """
    text = body.decode("utf-8", "replace") or f"the node answered status {status} and no text"
    return OF_STATUS.get(status, NotApplied if outcome_of(status) is Outcome.NOT_APPLIED else Unknown)(text)
