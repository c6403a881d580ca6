"""`check`: a data directory verified while no node uses it: what is damaged, where, and what to do. Nothing in it is changed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

import dynamo_fast
from dynamo_fast.cli.output import FAILED, REFUSED, fail, print_json, progress
from dynamo_fast.core.membership import HistoryError, decode_history
from dynamo_fast.node.identity import FORMAT, FORMAT_FILE, IDENTITY, LOCK, MEMBERSHIP, Identity

LOCKS = (LOCK, "storage.lock", "lmdb/helper.lock")
FIGURES = ("records", "log_records", "log_bytes", "torn_bytes")
ANEW = "move the directory away and start this node anew, empty; it fetches everything from the other homes"


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def check(directory: Path, as_json: bool) -> None:
    """Verify the data directory of a node that is not running: identity, membership, every record of log and LMDB, every Merkle leaf.

    Exits with 0 when all is sound, with 1 when damage was found, and with 7 when the directory is in use or none of ours. It changes
    nothing: starting the node mends what can be mended.
    """
    with held(directory):
        if not (directory / IDENTITY).exists() and not (directory / "storage.json").exists():
            fail(f"{directory} is not a data directory of dynamo-fast: it holds neither {IDENTITY} nor storage.json", REFUSED)
        found_format = read(directory / FORMAT_FILE)
        if found_format is not None and found_format.strip() != str(FORMAT).encode():
            shown = found_format[:20].decode(errors="replace").strip()
            fail(f"{directory} has data format {shown}, and this version reads format {FORMAT}", REFUSED)
        damage, secret = verify_node_files(directory)
        report: dict[str, Any] = {"directory": str(directory)} | dict.fromkeys(FIGURES, 0) | {"suspects": []}
        with progress("records verified", None, as_json) as show:
            for line in storage_lines(directory, secret):
                if "done" in line:
                    show(line["done"], line["total"])
                elif "damage" in line:
                    damage.append(line["damage"])
                else:
                    report |= line["figures"]
    kinds = [dict(zip(("what", "where", "count", "advice"), one, strict=True)) for one in damage]
    report |= {"clean": not kinds, "damage": kinds}
    if as_json:
        print_json(report)
    else:
        show_report(report)
    sys.exit(FAILED if kinds else 0)


@contextlib.contextmanager
def held(directory: Path) -> Iterator[None]:
    """The locks of a node and its helper, as far as there are any, so that none starts meanwhile. Makes no file."""
    with contextlib.ExitStack() as stack:
        for name in LOCKS:
            try:
                descriptor = os.open(directory / name, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            except OSError as error:
                fail(f"{directory / name}: {error.strerror}", REFUSED)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                fail(f"{directory} is in use by another process: stop that node first", REFUSED)
        yield


def read(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None


def verify_node_files(directory: Path) -> tuple[list[list[object]], bytes | None]:
    """Damage of identity and membership; the cluster's secret when it can be read."""
    damage: list[list[object]] = []
    try:
        msgspec.json.decode(read(directory / IDENTITY) or b"", type=Identity)
    except (msgspec.DecodeError, ValueError):
        damage.append(["an identity that cannot be read", IDENTITY, 1, ANEW])
    try:
        history = read(directory / MEMBERSHIP)
        view = decode_history(history).view if history is not None else None
    except HistoryError as error:
        advice = f"restore the file from a backup, or {ANEW}"
        damage.append([f"a history of the cluster that cannot be read ({error})", MEMBERSHIP, 1, advice])
        view = None
    return damage, view.mac_key if view is not None else None


def storage_lines(directory: Path, secret: bytes | None) -> Iterator[dict[str, Any]]:
    """What the verifying process says; that it died, in its place."""
    root = str(Path(dynamo_fast.__file__).parent.parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))}
    command = [sys.executable, "-m", "dynamo_fast.storage.verify", str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{secret.hex() if secret else ''}\n")
        process.stdin.close()
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        died = signal.Signals(-process.returncode).name if process.returncode < 0 else f"exit code {process.returncode}"
        yield {"damage": [f"pages of LMDB that end the process which reads them ({died})", "lmdb/data.mdb", 1, ANEW]}


def show_report(report: dict[str, Any]) -> None:
    """For a person."""
    logged = f"{report['log_records']:,} in {report['log_bytes']:,} bytes of log"
    click.echo(f"{report['directory']}: {report['records']:,} records in LMDB, {logged}")
    if report["torn_bytes"]:
        click.echo(f"{report['torn_bytes']:,} bytes at the end of the log were never promised to anybody, and will be cut off: no damage")
    if report["suspects"]:
        click.echo(f"{len(report['suspects'])} partitions are suspect already, and wait to be synced from elsewhere")
    if report["clean"]:
        click.echo("sound: no damage found")
        return
    table = Table("what", "where", "how many", "what to do", box=None)
    for one in report["damage"]:
        table.add_row(one["what"], one["where"], f"{one['count']:,}", one["advice"])
    Console().print(table)
