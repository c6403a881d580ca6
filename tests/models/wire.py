"""The wire format in plain Python, written from docs/protocol.md alone: the oracle for frames and data messages.

Each function returns the message as named parts in order, so that a test can join them and a reader can see them.
"""

from __future__ import annotations

import struct

Parts = list[tuple[str, bytes]]

_CRC_TABLE = []
for _byte in range(256):
    for _ in range(8):
        _byte = (_byte >> 1) ^ (0x82F63B78 if _byte & 1 else 0)
    _CRC_TABLE.append(_byte)


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def joined(parts: Parts) -> bytes:
    return b"".join(part for _, part in parts)


def frame(type: int, body: bytes, request_id: int = 0, status: int = 0, flags: int = 0) -> Parts:
    parts = [
        ("body bytes", struct.pack("<I", len(body))),
        ("type", struct.pack("<B", type)),
        ("flags", struct.pack("<B", flags)),
        ("status", struct.pack("<H", status)),
        ("request id", struct.pack("<Q", request_id)),
        ("CRC-32C of the body", struct.pack("<I", crc32c(body))),
    ]
    return [*parts, ("CRC-32C of the twenty bytes above", struct.pack("<I", crc32c(joined(parts))))]


def _strict(strict: bool | None) -> int:
    return 0 if strict is None else 2 | int(strict)


def put(
    *, key: bytes, value: bytes = b"", bucket: bytes = b"", context: bytes = b"", put_id: bytes, w: int = 0, dw: int | None = None,
    strict: bool | None = None, overwrite: bool = False, tombstone: bool = False, deadline_ms: int = 0,
) -> Parts:
    return [
        ("w", struct.pack("<B", w)),
        ("dw", struct.pack("<B", 255 if dw is None else dw)),
        ("flags", struct.pack("<B", _strict(strict) | overwrite << 2 | tombstone << 3)),
        ("bucket bytes", struct.pack("<B", len(bucket))),
        ("key bytes", struct.pack("<H", len(key))),
        ("context bytes", struct.pack("<H", len(context))),
        ("value bytes", struct.pack("<I", len(value))),
        ("deadline, ms", struct.pack("<I", deadline_ms)),
        ("put id", put_id),
        ("bucket", bucket),
        ("key", key),
        ("context", context),
        ("value", value),
    ]


def get(
    *, key: bytes, bucket: bytes = b"", session_context: bytes = b"", r: int = 0, strict: bool | None = None, deadline_ms: int = 0
) -> Parts:
    return [
        ("r", struct.pack("<B", r)),
        ("flags", struct.pack("<B", _strict(strict))),
        ("bucket bytes", struct.pack("<B", len(bucket))),
        ("zero", b"\0"),
        ("key bytes", struct.pack("<H", len(key))),
        ("session context bytes", struct.pack("<H", len(session_context))),
        ("deadline, ms", struct.pack("<I", deadline_ms)),
        ("bucket", bucket),
        ("key", key),
        ("session context", session_context),
    ]


def get_reply(*, context: bytes, siblings: list[tuple[bytes, bool, int]]) -> Parts:
    parts = [
        ("context bytes", struct.pack("<H", len(context))),
        ("siblings", struct.pack("<H", len(siblings))),
        ("zero", bytes(4)),
        ("context", context),
    ]
    for value, tombstone, timestamp_ms in siblings:
        parts += [
            ("value bytes", struct.pack("<I", len(value))),
            ("flags", struct.pack("<B", tombstone)),
            ("zero", bytes(3)),
            ("timestamp, ms", struct.pack("<Q", timestamp_ms)),
            ("value", value),
        ]
    return parts


def replicate(
    *, placement: int, key: bytes, bucket: bytes = b"", object: bytes, ack_durable: bool = False, no_reply: bool = False,
    hint_slot: int | None = None, hint_for_all: bool = False,
) -> Parts:
    hint = 12 if hint_for_all else 0 if hint_slot is None else 4 | hint_slot << 4
    return [
        ("placement", struct.pack("<Q", placement)),
        ("flags", struct.pack("<B", ack_durable | no_reply << 1 | hint)),
        ("bucket bytes", struct.pack("<B", len(bucket))),
        ("key bytes", struct.pack("<H", len(key))),
        ("object bytes", struct.pack("<I", len(object))),
        ("bucket", bucket),
        ("key", key),
        ("object", object),
    ]


def read(*, placement: int, key: bytes, bucket: bytes = b"", known_hash: int = 0) -> Parts:
    return [
        ("placement", struct.pack("<Q", placement)),
        ("known hash", struct.pack("<Q", known_hash)),
        ("flags", b"\0"),
        ("bucket bytes", struct.pack("<B", len(bucket))),
        ("key bytes", struct.pack("<H", len(key))),
        ("bucket", bucket),
        ("key", key),
    ]
