from typing import NamedTuple

class RecordParts(NamedTuple):
    bucket: bytes
    key: bytes
    packed: bytes
    mark_nonce: int
    mark_epoch: int
    hash: int
    owed: int
    placement_number: int

def encode_store_key(mac_key: bytes, position: bytes, key: bytes, bucket: bytes = b"") -> bytes: ...
def encode_record(
    key: bytes,
    packed: bytes,
    bucket: bytes = b"",
    *,
    mark_nonce: int = 0,
    mark_epoch: int = 0,
    hash: int = 0,
    owed: int = 0,
    placement_number: int = 0,
) -> bytes: ...
def decode_record(record: bytes) -> RecordParts: ...
def is_record(record: bytes) -> bool: ...
def record_hash(record: bytes) -> int: ...
