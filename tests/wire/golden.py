"""The golden messages of docs/protocol.md, read out of the page: what tests and fuzzers start from."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs/protocol.md"
HEADER_BYTES = 24


@dataclass(frozen=True)
class Vector:
    """One complete frame and what it says. In `body` strings stand for bytes, see `unhexed`."""

    name: str
    type: int
    flags: int
    status: int
    request_id: int
    body: Any
    frame: bytes

    @property
    def body_bytes(self) -> bytes:
        return self.frame[HEADER_BYTES:]


def unhexed(value: Any) -> Any:
    """JSON of the page with every string that starts with 0x as the bytes it stands for."""
    if isinstance(value, str) and value.startswith("0x"):
        return bytes.fromhex(value[2:])
    if isinstance(value, dict):
        return {key: unhexed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [unhexed(item) for item in value]
    return value


def as_bytes(value: Any) -> Any:
    """The same, with every other string as its UTF-8 bytes."""
    value = unhexed(value)
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict):
        return {key: as_bytes(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_bytes(item) for item in value]
    return value


def parse(page: str) -> list[Vector]:
    vectors = []
    for name, block in re.findall(r"^```golden (.+?)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        fields, listing = block.split("\n\n")
        frame = bytes.fromhex("".join(line.split(";")[0] for line in listing.splitlines()))
        vectors.append(Vector(name=name, frame=frame, **json.loads(fields)))
    return vectors


VECTORS = parse(PAGE.read_text(encoding="utf-8"))
