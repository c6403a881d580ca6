"""What moving records to another machine costs at the least: a plain copy from one LMDB into another, through a socket on loopback.

    python -m bench.plain_copy                  500,000 records with values of 1 KiB, then of 100 bytes
    python -m bench.plain_copy --records 50000 --rounds 1 --json build/plain_copy.json

One process reads all records in the order of their keys and sends them; another writes what comes in transactions as large as a
checkpoint's, each synced. Neither checks, merges, counts or answers anything: whoever moves records and does that too is measured against
this. The page cache is warm, as the records have just been written. Bytes are those of store keys and records; the median of the rounds.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from dynamo_fast.core.siblings import Siblings
from dynamo_fast.storage.mover import TRANSACTION_BYTES
from dynamo_fast.storage.schema import encode_record
from dynamo_fast.storage.tables import Tables, open_tables

MAP_BYTES = 1 << 34
KEY_BYTES = 24  # of a store key
SEND_BYTES = 1 << 20  # at once
LENGTH = struct.Struct("<I")  # of the record that follows it and its store key
END = struct.Struct("<d")  # the receiver's answer when all is on disk: its processor time in seconds


@dataclass(frozen=True)
class Copy:
    """One copy. Seconds are from the first record read to the last one synced; processor time is that of the two processes."""

    records: int
    value_bytes: int
    moved_bytes: int
    seconds: float
    sender_cpu_s: float
    receiver_cpu_s: float

    @property
    def bytes_per_s(self) -> float:
        return self.moved_bytes / self.seconds

    def as_dict(self) -> dict[str, float]:
        return {**asdict(self), "bytes_per_s": self.bytes_per_s}


def sorted_records(count: int, value_bytes: int) -> Iterator[tuple[bytes, bytes]]:
    """Store keys and records as a node has them, of keys of 16 bytes that were put once."""
    rng = random.Random(7)
    packed = Siblings().put(rng.randbytes(value_bytes), node=rng.randbytes(16), request_id=rng.randbytes(16)).packed
    for number, store_key in enumerate(sorted(rng.randbytes(KEY_BYTES) for _ in range(count))):
        yield store_key, encode_record(b"key:%012d" % number, packed, hash=number + 1)


def write(tables: Tables, entries: Iterable[tuple[bytes | memoryview, bytes | memoryview]]) -> None:
    """In sorted, synced transactions."""
    batch: list[tuple[bytes | memoryview, bytes | memoryview]] = []
    size = 0
    for entry in entries:
        batch.append(entry)
        size += len(entry[1])
        if size >= TRANSACTION_BYTES:
            commit(tables, batch)
            batch, size = [], 0
    commit(tables, batch)


def commit(tables: Tables, batch: Sequence[tuple[bytes | memoryview, bytes | memoryview]]) -> None:
    with tables.environment.begin(write=True) as transaction, transaction.cursor(tables.records) as cursor:
        cursor.putmulti(batch, overwrite=True)


def send(tables: Tables, connection: socket.socket) -> int:
    """Everything there is, in order; how many bytes that were."""
    parts: list[bytes | memoryview] = []
    held = total = 0
    with tables.environment.begin(buffers=True) as transaction, transaction.cursor(tables.records) as cursor:
        for store_key, record in cursor:
            parts += (LENGTH.pack(len(record)), store_key, record)
            held += KEY_BYTES + len(record)
            if held >= SEND_BYTES:
                connection.sendall(b"".join(parts))
                total += held
                parts, held = [], 0
        connection.sendall(b"".join(parts))
    return total + held


def received(stream: BinaryIO) -> Iterator[tuple[memoryview, memoryview]]:
    """Store keys and records, until the sender has said all."""
    while header := stream.read(LENGTH.size):
        entry = memoryview(stream.read(KEY_BYTES + LENGTH.unpack(header)[0]))
        yield entry[:KEY_BYTES], entry[KEY_BYTES:]


def receive(directory: Path, port: int) -> None:
    """The other process."""
    tables = open_tables(directory, MAP_BYTES)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        used = time.process_time()
        with io.BufferedReader(connection.makefile("rb", buffering=0), SEND_BYTES) as stream:
            write(tables, received(stream))
        connection.sendall(END.pack(time.process_time() - used))
    tables.environment.close()


def copied(tables: Tables, directory: Path, records: int, value_bytes: int) -> Copy:
    """One copy of these tables into new ones in a directory."""
    directory.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-m", "bench.plain_copy", "--receive", str(directory), str(listener.getsockname()[1])]
        with subprocess.Popen(command) as receiver:
            connection, _ = listener.accept()
            with connection:
                began, used = time.perf_counter(), time.process_time()
                moved = send(tables, connection)
                sender_cpu_s = time.process_time() - used
                connection.shutdown(socket.SHUT_WR)
                (receiver_cpu_s,) = END.unpack(connection.recv(END.size, socket.MSG_WAITALL))
                seconds = time.perf_counter() - began
            if receiver.wait() != 0:
                raise ChildProcessError(f"the receiver ended with {receiver.returncode}")
    return Copy(records, value_bytes, moved, seconds, sender_cpu_s, receiver_cpu_s)


def plain_copy(records: int, value_bytes: int, rounds: int, directory: Path | None = None) -> Copy:
    """The round with the median time. `directory` is where to write, a temporary one by default; what is written goes again."""
    with tempfile.TemporaryDirectory(prefix="bench-plain-copy-", dir=directory) as scratch:
        source = Path(scratch) / "source"
        source.mkdir()
        tables = open_tables(source, MAP_BYTES)
        write(tables, sorted_records(records, value_bytes))
        copies = [copied(tables, Path(scratch) / f"copy-{number}", records, value_bytes) for number in range(rounds)]
        tables.environment.close()
    seconds = statistics.median_low(copy.seconds for copy in copies)
    return next(copy for copy in copies if copy.seconds == seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--values", type=int, nargs="+", default=[1024, 100], metavar="BYTES", help="sizes of values")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=None, help="where to write; a temporary one by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="for the figures")
    parser.add_argument("--receive", nargs=2, metavar=("DIRECTORY", "PORT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.receive:
        return receive(Path(given.receive[0]), int(given.receive[1]))
    copies = [plain_copy(given.records, value_bytes, given.rounds, given.directory) for value_bytes in given.values]
    for copy in copies:
        sender_us, receiver_us = (seconds / copy.records * 1e6 for seconds in (copy.sender_cpu_s, copy.receiver_cpu_s))
        print(f"{copy.records:,} records, values of {copy.value_bytes} bytes: {copy.bytes_per_s / 1e6:.1f} MB/s, {copy.seconds:.2f} s; "
              f"cpu us a record: {sender_us:.2f} sending, {receiver_us:.2f} receiving")
    if given.json is not None:
        given.json.write_text(json.dumps([copy.as_dict() for copy in copies], indent=1) + "\n")


if __name__ == "__main__":
    main()
