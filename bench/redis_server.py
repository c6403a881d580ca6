"""redis-server processes for comparisons: each on a port of its own, in a directory of its own, gone with its `with` block."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.processes import free_port, wait_until

START_TIMEOUT_S = 10.0


class RedisServer:
    """One redis-server on loopback, persistence by append-only file only. `appendfsync` as in redis.conf."""

    def __init__(self, directory: Path, *, appendfsync: str = "everysec", replica_of: RedisServer | None = None) -> None:
        executable = shutil.which("redis-server")
        if executable is None:
            raise FileNotFoundError("redis-server is not installed: apt-get install redis-server")
        self.directory = directory
        self.port = free_port()
        self.command = [
            executable, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(directory), "--logfile", "redis.log",
            "--daemonize", "no", "--save", "", "--appendonly", "yes", "--appendfsync", appendfsync,
        ]
        if replica_of is not None:
            self.command += ["--replicaof", "127.0.0.1", str(replica_of.port)]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            wait_until(self.answers, f"redis-server on port {self.port}", START_TIMEOUT_S)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise ChildProcessError(f"redis-server ended with {self.process.returncode}; see {self.directory}/redis.log")
        try:
            return self.ask("PING") == b"+PONG\r\n"
        except OSError:
            return False

    def ask(self, command: str) -> bytes:
        """The first piece of the reply to an inline command."""
        with socket.create_connection(self.address, timeout=5) as connection:
            connection.sendall(command.encode() + b"\r\n")
            return connection.recv(1 << 16)

    def wait_replicas(self, count: int) -> None:
        """Until so many replicas have caught up."""
        wait_until(lambda: self.ask("INFO replication").count(b"state=online") == count, f"{count} redis replicas", 30)
