"""The client for scripts and notebooks: the same names as the one for trio, without async.

    with dynamo_fast.blocking.connect(["127.0.0.1:7400"]) as db:
        db.put("greeting", b"hello")

It is the trio client, run in a thread of its own; calls from any number of threads share its connections. A call costs about a tenth of
a millisecond more than the trio client's, so use `get_many` and `put_many` for many keys. Functions given to it (`resolve`, `change`)
run in that thread: keep them short, and do not call the client from them.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, ParamSpec, TypedDict, TypeVar, Unpack

import trio

from dynamo_fast.client import bucket as trio_bucket
from dynamo_fast.client import client as trio_client
from dynamo_fast.client.bucket import Change, Items, Key
from dynamo_fast.client.context import Session
from dynamo_fast.client.errors import ConnectionLost, DynamoError, NotApplied
from dynamo_fast.client.members import ChangeProgress
from dynamo_fast.client.results import Resolve, Result
from dynamo_fast.core.membership import MemberChange
from dynamo_fast.core.options import BucketSettings
from dynamo_fast.wire.control_messages import (
    KEYS_PAGE_MAX,
    BucketListReply,
    HintsReply,
    PlacementReply,
    RepairReply,
    RingInfoReply,
    StatusReply,
)
from dynamo_fast.wire.membership_messages import ChangeReply

P = ParamSpec("P")
T = TypeVar("T")
KEYS_AT_ONCE = 1000


class ReadOptions(TypedDict, total=False):
    """As in client/bucket.py."""

    r: int | None
    strict: bool | None
    deadline_s: float | None
    session: Session | None
    resolve: Resolve | None


class WriteOptions(TypedDict, total=False):
    """As in client/bucket.py."""

    w: int | None
    dw: int | None
    strict: bool | None
    deadline_s: float | None
    session: Session | None


class ChangeOptions(TypedDict, total=False):
    """As in client/operations.py."""

    unsafe: bool
    deadline_s: float | None


class UpdateOptions(ReadOptions, total=False):
    """As in client/bucket.py."""

    w: int | None
    dw: int | None


class Loop:
    """The thread in which the trio client lives."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        """connect: makes the trio client's context manager. Raises what entering it raises."""
        self._connect = connect
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._closing: trio.Event | None = None
        self.db: trio_client.Client
        self._thread = threading.Thread(target=self._run, name="dynamo-fast client", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure

    def call(self, function: Callable[P, Awaitable[T]], *args: P.args, **options: P.kwargs) -> T:
        """Runs an async function of the client to its end and returns what it returns. From any thread but the client's own."""
        token = self._token  # another thread may close the client at any moment
        if token is None:
            raise NotApplied("the client is closed")
        try:
            return trio.from_thread.run(partial(function, *args, **options), trio_token=token)
        except trio.RunFinishedError:
            raise NotApplied("the client is closed") from None
        except trio.Cancelled:
            raise ConnectionLost("the client was closed while the request was under way") from None

    def close(self) -> None:
        """Ends the thread. Harmless when it has ended."""
        token, self._token = self._token, None
        if token is not None and self._closing is not None:
            try:
                token.run_sync_soon(self._closing.set)
            except trio.RunFinishedError:
                return
            self._thread.join()

    def _run(self) -> None:
        try:
            trio.run(self._live)
        except BaseException as error:
            self._failure = error
        finally:
            self._token = None
            self._started.set()

    async def _live(self) -> None:
        async with self._connect() as self.db:
            self._closing = trio.Event()
            self._token = trio.lowlevel.current_trio_token()
            self._started.set()
            await self._closing.wait()


class Bucket:
    """The keys of one bucket. Each method does what the trio client's method of the same name does, and raises the same errors."""

    def __init__(self, loop: Loop, bucket: trio_bucket.Bucket) -> None:
        self.loop = loop
        self._bucket = bucket

    @property
    def name(self) -> bytes:
        return self._bucket.name

    def bucket(self, name: Key, **options: Any) -> Bucket:
        return Bucket(self.loop, self._bucket.bucket(name, **options))

    def get(self, key: Key, **options: Unpack[ReadOptions]) -> Result:
        return self.loop.call(self._bucket.get, key, **options)

    def put(
        self, key: Key, value: bytes, *, context: bytes | None = None, overwrite: bool = False, **options: Unpack[WriteOptions]
    ) -> bytes:
        return self.loop.call(self._bucket.put, key, value, context=context, overwrite=overwrite, **options)

    def delete(self, key: Key, *, context: bytes | None = None, overwrite: bool = False, **options: Unpack[WriteOptions]) -> bytes:
        return self.loop.call(self._bucket.delete, key, context=context, overwrite=overwrite, **options)

    def get_many(self, keys: Iterable[Key], **options: Unpack[ReadOptions]) -> list[Result]:
        return self.loop.call(self._bucket.get_many, list(keys), **options)

    def put_many(
        self, items: Items, *, overwrite: bool = False, **options: Unpack[WriteOptions]
    ) -> list[bytes]:
        items = items if isinstance(items, Mapping) else list(items)
        return self.loop.call(self._bucket.put_many, items, overwrite=overwrite, **options)

    def update(self, key: Key, change: Change, **options: Unpack[UpdateOptions]) -> bytes | None:
        return self.loop.call(self._bucket.update, key, change, **options)

    def keys(self, *, deadline_s: float | None = None, page: int = KEYS_PAGE_MAX) -> Iterator[bytes]:
        listing = self._bucket.keys(deadline_s=deadline_s, page=page)
        while some := self.loop.call(listing.take, KEYS_AT_ONCE):
            yield from some


class Cluster:
    """`db.cluster`, as in client/operations.py."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop

    def placement(self) -> PlacementReply:
        return self.loop.call(self.loop.db.cluster.placement)

    def status(self, deadline_s: float | None = None) -> dict[str, StatusReply | DynamoError]:
        return self.loop.call(self.loop.db.cluster.status, deadline_s)

    def hints(self, deadline_s: float | None = None) -> dict[str, HintsReply | DynamoError]:
        return self.loop.call(self.loop.db.cluster.hints, deadline_s)

    def ring(self, deadline_s: float | None = None) -> RingInfoReply:
        return self.loop.call(self.loop.db.cluster.ring, deadline_s)

    def buckets(self, deadline_s: float | None = None) -> BucketListReply:
        return self.loop.call(self.loop.db.cluster.buckets, deadline_s)

    def set_bucket(self, name: str | bytes, settings: BucketSettings, deadline_s: float | None = None) -> bool:
        return self.loop.call(self.loop.db.cluster.set_bucket, name, settings, deadline_s)

    def repair(self, address: str, run: int = 0, deadline_s: float | None = None) -> RepairReply:
        return self.loop.call(self.loop.db.cluster.repair, address, run, deadline_s)

    def join(self, *addresses: str, **options: Unpack[ChangeOptions]) -> ChangeReply:
        return self.loop.call(self.loop.db.cluster.join, *addresses, **options)

    def leave(self, *names: str, dead: bool = False, **options: Unpack[ChangeOptions]) -> ChangeReply:
        return self.loop.call(self.loop.db.cluster.leave, *names, dead=dead, **options)

    def replace(self, old: str, new_address: str, *, dead: bool = False, **options: Unpack[ChangeOptions]) -> ChangeReply:
        return self.loop.call(self.loop.db.cluster.replace, old, new_address, dead=dead, **options)

    def set_weight(self, name: str, weight: int, **options: Unpack[ChangeOptions]) -> ChangeReply:
        return self.loop.call(self.loop.db.cluster.set_weight, name, weight, **options)

    def set_zone(self, host: str, zone: str, **options: Unpack[ChangeOptions]) -> ChangeReply:
        return self.loop.call(self.loop.db.cluster.set_zone, host, zone, **options)

    def change(self, changes: Sequence[MemberChange], unsafe: bool = False, deadline_s: float | None = None) -> ChangeReply:
        return self.loop.call(self.loop.db.cluster.change, changes, unsafe, deadline_s)

    def progress(self, deadline_s: float | None = None) -> ChangeProgress:
        return self.loop.call(self.loop.db.cluster.progress, deadline_s)

    def wait_settled(
        self, timeout_s: float | None = None, look: Callable[[ChangeProgress], None] | None = None, *, at_least: int = 0
    ) -> bool:
        return self.loop.call(self.loop.db.cluster.wait_settled, timeout_s, look, at_least=at_least)


class Client(Bucket):
    """A connected client. Close it, or use it in a `with`; one that is forgotten ends with the process."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop, loop.db)
        self.cluster = Cluster(loop)

    def statistics(self) -> dict[str, Any]:
        async def statistics() -> dict[str, Any]:
            return self.loop.db.statistics()

        return self.loop.call(statistics)

    def close(self) -> None:
        self.loop.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


def connect(seeds: Iterable[str] | str = "127.0.0.1:7400", **options: Any) -> Client:
    """A client of the cluster that the seeds belong to; arguments and errors as in `dynamo_fast.connect`."""
    return Client(Loop(partial(trio_client.connect, seeds, **options)))
