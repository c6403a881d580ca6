"""The two operations of the paper, get and put, and what is built of them, over the keys of one bucket.

Keys are bytes, or text that stands for its UTF-8; values are bytes. Every method raises DynamoError (client/errors.py says which), may be
cancelled at any time, and takes per-request options over the bucket object's own, over the cluster's settings for the bucket:

    r, w, dw    answers, copies, and fsynced copies to wait for; None leaves it to the bucket's settings in the cluster
    strict      home replicas only
    deadline_s  seconds, retries included; a client retries by itself whatever a retry can help
    session     a Session: answers cover everything seen through it (read your writes, monotonic reads)
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from dynamo_fast.client.attempts import Call, Get, Put
from dynamo_fast.client.context import Session, wrote_alone
from dynamo_fast.client.errors import BadRequest, BatchFailed, DynamoError, TooLarge
from dynamo_fast.client.listing import Keys
from dynamo_fast.client.results import Resolve, Result, resolve_with
from dynamo_fast.client.settings import BUCKET_BYTES_MAX, CONTEXT_BYTES_MAX, KEY_BYTES_MAX
from dynamo_fast.client.shared import Shared
from dynamo_fast.wire.control_messages import KEYS_PAGE_MAX

Key = bytes | str
Item = tuple[Key, bytes] | tuple[Key, bytes, bytes | None]  # key, value, and perhaps the context of a read
Items = Mapping[str, bytes] | Mapping[bytes, bytes] | Mapping[Key, bytes] | Iterable[Item]
Change = Callable[[bytes | None], bytes | Awaitable[bytes | None] | None]  # the value, None when absent -> the new one, None to delete
C = TypeVar("C", bound=Call)
COUNT_MAX = 254  # what one byte on the wire can ask for; 0 and 255 mean "the bucket's" there
MERGES_MAX = 3  # after an update that met another writer


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a bucket object adds to each of its requests that does not say otherwise; None: nothing."""

    r: int | None = None
    w: int | None = None
    dw: int | None = None
    strict: bool | None = None
    deadline_s: float | None = None
    session: Session | None = None
    resolve: Resolve | None = None


class Bucket:
    """The keys of one bucket, seen through one client. Making one costs nothing and asks nobody."""

    def __init__(self, shared: Shared, name: bytes, options: Options) -> None:
        self.name = name
        self._shared = shared
        self._options = options

    def bucket(self, name: Key, **options: Any) -> Bucket:
        """Another bucket through the same client; options as in `Options`, over this one's. BadRequest for a name over 64 bytes."""
        encoded = name.encode() if isinstance(name, str) else bytes(name)
        if len(encoded) > BUCKET_BYTES_MAX:
            raise BadRequest(f"a bucket name of {len(encoded)} bytes is too long: at most {BUCKET_BYTES_MAX}")
        return Bucket(self._shared, encoded, replace(self._options, **options))

    async def get(self, key: Key, *, r: int | None = None, strict: bool | None = None, deadline_s: float | None = None,
                  session: Session | None = None, resolve: Resolve | None = None) -> Result:  # fmt: skip
        """Every causally maximal version of the key and one context; a missing key is a Result that is not `found`.

        resolve: makes one value of several; what it returns is not written until somebody puts it with the result's context.
        """
        call = self._get(key, r, strict, session)
        await self._run([call], deadline_s)
        if call.error is not None:
            raise call.error
        assert call.result is not None
        return resolve_with(call.result, resolve or self._options.resolve)

    async def put(self, key: Key, value: bytes, *, context: bytes | None = None, overwrite: bool = False, w: int | None = None,
                  dw: int | None = None, strict: bool | None = None, deadline_s: float | None = None,
                  session: Session | None = None) -> bytes:  # fmt: skip
        """Writes the value over everything that the context has seen; returns the new context, once W nodes hold it.

        Without a context the write is blind: it is concurrent with whatever is there, and becomes a sibling of it. With `overwrite` it
        supersedes whatever its coordinator holds. The new context serves to write on without reading; where siblings
        stand that the writer has not seen, it does not cover them, so that nothing unseen is replaced: get the key to settle them.
        """
        call = self._put(key, value, context, overwrite, w, dw, strict, session)
        return await self._write(call, deadline_s)

    async def delete(self, key: Key, *, context: bytes | None = None, overwrite: bool = False, w: int | None = None, dw: int | None = None,
                     strict: bool | None = None, deadline_s: float | None = None, session: Session | None = None) -> bytes:  # fmt: skip
        """Deletes what the context has seen; returns the new context.

        Without a context (and without `overwrite`) the key is read first and what was read is deleted: a blind delete would leave every
        value standing beside it. If that read finds nothing, nothing is written. The read and the write have the deadline each for itself.
        """
        if context is None and not overwrite:
            call = self._get(key, None, strict, session)
            await self._run([call], deadline_s)
            if call.error is not None:
                raise call.error
            assert call.result is not None
            context = call.result.context
            if not call.result.found:
                return context
        return await self._write(self._put(key, b"", context, overwrite, w, dw, strict, session, tombstone=True), deadline_s)

    async def get_many(self, keys: Iterable[Key], *, r: int | None = None, strict: bool | None = None, deadline_s: float | None = None,
                       session: Session | None = None, resolve: Resolve | None = None) -> list[Result]:  # fmt: skip
        """The results of many keys, in their order. `deadline_s` holds for each window of requests (Settings.batch_requests_max).

        If any fails, the others are still read, and BatchFailed has all outcomes.
        """
        resolve = resolve or self._options.resolve

        def resolved(call: Get) -> Result:
            assert call.result is not None
            return resolve_with(call.result, resolve)

        return await self._run_many(_each(lambda key: self._get(key, r, strict, session), keys), lambda call: 0, resolved, deadline_s)

    async def put_many(self, items: Items, *, overwrite: bool = False, w: int | None = None,
                       dw: int | None = None, strict: bool | None = None, deadline_s: float | None = None,
                       session: Session | None = None) -> list[bytes]:  # fmt: skip
        """Puts many: a mapping, or (key, value) or (key, value, context) each; returns the new contexts in their order.

        Not a transaction: each put stands for itself. If any fails, the others are still tried, and BatchFailed has all outcomes.
        `deadline_s` holds for each window of requests (Settings.batch_requests_max and batch_bytes_max).
        """
        pairs: Iterable[Any] = items.items() if isinstance(items, Mapping) else items
        calls = _each(
            lambda item: self._put(item[0], item[1], item[2] if len(item) == 3 else None, overwrite, w, dw, strict, session), pairs
        )
        return await self._run_many(calls, lambda call: len(call.value), lambda call: call.result, deadline_s)

    async def update(self, key: Key, change: Change, *, resolve: Resolve | None = None, r: int | None = None, w: int | None = None,
                     dw: int | None = None, strict: bool | None = None, deadline_s: float | None = None,
                     session: Session | None = None) -> bytes | None:  # fmt: skip
        """Reads the value, writes `change(value)` with the context of that read, and returns what it wrote (None: deleted).

        Siblings are made one by `resolve` first; without it they raise Siblings. When another writer came between read and write and left
        a sibling, it is merged with what was written, by `resolve`, without calling `change` again; without `resolve` it stays for
        the next reader. `change` may be async; it is called once. Unknown: the change may have been written. Each read or
        write has the deadline for itself.
        """
        resolve = resolve or self._options.resolve
        result = await self.get(key, r=r, strict=strict, deadline_s=deadline_s, session=session, resolve=resolve)
        changed = change(result.value_or(None))
        value = await changed if inspect.isawaitable(changed) else changed
        for merges_left in reversed(range(MERGES_MAX + 1)):
            call = self._put(key, value or b"", result.context, False, w, dw, strict, session, tombstone=value is None)
            context = await self._write(call, deadline_s)
            if resolve is None or value is None or not merges_left or wrote_alone(result.context, context):
                break
            result = await self.get(key, r=r, strict=strict, deadline_s=deadline_s, session=session, resolve=resolve)
            if result.resolved is None:
                break
            value = result.resolved
        return value

    def keys(self, *, deadline_s: float | None = None, page: int = KEYS_PAGE_MAX) -> Keys:
        """Iterates (`async for`) over the bucket's keys, each once, as bytes, in no order that means anything (client/listing.py).

        A key put or deleted meanwhile may or may not be shown. `page`: how many keys are asked of a node at once, at most;
        `deadline_s` holds for each round of pages.
        """
        return Keys(self._shared, self.name, self._deadline(deadline_s), page)

    def _get(self, key: Key, r: int | None, strict: bool | None, session: Session | None) -> Get:
        options = self._options
        strict = options.strict if strict is None else strict
        return Get(self.name, _key_bytes(key), session or options.session, _count("r", r, options.r), strict)

    def _put(self, key: Key, value: bytes, context: bytes | None, overwrite: bool, w: int | None, dw: int | None, strict: bool | None,
             session: Session | None, tombstone: bool = False) -> Put:  # fmt: skip
        options, shared = self._options, self._shared
        if not isinstance(value, bytes):
            value = bytes(memoryview(value))  # a TypeError for text: only its writer knows its encoding
        if len(value) > shared.value_bytes_max():
            raise TooLarge(f"a value of {len(value)} bytes is too large: this cluster takes at most {shared.value_bytes_max()}")
        if context is not None and len(context) > CONTEXT_BYTES_MAX:
            raise TooLarge(f"a context of {len(context)} bytes is none of this protocol's")
        dw = options.dw if dw is None else dw
        strict = options.strict if strict is None else strict
        if dw is not None and not 0 <= dw <= COUNT_MAX:
            raise BadRequest(f"dw={dw} is out of range: it must be from 0 to N")
        return Put(self.name, _key_bytes(key), session or options.session, value, context or b"", shared.put_id(),
                   w=_count("w", w, options.w), dw=dw, strict=strict, overwrite=overwrite, tombstone=tombstone)  # fmt: skip

    def _deadline(self, deadline_s: float | None) -> float:
        if deadline_s is None:
            deadline_s = self._options.deadline_s if self._options.deadline_s is not None else self._shared.settings.deadline_s
        if not 0 < deadline_s <= self._shared.settings.deadline_s_max:
            raise BadRequest(f"deadline_s={deadline_s} must be more than 0 and at most {self._shared.settings.deadline_s_max:g}")
        return deadline_s

    async def _write(self, put: Put, deadline_s: float | None) -> bytes:
        """Runs one put and returns the new context."""
        await self._run([put], deadline_s)
        if put.error is not None:
            raise put.error
        assert put.result is not None
        return put.result

    async def _run(self, calls: Sequence[Call], deadline_s: float | None) -> None:
        await self._shared.caller.run(calls, self._deadline(deadline_s))

    async def _run_many(self, calls: Iterable[C | DynamoError], weight: Callable[[C], int], result_of: Callable[[C], Any],
                        deadline_s: float | None) -> list[Any]:  # fmt: skip
        """The results of calls, run window by window; BatchFailed with all outcomes when some are, or end in, errors."""
        outcomes: list[Any] = []
        for window in self._windows(calls, weight):
            await self._run([call for call in window if not isinstance(call, DynamoError)], deadline_s)
            outcomes += [call if isinstance(call, DynamoError) else call.error or result_of(call) for call in window]
        if any(isinstance(outcome, DynamoError) for outcome in outcomes):
            raise BatchFailed(outcomes)
        return outcomes

    def _windows(self, calls: Iterable[C | DynamoError], weight: Callable[[C], int]) -> Iterator[list[C | DynamoError]]:
        """Cuts calls, made one by one, into windows within both limits; a call larger than a window has one to itself."""
        settings = self._shared.settings
        window: list[C | DynamoError] = []
        window_bytes = 0
        for call in calls:
            window.append(call)
            window_bytes += 0 if isinstance(call, DynamoError) else weight(call)
            if len(window) >= settings.batch_requests_max or window_bytes >= settings.batch_bytes_max:
                yield window
                window, window_bytes = [], 0
        if window:
            yield window


def _key_bytes(key: Key) -> bytes:
    encoded = key.encode("utf-8", "surrogateescape") if isinstance(key, str) else bytes(key)
    if not encoded:
        raise BadRequest("an empty key cannot be stored: a key has 1 to 4096 bytes")
    if len(encoded) > KEY_BYTES_MAX:
        raise TooLarge(f"a key of {len(encoded)} bytes is too long: a key has 1 to {KEY_BYTES_MAX} bytes")
    return encoded


def _count(name: str, asked: int | None, option: int | None) -> int:
    """R or W as the wire has it, where 0 leaves it to the bucket; the node compares it with N."""
    count = option if asked is None else asked
    if count is None:
        return 0
    if not 1 <= count <= COUNT_MAX:
        raise BadRequest(f"{name}={count} is out of range: it must be from 1 to N")
    return count


def _each(make: Callable[[Any], C], items: Iterable[Any]) -> Iterator[C | DynamoError]:
    """The call for each item, or why there can be none: what is wrong with one of many must not hide what became of the others."""
    for item in items:
        try:
            call: C | DynamoError = make(item)
        except DynamoError as refused:
            call = refused
        yield call
