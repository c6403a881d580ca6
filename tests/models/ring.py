"""The ring in plain Python, from the paper: the oracle for core.digest and core.ring."""

from __future__ import annotations

import hashlib


def key_position(key: bytes, bucket: bytes = b"") -> bytes:
    if bucket:
        key = bytes([len(bucket)]) + bucket + key
    return hashlib.md5(key).digest()


def partition(position: bytes, partitions: int) -> int:
    """Which of `partitions` equal slices of the ring holds a position."""
    return int.from_bytes(position, "big") * partitions >> 128


def walk(tokens: list[tuple[bytes, int]], position: bytes, count: int) -> tuple[int, ...]:
    """Clockwise from a position over tokens of (position, node): the first `count` distinct nodes (paper, section 4.3)."""
    clockwise = sorted(token for token in tokens if token[0] > position) + sorted(token for token in tokens if token[0] <= position)
    met: list[int] = []
    for _, node in clockwise:
        if node not in met:
            met.append(node)
    return tuple(met[:count])
