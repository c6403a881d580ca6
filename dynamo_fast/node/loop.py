"""The machine's own parts for a node: the data plane over the reactor, and the engine in the data directory."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from dynamo_fast.env import Env
from dynamo_fast.net.reactor import Reactor
from dynamo_fast.node.config import Config
from dynamo_fast.node.data_plane import DataPlane
from dynamo_fast.node.interfaces import ControlFrame
from dynamo_fast.node.logged_puts import LoggedPuts
from dynamo_fast.storage.engine import Engine
from dynamo_fast.storage.lmdb_engine import LmdbEngine
from dynamo_fast.storage.memory_engine import MemoryEngine
from dynamo_fast.storage.settings import StorageSettings
from dynamo_fast.wire.connection import Outbox

log = logging.getLogger("dynamo_fast.node")


def open_engine(config: Config, env: Env, directory: Path) -> Engine:
    """The engine that the configuration names, recovered and ready. Blocks while it replays its log."""
    storage, partitions = config.storage, config.cluster.partitions
    if storage.engine == "memory":
        return MemoryEngine(partitions=partitions, bytes_max=storage.write_buffer_bytes_max)
    bounds = StorageSettings(
        log_bytes_max=storage.log_bytes_max,
        log_segment_bytes=storage.log_segment_bytes,
        write_buffer_bytes_max=storage.write_buffer_bytes_max,
        lmdb_map_bytes=storage.lmdb_map_bytes,
    )
    logged = LoggedPuts(
        int.from_bytes(env.random_bytes(8), "little"),
        config.requests.put_ids_max,
        config.requests.deadline_ms_max,
        int(env.now() * 1000),
        env.wall_ms(),
    )
    engine = LmdbEngine(directory, env.disk, bounds, partitions=partitions, visitor=logged)
    log.info("the records are open", extra=asdict(engine.recovery) | {"suspects": len(engine.recovery.suspects)})
    return engine


def build_loop(
    config: Config, env: Env, node_id: bytes, engine: Engine, control: ControlFrame, storage_failed: Callable[[Exception], None]
) -> tuple[DataPlane, Reactor]:
    """A data plane that knows no cluster yet, and the reactor that drives it."""
    data_plane = DataPlane(
        node_id=node_id,
        nonce=int.from_bytes(env.random_bytes(8), "little"),
        engine=engine,
        limits=config.limits,
        requests=config.requests,
        cluster_defaults=config.defaults,
        random_bytes=env.random_bytes,
        now_ms=int(env.now() * 1000),
        control=control,
        storage_failed=storage_failed,
    )
    if isinstance(engine, LmdbEngine) and isinstance(engine.visitor, LoggedPuts):
        data_plane.remember_puts(engine.visitor)
    return data_plane, Reactor(data_plane, Outbox(), config.limits)
