"""dynamo-fast: a highly available, always writable, replicated key-value store after Amazon's Dynamo (SOSP 2007).

    async with dynamo_fast.connect(["127.0.0.1:7400"]) as db:       # trio
        context = await db.put("greeting", b"hello")
        result = await db.get("greeting")                            # result.values, result.value, result.context

    with dynamo_fast.blocking.connect(["127.0.0.1:7400"]) as db:    # scripts and notebooks, the same names
        db.put("greeting", b"hello")

The names below are the public ones. They are loaded when first used, so that a node, which needs none of them, starts without them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from dynamo_fast.client import blocking
    from dynamo_fast.client.bucket import Bucket, Options
    from dynamo_fast.client.client import Client, connect
    from dynamo_fast.client.context import Session
    from dynamo_fast.client.errors import (
        BadContext,
        BadRequest,
        BatchFailed,
        ClockFull,
        ConnectionLost,
        DeadlineExceeded,
        DynamoError,
        KeyCollision,
        NoSuchBucket,
        NotApplied,
        NotEnoughReplicas,
        NotFound,
        NotReady,
        Overload,
        QuorumFailed,
        ReadOnly,
        Siblings,
        StalePlacement,
        TooLarge,
        TooManySiblings,
        Unknown,
        Unreachable,
        UnsupportedVersion,
        WrongCluster,
    )
    from dynamo_fast.client.results import Result, Sibling
    from dynamo_fast.client.settings import Settings
    from dynamo_fast.core.options import BucketSettings

_HOMES = {
    "client.bucket": ("Bucket", "Options"),
    "client.client": ("Client", "connect"),
    "client.context": ("Session",),
    "client.errors": (
        "BadContext", "BadRequest", "BatchFailed", "ClockFull", "ConnectionLost", "DeadlineExceeded", "DynamoError", "KeyCollision",
        "NoSuchBucket", "NotApplied", "NotEnoughReplicas", "NotFound", "NotReady", "Overload", "QuorumFailed", "ReadOnly", "Siblings",
        "StalePlacement", "TooLarge", "TooManySiblings", "Unknown", "Unreachable", "UnsupportedVersion", "WrongCluster",
    ),
    "client.results": ("Result", "Sibling"),
    "client.settings": ("Settings",),
    "core.options": ("BucketSettings",),
}  # fmt: skip
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "BadContext", "BadRequest", "BatchFailed", "Bucket", "BucketSettings", "Client", "ClockFull", "ConnectionLost", "DeadlineExceeded",
    "DynamoError", "KeyCollision", "NoSuchBucket", "NotApplied", "NotEnoughReplicas", "NotFound", "NotReady", "Options", "Overload",
    "QuorumFailed", "ReadOnly", "Result", "Session", "Settings", "Sibling", "Siblings", "StalePlacement", "TooLarge", "TooManySiblings",
    "Unknown", "Unreachable", "UnsupportedVersion", "WrongCluster", "__version__", "blocking", "connect",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name == "blocking":
        return import_module("dynamo_fast.client.blocking")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'dynamo_fast' has no attribute {name!r}")
    return getattr(import_module(f"dynamo_fast.{_HOME_OF[name]}"), name)
