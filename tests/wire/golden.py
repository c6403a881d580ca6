"""The golden messages of docs/protocol.md, read out of the page: what tests and fuzzers start from.

`python -m tests.wire.golden` writes the hexadecimal below each message's fields anew, by the plain-Python model: for
whoever adds a message to the page. The test suite checks that there is nothing to write.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tests.models import wire as model

PAGE = Path(__file__).parents[2] / "docs/protocol.md"
HEADER_BYTES = 24
BYTES_PER_LINE = 16
BLOCK = re.compile(r"^```golden (.+?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# Type -> how the model writes the body's fields; statuses above NOT_FOUND carry text, but for the word that a node has departed.
MODELS = {16: model.put, 18: model.get, 19: model.get_reply, 32: model.replicate, 34: model.read}
MESSAGE_PACK_TYPES = {1, 2, 48, 49}
DEPARTED = (2, 30)  # type and status
PIECE, MORE = 16, 32  # flags of a frame


@dataclass(frozen=True)
class Vector:
    """One complete message and what it says. In `body` strings stand for bytes, see `unhexed`; with `piece_bytes` it is in pieces of that
    many bytes, and `frame` has all of them."""

    name: str
    type: int
    flags: int
    status: int
    request_id: int
    body: Any
    frame: bytes
    piece_bytes: int = 0

    @property
    def body_bytes(self) -> bytes:
        step = HEADER_BYTES + (self.piece_bytes or len(self.frame))
        return b"".join(self.frame[at + HEADER_BYTES : at + step] for at in range(0, len(self.frame), step))


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
    for name, block in BLOCK.findall(page):
        fields, listing = block.split("\n\n")
        frame = bytes.fromhex("".join(line.split(";")[0] for line in listing.splitlines()))
        vectors.append(Vector(name=name, frame=frame, **json.loads(fields)))
    return vectors


def body_parts(type: int, status: int, body: Any) -> model.Parts:
    """The named parts of a body, by the model, from its fields on the page."""
    if status > 1 and (type, status) != DEPARTED:
        return [("text", as_bytes(body))]
    if type in MESSAGE_PACK_TYPES:
        return [("MessagePack", msgspec.msgpack.encode(unhexed(body)))]
    if type in MODELS:
        return MODELS[type](**as_bytes(body))
    return [("context" if type == 17 else "object", as_bytes(body))]


def head_of(fields: dict[str, Any], body: bytes, flags: int = 0) -> model.Parts:
    return model.frame(fields["type"], body, fields["request_id"], fields["status"], fields["flags"] | flags)


def in_pieces(fields: dict[str, Any], body: bytes) -> model.Parts:
    """The frames of a message, each with its piece of the body."""
    step, parts = fields["piece_bytes"], []
    for at in range(0, len(body), step):
        piece = body[at : at + step]
        parts += [*head_of(fields, piece, PIECE | (MORE if at + step < len(body) else 0)), ("piece", piece)]
    return parts


def listing(fields: dict[str, Any]) -> str:
    """The frame, or frames, in hexadecimal, a part or sixteen bytes to a line."""
    parts = body_parts(fields["type"], fields["status"], fields["body"])
    lines = []
    for what, data in in_pieces(fields, model.joined(parts)) if "piece_bytes" in fields else head_of(fields, model.joined(parts)) + parts:
        for at in range(0, len(data), BYTES_PER_LINE):
            lines.append(f"{data[at : at + BYTES_PER_LINE].hex(' '):<{3 * BYTES_PER_LINE}}; {'...' if at else what}\n")
    return "".join(lines)


def rewritten(page: str) -> str:
    """The page with every listing written anew from its fields."""

    def block(match: re.Match[str]) -> str:
        fields = match[2].split("\n\n")[0].rstrip("\n")
        return f"```golden {match[1]}\n{fields}\n\n{listing(json.loads(fields))}```"

    return BLOCK.sub(block, page)


VECTORS = parse(PAGE.read_text(encoding="utf-8"))

if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
