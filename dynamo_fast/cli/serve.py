"""`dynamo-fast serve`: one node, or with --workers K a supervisor of K node processes on one machine."""

from __future__ import annotations

import errno
import gc
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
import trio

from dynamo_fast.cli import logs
from dynamo_fast.env import format_address, parse_address
from dynamo_fast.node.config import Config, ConfigError, Setting, dump_config, load_config, settings

if TYPE_CHECKING:
    from dynamo_fast.cli.processes import Children

log = logging.getLogger("dynamo_fast.cli")

REFUSED = 7
NOT_LISTENING = {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES, socket.EAI_NONAME}  # what a listening socket may refuse with
WORKER_PORT_STEP = 10  # worker i listens this many ports above worker i - 1
RESTART_S = 1.0  # a process that died, or must be a new one, is started again after this

# Settings that have a flag; the rest are for the file and the environment. `--set` reaches all of them.
FLAGS = (
    "node.data_dir", "node.listen", "node.advertise", "node.host", "node.zone", "node.weight", "node.seeds", "node.bootstrap",
    "node.workers", "node.insecure_listen", "cluster.partitions", "cluster.replicas", "requests.r", "requests.w", "requests.dw",
    "requests.strict", "storage.engine", "log.format", "log.level",
)  # fmt: skip


def setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """One option per entry of FLAGS, named after its last part: --data-dir, --seeds (also --seed) ..."""
    known = settings()
    for name in reversed(FLAGS):
        section, key = name.split(".")
        setting = known[section][key]
        spelled = f"--{'log-' if section == 'log' else ''}{key.replace('_', '-')}"
        variable = f"{section}__{key}"  # click's own names have no dots
        help_text = f"{setting.description[0].upper()}{setting.description[1:]}."
        if isinstance(setting.default, bool):
            option = click.option(spelled, variable, is_flag=True, default=None, help=help_text)
        elif isinstance(setting.default, int):
            option = click.option(spelled, variable, type=int, default=None, help=help_text)
        elif isinstance(setting.default, list):
            singular = (spelled.removesuffix("s"),) if spelled.endswith("s") else ()
            option = click.option(spelled, *singular, variable, multiple=True, metavar="ADDRESS[,ADDRESS...]", help=help_text)
        else:
            choices = setting.allowed.split(" or ")
            metavar = f"[{'|'.join(choices)}]" if len(choices) > 1 else "TEXT"
            option = click.option(spelled, variable, default=None, metavar=metavar, help=help_text)
        command = option(command)
    return command


def given_flags(arguments: Mapping[str, Any], assignments: tuple[str, ...]) -> dict[str, Any]:
    """The options that were used, as `load_config` takes them; ConfigError for a --set that names nothing."""
    flags: dict[str, Any] = {}
    for variable, value in arguments.items():
        name = variable.replace("__", ".")
        if isinstance(value, tuple):
            addresses = [one.strip() for part in value for one in part.split(",") if one.strip()]
            flags |= {name: addresses} if addresses else {}
        elif value is not None:
            flags[name] = value
    for assignment in assignments:
        name, _, text = assignment.partition("=")
        flags[name.strip()] = typed(find_setting(name.strip()), text.strip())
    return flags


def find_setting(name: str) -> Setting:
    section, _, key = name.partition(".")
    known = settings()
    if section not in known:
        raise ConfigError(f"unknown setting {name}; sections are {', '.join(known)}")
    if key not in known[section]:
        raise ConfigError(f"unknown setting {name}; [{section}] has {', '.join(known[section])}")
    return known[section][key]


def typed(setting: Setting, text: str) -> Any:
    """The text of a --set as the type of its setting, where it has that form; the rest is for `load_config` to refuse."""
    if isinstance(setting.default, bool) and text in ("true", "false"):
        return text == "true"
    if isinstance(setting.default, int) and text.removeprefix("-").isdigit():
        return int(text)
    if isinstance(setting.default, list):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def refuse(sentence: object) -> NoReturn:
    """Ends the process as one that would not start: one sentence, exit code 7."""
    click.echo(f"dynamo-fast: {sentence}", err=True)
    sys.exit(REFUSED)


@click.command(context_settings={"max_content_width": 140})
@click.option("--config", "file", type=click.Path(path_type=Path), metavar="FILE", help="TOML file with any of the settings.")
@setting_options
@click.option("--set", "assignments", multiple=True, metavar="SECTION.KEY=VALUE",
              help="Any setting of the file, for example storage.log_bytes_max=1073741824.")  # fmt: skip
@click.option("--print-config", is_flag=True, help="Print the settings in force as a TOML file, and end.")
@click.option("--supervised", is_flag=True, hidden=True, help="Stop when the parent process is gone.")
def serve(file: Path | None, assignments: tuple[str, ...], print_config: bool, supervised: bool, **arguments: Any) -> None:
    """Run one node of a cluster, until SIGTERM or Ctrl-C.

    Settings come from a file, under the environment (DYNAMO_FAST_SECTION_KEY), under these options. A new cluster is made by starting
    each of its first nodes with the same --bootstrap list; a node with --seeds only finds its cluster and waits to be asked to join.
    """
    try:
        config = load_config(file, os.environ, given_flags(arguments, assignments))
    except ConfigError as error:
        refuse(error)
    if print_config:
        click.echo(dump_config(config), nl=False)
        return
    if supervised:
        from dynamo_fast.cli.processes import die_with_parent

        die_with_parent()
    logs.set_up(config.log.format, config.log.level)
    raise_file_limit()
    sys.exit(trio.run(supervise, config) if config.node.workers > 1 else run_node(config))


def raise_file_limit() -> None:
    """As many connections as the system lets us have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def on_signals(stop: trio.Event, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
    """The first SIGTERM or SIGINT sets `stop`; a second one ends the process where it stands."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            if stop.is_set():
                os._exit(128 + number)
            stop.set()


def run_node(config: Config) -> int:
    """The node in this process; the exit code."""
    from dynamo_fast.core.membership import HistoryError
    from dynamo_fast.core.placement import PlacementError
    from dynamo_fast.disk import Disk
    from dynamo_fast.env import RealEnv
    from dynamo_fast.node.birth import BirthRefused
    from dynamo_fast.node.identity import DirectoryRefused
    from dynamo_fast.node.node import serve_node
    from dynamo_fast.storage.engine import StorageError

    started = False

    def now_started(address: str) -> None:
        nonlocal started
        started = True
        gc.collect()
        gc.freeze()  # modules and code live as long as the process: a full collection need not walk them while clients wait

    async def main() -> Exception | bool:
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(on_signals, stop)
            try:
                return await serve_node(config, RealEnv(Disk()), stop, now_started)
            except (DirectoryRefused, BirthRefused, PlacementError, HistoryError, StorageError, OSError) as error:
                return error  # before it served, or when it had stopped; what goes wrong between comes as a group from its nursery
            finally:
                nursery.cancel_scope.cancel()
        raise AssertionError("a node either ends or fails")

    ended = trio.run(main)
    if isinstance(ended, Exception):
        if not started:
            refuse(sentence_of(ended, config))
        click.echo(f"dynamo-fast: {sentence_of(ended, config)}", err=True)
        return 1
    if ended:
        time.sleep(RESTART_S)  # a disk that fails at once must not make us spin
        os.execv(sys.executable, [sys.executable, "-m", "dynamo_fast", *sys.argv[1:]])
    return 0


def sentence_of(error: Exception, config: Config) -> str:
    """Why the node did not start, with the place that an OSError of the system does not name."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if error.errno in NOT_LISTENING:
        return f"cannot listen on {config.node.listen}: {error.strerror}"
    return f"{config.node.data_dir}: {error.strerror}"


def worker_flags(config: Config, number: int) -> dict[str, Any]:
    """What worker `number` (from 0) has of its own: port, directory, one process; every address of the lists stands for all workers."""
    node = config.node
    every = range(node.workers)
    return {
        "node.workers": 1,
        "node.data_dir": str(Path(node.data_dir) / f"worker-{number}"),
        "node.listen": shifted(node.listen, number),
        "node.advertise": shifted(node.advertise, number) if node.advertise else "",
        "node.seeds": [shifted(one, worker) for one in node.seeds for worker in every],
        "node.bootstrap": [shifted(one, worker) for one in node.bootstrap for worker in every],
    }


def shifted(address: str, number: int) -> str:
    host, port = parse_address(address)
    return format_address((host, port + WORKER_PORT_STEP * number if port else 0))


async def supervise(config: Config) -> int:
    """K workers, restarted when they die, stopped with us; the exit code."""
    from dynamo_fast.cli.processes import Children, environment_for, write_prefixed

    in_force = {one.name: getattr(getattr(config, one.section), one.key) for keys in settings().values() for one in keys.values()}
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        children = Children(nursery, write_prefixed(len("worker-00"), False) if config.log.format == "text" else write_plain)
        await nursery.start(on_signals, stop)

        def start(name: str) -> None:
            environment = environment_for(in_force | worker_flags(config, int(name.removeprefix("worker-"))), os.environ)
            children.start(name, ["serve", "--supervised"], environment)

        for number in range(config.node.workers):
            start(f"worker-{number}")
        nursery.start_soon(restart_dead, children, start, stop)
        await stop.wait()
        await children.stop()
        nursery.cancel_scope.cancel()
    codes = set(children.codes.values())
    return REFUSED if REFUSED in codes else 1 if codes - {0} else 0


async def restart_dead(children: Children, start: Callable[[str], None], stop: trio.Event) -> None:
    """A worker that died is started again; one that refuses to start stops them all."""
    async for child in children.ended:
        if child.code == REFUSED:
            stop.set()
        elif not stop.is_set():
            log.warning("a worker ended; starting it again", extra={"worker": child.name, "code": child.code})
            await trio.sleep(RESTART_S)
            if not stop.is_set():
                start(child.name)


def write_plain(name: str, line: bytes) -> None:
    """A worker's line as it is: JSON logs say themselves where they come from."""
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
