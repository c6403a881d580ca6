"""`dynamo-fast bench`: load a cluster, or anything that speaks enough of redis's protocol, and say how it did.

Fills the keys, runs the load, reads every key back. A run in which a request failed, a value was wrong or siblings
appeared ends with exit code 1, however fast it was.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import click

from dynamo_fast.cli.output import progress
from dynamo_fast.env import parse_address
from dynamo_fast.load.keys import KeySpace
from dynamo_fast.load.report import LoadError, Report
from dynamo_fast.load.target import DynamoTarget, RespTarget, Target
from dynamo_fast.load.workload import Workload, fill, run, verify

PORTS = {"dynamo": 7400, "resp": 6379}


def size_range(context: click.Context, parameter: click.Parameter, text: str) -> tuple[int, int]:
    """100 or 10-2000."""
    least, _, most = text.partition("-")
    if not least.isdigit() or not (most or least).isdigit():
        raise click.BadParameter("give a number of bytes, or two with a dash between them, such as 10-2000")
    return int(least), int(most or least)


@click.command(short_help="load servers and measure throughput and latency")
@click.argument("servers", nargs=-1)
@click.option("--protocol", type=click.Choice(sorted(PORTS)), default="dynamo", show_default=True, help="what the servers speak")
@click.option("--connections", type=click.IntRange(1, 10_000), default=50, show_default=True, help="spread evenly over the servers")
@click.option("--depth", type=click.IntRange(1, 65536), default=1, show_default=True, help="requests in flight per connection")
@click.option("--gets", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="share of gets; the rest are puts")
@click.option("--keys", "key_count", type=click.IntRange(1, 1 << 31), default=100_000, show_default=True)
@click.option("--value-bytes", default="100", show_default=True, callback=size_range, help="one size, or a range: 10-2000")
@click.option("--zipf", type=click.FloatRange(0, 4, min_open=True), help="draw keys by Zipf's law with this exponent instead of evenly")
@click.option("--rate", type=click.FloatRange(0, 1e9, min_open=True), help="open loop: so many requests are due per second, come what may")
@click.option("--seconds", type=click.FloatRange(0, 86400), default=10.0, show_default=True, help="what is measured; 0: see --operations")
@click.option("--operations", type=click.IntRange(0), default=0, help="end after so many requests")
@click.option("--warmup", type=click.FloatRange(0, 86400), default=1.0, show_default=True, help="seconds before that do not count")
@click.option("--fill/--no-fill", "filling", default=True, show_default=True, help="put every key once before")
@click.option("--verify/--no-verify", "verifying", default=True, show_default=True, help="get every key once afterwards")
@click.option("--r", type=click.IntRange(1, 16), help="replicas that answer a get; default: the bucket's")
@click.option("--w", type=click.IntRange(1, 16), help="replicas that hold a put; default: the bucket's")
@click.option("--dw", type=click.IntRange(0, 16), help="replicas that have a put on disk; default: the bucket's")
@click.option("--strict/--sloppy", default=None, help="count home replicas only; default: the bucket's")
@click.option("--deadline-ms", type=click.IntRange(0, 3_600_000), default=0, help="of each request; default: the bucket's")
@click.option("--bucket", default="", help="default: the default bucket")
@click.option("--route", type=click.Choice(["home", "any"]), default="home", show_default=True,
              help="each key through its first home, or through any of the servers")
@click.option("--wait-replicas", type=click.IntRange(0, 16), default=0, help="resp: follow each SET with WAIT for so many replicas")
@click.option("--seed", type=click.IntRange(0, (1 << 64) - 1), default=1, show_default=True, help="of keys, values and mix")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
def bench(servers: tuple[str, ...], protocol: str, connections: int, depth: int, gets: float, key_count: int,
          value_bytes: tuple[int, int], zipf: float | None, rate: float | None, seconds: float, operations: int, warmup: float,
          filling: bool, verifying: bool, r: int | None, w: int | None, dw: int | None, strict: bool | None, deadline_ms: int,
          bucket: str, route: str, wait_replicas: int, seed: int, as_json: bool) -> None:
    """Load SERVERS (host:port ...) and report throughput, latency and what went wrong.

    Of a cluster of ours any live node is enough: its members are learned, and each key goes through its first home. With
    --route any, and with redis, exactly the named servers are loaded, all alike.

    Puts carry the context held for their key, so a run that shows siblings has found a fault, and fails.
    """
    try:
        named = [name for argument in servers or ("127.0.0.1",) for name in argument.split(",")]
        addresses = [parse_address(name, PORTS[protocol]) for name in named]
        workload = Workload(
            connections=connections, depth=depth, gets=gets, order="zipf" if zipf else "uniform", zipf_exponent=zipf or 0.99,
            rate_per_s=rate or 0.0, warmup_s=warmup, seconds=seconds, operations=operations, seed=seed,
        )
        target: Target
        if protocol == "resp":
            target = RespTarget(addresses, wait_replicas=wait_replicas)
        else:
            target = DynamoTarget(addresses, by_home=route == "home", w=w or 0, dw=dw, r=r or 0, strict=strict,
                                  bucket=bucket.encode(), deadline_ms=deadline_ms)
        keys = KeySpace(key_count, *value_bytes, seed)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    try:
        if isinstance(target, DynamoTarget) and route == "home":
            target.learn_members()
        reports = measure(target, keys, workload, filling=filling, verifying=verifying)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except (LoadError, OSError) as error:
        raise click.ClickException(str(error)) from error
    show(reports, as_json)
    if any(report.problems for report in reports.values()):
        sys.exit(1)


def measure(target: Target, keys: KeySpace, workload: Workload, *, filling: bool, verifying: bool) -> dict[str, Report]:
    """Fill, run and verify; what was done, by name."""
    reports = {}
    if filling:
        reports["fill"] = with_bar("filling", keys.count, lambda show: fill(target, keys, workload, show))
    reports["run"] = with_bar("running", workload.operations, lambda show: run(target, keys, workload, show))
    if verifying:
        reports["verify"] = with_bar("reading back", keys.count, lambda show: verify(target, keys, workload, show))
    return reports


def with_bar(what: str, operations: int, load: Callable[[Callable[[int], None]], Report]) -> Report:
    """Runs a load that tells how many requests were answered so far; `operations` 0: no end is known."""
    with progress(what, operations or None, quiet=False) as tell:
        return load(lambda answered: tell(answered, operations or None))


def show(reports: dict[str, Report], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({name: report.as_dict() for name, report in reports.items()}, indent=2))
        return
    for name, report in reports.items():
        for line in report.lines():
            click.echo(f"{name:7} {line}")
