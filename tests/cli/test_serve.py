"""Flags of `serve`, what the workers of one machine have of their own, the shape of logs, and children that are looked after."""

import json
import logging
import sys
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner

from dynamo_fast.cli.logs import JsonFormatter, TextFormatter
from dynamo_fast.cli.processes import Children, environment_for
from dynamo_fast.cli.serve import REFUSED, sentence_of, serve, worker_flags
from dynamo_fast.node.config import Config, load_config


def printed(directory: Path, *arguments: str, environment: dict[str, str] | None = None) -> Config:
    result = CliRunner().invoke(serve, [*arguments, "--print-config"], env=environment)
    assert result.exit_code == 0, result.output
    (directory / "printed.toml").write_text(result.output)
    return load_config(directory / "printed.toml")


def test_every_way_to_say_a_setting_ends_in_the_printed_configuration(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text("[requests]\nr = 3\nw = 3\n")
    config = printed(
        tmp_path, "--config", str(file), "--data-dir", "d", "--listen", "127.0.0.1:1", "--seed", "a:1,b:2", "--seeds", "c:3",
        "--w", "1", "--strict", "--log-format", "json", "--set", "limits.siblings_max=7", "--set", "node.bootstrap=x:1, y:2",
        environment={"DYNAMO_FAST_REQUESTS_DW": "2", "DYNAMO_FAST_REQUESTS_W": "2"},
    )  # fmt: skip
    assert (config.requests.r, config.requests.w, config.requests.dw, config.requests.strict) == (3, 1, 2, True)
    assert (config.node.seeds, config.node.bootstrap) == (["a:1", "b:2", "c:3"], ["x:1", "y:2"])
    assert (config.limits.siblings_max, config.log.format, config.node.data_dir) == (7, "json", "d")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "storage.speed=9"], r"unknown setting storage.speed; [storage] has engine"),
        (["--set", "speed=9"], "unknown setting speed; sections are node, cluster"),
        (["--set", "limits.siblings_max=many"], "limits.siblings_max = many on the command line is refused"),
        (["--listen", "0.0.0.0:7400"], "--insecure-listen"),
        (["--weight", "0"], "node.weight = 0"),
        (["--config", "/nonexistent/x.toml"], "cannot read the configuration /nonexistent/x.toml"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_7(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(serve, arguments)
    assert result.exit_code == REFUSED
    assert said in result.output
    assert result.output.count("\n") == 1


def test_workers_share_the_machine_and_nothing_else() -> None:
    config = load_config(flags={"node.workers": 3, "node.listen": "127.0.0.1:7400", "node.data_dir": "/d", "node.host": "m",
                                "node.bootstrap": ["127.0.0.1:7400", "127.0.0.2:7400"], "node.seeds": ["s:1"]})  # fmt: skip
    flags = [worker_flags(config, number) for number in range(3)]
    assert [one["node.listen"] for one in flags] == ["127.0.0.1:7400", "127.0.0.1:7410", "127.0.0.1:7420"]
    assert [one["node.data_dir"] for one in flags] == ["/d/worker-0", "/d/worker-1", "/d/worker-2"]
    assert flags[0]["node.bootstrap"] == flags[2]["node.bootstrap"]
    assert flags[0]["node.bootstrap"] == [f"127.0.0.{host}:{port}" for host in (1, 2) for port in (7400, 7410, 7420)]
    environment = environment_for(flags[1] | {"node.host": "m"}, {"PATH": "/bin"})
    assert environment["PATH"] == "/bin"
    worker = load_config(environment=environment)
    assert (worker.node.workers, worker.node.listen, worker.node.host) == (1, "127.0.0.1:7410", "m")
    assert worker.node.bootstrap == flags[1]["node.bootstrap"]


def test_a_system_error_becomes_a_sentence_that_names_the_place() -> None:
    config = load_config(flags={"node.data_dir": "/d", "node.listen": "127.0.0.1:9"})
    assert sentence_of(OSError(98, "Address already in use"), config) == "cannot listen on 127.0.0.1:9: Address already in use"
    assert sentence_of(OSError(28, "No space left on device"), config) == "/d: No space left on device"
    assert sentence_of(PermissionError(1, "Operation not permitted", "/d/x"), config) == "/d/x: Operation not permitted"
    assert sentence_of(ValueError("just so"), config) == "just so"


def record(**extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "dynamo_fast.node", "levelno": 30, "levelname": "WARNING", "msg": "peer is %s", "args": ("down",),
                                  "created": 0.25, "msecs": 250.0, **extra})  # fmt: skip
    return made


def test_logs_are_lines_for_people_or_json_with_the_same_fields() -> None:
    text = TextFormatter().format(record(peer="ab", count=3))
    assert text == "1970-01-01T00:00:00.250Z warning peer is down peer=ab count=3"
    document = json.loads(JsonFormatter().format(record(peer="ab", count=3)))
    assert document == {"time": "1970-01-01T00:00:00.250Z", "level": "warning", "logger": "dynamo_fast.node", "message": "peer is down",
                        "peer": "ab", "count": 3}  # fmt: skip
    try:
        raise ValueError("deep")
    except ValueError:
        failed = record(exc_info=sys.exc_info())
    assert "ValueError: deep" in TextFormatter().format(failed)
    assert "ValueError: deep" in json.loads(JsonFormatter().format(failed))["traceback"]


def test_children_are_heard_line_by_line_and_their_codes_kept() -> None:
    lines: list[tuple[str, bytes]] = []

    async def main() -> dict[str, int]:
        async with trio.open_nursery() as nursery:
            children = Children(nursery, lambda name, line: lines.append((name, line)))
            children.start("version", ["--version"], {})
            children.start("mistake", ["no-such-command"], {})
            for _ in range(2):
                await children.ended.receive()
            await children.stop()
            return children.codes

    assert trio.run(main) == {"version": 0, "mistake": 2}
    assert [line for name, line in lines if name == "version"] == [b"dynamo-fast 0.1.0\n"]
    assert any(b"no-such-command" in line for name, line in lines if name == "mistake")
