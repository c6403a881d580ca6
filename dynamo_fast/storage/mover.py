"""The node's end of the helper process that moves records into LMDB: starting it, asking it, hearing from it.

A request says which range of the write buffer to move, and where in the shared region its records lie; the records
themselves are not sent. It also names leaves of Merkle trees that are to be summed up anew after that. One request is under way at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO, NamedTuple

import dynamo_fast

REQUEST = struct.Struct("<IQII")  # range, log position, bytes of the stretches and of the leaves that follow
STRETCH = struct.Struct("<QQ")  # offset and length in the region
LEAF = struct.Struct("<II")  # partition and leaf: to be summed up anew
REPLY = struct.Struct("<IIQQQI")  # kind, range, records, their bytes, processor time so far in ns, bytes of the text that follows
COMMITTED, DONE, FAILED = 1, 2, 3

TRANSACTION_BYTES = 4 << 20  # of records in one transaction: what one commit writes and syncs at once
PIPE_BYTES = 1 << 20  # 65,536 stretches


class Reply(NamedTuple):
    """What the helper says: a transaction is committed, a request done, or failed."""

    kind: int
    range_index: int
    records: int
    record_bytes: int
    cpu_ns: int
    text: str


class Mover:
    """Starts the helper with the first request, and again when it has died. Descriptors are inherited, nothing is forked."""

    def __init__(self, lmdb_path: Path, map_bytes: int, region_fd: int, region_bytes: int, partitions: int) -> None:
        numbers = (map_bytes, region_fd, region_bytes, partitions, TRANSACTION_BYTES, os.getpid())
        self._arguments = [str(lmdb_path), *map(str, numbers)]
        self._region_fd = region_fd
        self._process: subprocess.Popen[bytes] | None = None
        self._heard = b""
        self.starts = 0

    @property
    def pid(self) -> int | None:
        """Of the helper, None while there is none."""
        return self._process.pid if self._process is not None else None

    def request(self, range_index: int, position: int, stretches: bytes, leaves: Iterable[tuple[int, int]]) -> None:
        """`stretches` are STRETCHes. OSError when the helper cannot be started or is gone; the request may be made again."""
        process = self._process or self._start()
        assert process.stdin is not None
        try:
            packed = b"".join(LEAF.pack(*leaf) for leaf in sorted(leaves))
            process.stdin.write(REQUEST.pack(range_index, position, len(stretches), len(packed)) + stretches + packed)
            process.stdin.flush()
        except OSError:
            self.stop()
            raise

    def _start(self) -> subprocess.Popen[bytes]:
        # From the calling thread: the kernel kills the helper when the thread that started it ends.
        root = str(Path(dynamo_fast.__file__).parent.parent)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))}
        process = subprocess.Popen(
            [sys.executable, "-m", "dynamo_fast.storage.helper", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[self._region_fd],
            start_new_session=True,
            env=environment,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        fcntl.fcntl(process.stdin.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)  # so that a request never waits for its reader
        os.set_blocking(process.stdout.fileno(), False)
        self._process = process
        self._heard = b""
        self.starts += 1
        return process

    def poll(self) -> list[Reply]:
        """What has come since the last time. ConnectionError when the helper has died: a new one starts with the next request."""
        if self._process is None:
            return []
        output: IO[bytes] | None = self._process.stdout
        assert output is not None
        try:
            while piece := os.read(output.fileno(), 65536):
                self._heard += piece
        except BlockingIOError:
            return self._cut()
        code = self._process.wait()
        self.stop()
        raise ConnectionError(f"the process that moves records to LMDB ended with code {code}")

    def _cut(self) -> list[Reply]:
        replies, offset = [], 0
        while len(self._heard) - offset >= REPLY.size:
            *numbers, text_bytes = REPLY.unpack_from(self._heard, offset)
            end = offset + REPLY.size + text_bytes
            if len(self._heard) < end:
                break
            kind, range_index, records, record_bytes, cpu_ns = numbers
            text = self._heard[end - text_bytes : end].decode(errors="replace")
            replies.append(Reply(kind, range_index, records, record_bytes, cpu_ns, text))
            offset = end
        self._heard = self._heard[offset:]
        return replies

    def stop(self) -> None:
        """Kills the helper; a transaction that it has not committed is as if it had not begun."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # bytes that it will not read any more
                    pipe.close()
