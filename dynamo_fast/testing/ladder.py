"""The messages about one key as they arrive, a line each, for whoever has to find out what went wrong."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from dynamo_fast.client.context import seen_in
from dynamo_fast.core.siblings import ObjectError, Siblings
from dynamo_fast.testing.agenda import Agenda
from dynamo_fast.wire.data_messages import decode_get, decode_get_reply, decode_put, decode_read, decode_replicate
from dynamo_fast.wire.errors import WireError
from dynamo_fast.wire.frame import Frame, FrameCutter
from dynamo_fast.wire.status import MessageType, Status

REQUESTS = {MessageType.PUT, MessageType.GET, MessageType.REPLICATE, MessageType.READ}
REPLIES = {MessageType.PUT_REPLY, MessageType.GET_REPLY, MessageType.REPLICATE_REPLY, MessageType.READ_REPLY}


class Pipe(Protocol):
    """One direction of a connection, in either tier."""

    @property
    def names(self) -> tuple[str, str]: ...  # of the hosts from and to which it leads
    @property
    def back(self) -> Pipe: ...


class Watched(Protocol):
    """A simulated cluster of either tier."""

    @property
    def clock(self) -> Agenda: ...
    @property
    def network(self) -> Any: ...  # its `on_chunk` is called with every pipe and chunk


class Ladder:
    """Ladder(key), then `watch(cluster)` before the run; `lines` grow as messages arrive."""

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.lines: list[str] = []
        self._cutters: dict[Pipe, FrameCutter | None] = {}
        self._asked: set[tuple[Pipe, int]] = set()  # requests about the key that have no reply yet, by the pipe the reply takes

    def watch(self, cluster: Watched) -> None:
        self._cluster = cluster
        cluster.network.on_chunk = self._chunk

    def note(self, text: str) -> None:
        """Something that is no message."""
        self.lines.append(f"{self._cluster.clock.now:11.6f}  {text}")

    def _chunk(self, pipe: Pipe, data: bytes) -> None:
        cutter = self._cutters.setdefault(pipe, FrameCutter())
        if cutter is None:
            return
        try:
            for frame in cutter.feed(data):
                self._frame(pipe, frame)
        except WireError:
            self._cutters[pipe] = None  # corrupt bytes: the receiver ends this connection

    def _frame(self, pipe: Pipe, frame: Frame) -> None:
        if frame.type in REQUESTS:
            what = self._request(frame)
            if what is None:
                return
            self._asked.add((pipe.back, frame.request_id))
        elif frame.type in REPLIES and (pipe, frame.request_id) in self._asked:
            self._asked.discard((pipe, frame.request_id))
            what = reply_text(frame)
        elif self.key in frame.body:
            what = f"{len(frame.body)} bytes in which the key stands"
        else:
            return
        origin, target = pipe.names
        self.note(f"{origin:>7} -> {target:<7} {MessageType(frame.type).name:<15} #{frame.request_id:x} {what}")

    def _request(self, frame: Frame) -> str | None:
        """A request about the key in words; None for one about another key."""
        if frame.type == MessageType.PUT:
            put = decode_put(frame.body)
            flags = " delete" * put.tombstone + " overwrite" * put.overwrite + " strict" * bool(put.strict)
            text = f"{put.value[:24]!r} W={put.w} DW={put.dw}{flags} with {context_text(put.context)}"
            return text if put.key == self.key else None
        if frame.type == MessageType.GET:
            get = decode_get(frame.body)
            return f"R={get.r}{' strict' * bool(get.strict)}" if get.key == self.key else None
        if frame.type == MessageType.REPLICATE:
            replicate = decode_replicate(frame.body)
            return object_text(replicate.object) if replicate.key == self.key else None
        return "" if decode_read(frame.body).key == self.key else None


def reply_text(frame: Frame) -> str:
    status = Status(frame.status)
    if status not in (Status.OK, Status.NOT_FOUND):
        return f"{status.name} {frame.body.decode(errors='replace')}"
    if frame.type == MessageType.PUT_REPLY:
        return f"{status.name} {context_text(frame.body)}"
    if frame.type == MessageType.GET_REPLY:
        context, siblings = decode_get_reply(frame.body)
        shown = ", ".join("deleted" if deleted else repr(value[:24]) for value, deleted, _ in siblings)
        return f"{status.name} [{shown}] {context_text(context)}"
    return f"{status.name} {object_text(frame.body) if frame.body else ''}"


def object_text(packed: bytes) -> str:
    """An object as its clock and its versions."""
    try:
        found = Siblings(packed)
    except ObjectError:
        return f"{len(packed)} bytes that are no object"
    versions = ", ".join(f"{event_text(*one.dot)} {'deleted' if one.tombstone else repr(one.value[:24])}" for one in found.siblings)
    return f"[{versions}] under {clock_text((entry.node, entry.epoch, entry.counter) for entry in found.clock)}"


def context_text(context: bytes) -> str:
    seen = seen_in(context)
    clock = clock_text((actor[:16], int.from_bytes(actor[16:], "little"), counter) for actor, counter in seen.clock.items())
    dot = "" if seen.dot is None else f" and {event_text(seen.dot[0][:16], int.from_bytes(seen.dot[0][16:], 'little'), seen.dot[1])}"
    return f"context {clock}{dot}" if context else "no context"


def clock_text(entries: Iterable[tuple[bytes, int, int]]) -> str:
    return "(" + " ".join(event_text(*one) for one in entries) + ")"


def event_text(node: bytes, epoch: int, counter: int) -> str:
    return f"{node[:2].hex()}/{epoch & 0xFFFF:04x}:{counter}"
