from typing import NamedTuple

class Put(NamedTuple):
    key: bytes
    value: bytes
    bucket: bytes
    context: bytes
    put_id: bytes
    w: int
    dw: int | None
    strict: bool | None
    overwrite: bool
    tombstone: bool
    deadline_ms: int

class Get(NamedTuple):
    key: bytes
    bucket: bytes
    session_context: bytes
    r: int
    strict: bool | None
    deadline_ms: int

class Replicate(NamedTuple):
    placement: int
    key: bytes
    bucket: bytes
    object: bytes
    ack_durable: bool
    no_reply: bool
    hint_slot: int | None
    hint_for_all: bool

class Read(NamedTuple):
    placement: int
    key: bytes
    bucket: bytes
    known_hash: int

def encode_put(
    key: bytes,
    value: bytes = b"",
    *,
    put_id: bytes,
    bucket: bytes = b"",
    context: bytes = b"",
    w: int = 0,
    dw: int | None = None,
    strict: bool | None = None,
    overwrite: bool = False,
    tombstone: bool = False,
    deadline_ms: int = 0,
) -> bytes: ...
def decode_put(body: bytes) -> Put: ...
def encode_get(
    key: bytes, *, bucket: bytes = b"", session_context: bytes = b"", r: int = 0, strict: bool | None = None, deadline_ms: int = 0
) -> bytes: ...
def decode_get(body: bytes) -> Get: ...
def encode_get_reply(context: bytes, siblings: list[tuple[bytes, bool, int]]) -> bytes: ...
def decode_get_reply(body: bytes) -> tuple[bytes, list[tuple[bytes, bool, int]]]: ...
def encode_replicate(
    placement: int,
    key: bytes,
    object: bytes,
    *,
    bucket: bytes = b"",
    ack_durable: bool = False,
    no_reply: bool = False,
    hint_slot: int | None = None,
    hint_for_all: bool = False,
) -> bytes: ...
def decode_replicate(body: bytes) -> Replicate: ...
def encode_read(placement: int, key: bytes, *, bucket: bytes = b"", known_hash: int = 0) -> bytes: ...
def decode_read(body: bytes) -> Read: ...
