"""The settings of a node: file under environment under flags, every value with a unit and a bound, unknown keys refused.

A file is TOML with the sections below. The environment variable of `storage.log_bytes_max` is `DYNAMO_FAST_STORAGE_LOG_BYTES_MAX`;
lists are written with commas there. A mistake is one sentence that names the key, where it was set, and what is allowed.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_type_hints

import msgspec
from msgspec import Meta

from dynamo_fast.core.options import ClusterDefaults
from dynamo_fast.env import AddressError, is_loopback, parse_address

ENVIRONMENT_PREFIX = "DYNAMO_FAST_"
MIB = 1 << 20


class ConfigError(ValueError):
    """A setting that cannot be used. The message names it, says where it came from and what is allowed."""


def number(low: int, high: int, description: str) -> Meta:
    return Meta(ge=low, le=high, description=description)


def what(description: str) -> Meta:
    return Meta(description=description)


class NodeSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    data_dir: Annotated[str, Meta(min_length=1, description="directory that holds all of this node's data")] = "dynamo-fast-data"
    listen: Annotated[str, what("host:port for clients and peers; port 0 lets the system choose")] = "127.0.0.1:7400"
    advertise: Annotated[str, what("host:port at which others reach this node; empty: the address it listens on")] = ""
    host: Annotated[str, Meta(max_length=255, description="label of the machine, not shared by replicas of a key; empty: its name")] = ""
    zone: Annotated[str, Meta(max_length=255, description="label of the data centre, over which replicas are spread")] = ""
    weight: Annotated[int, number(1, 65535, "share of the data, relative to the other members'")] = 100
    seeds: Annotated[list[str], Meta(max_length=256, description="addresses to learn the cluster from; a DNS name may have several")] = []
    bootstrap: Annotated[list[str], Meta(max_length=4096, description="addresses of all first members of a new cluster, own too")] = []
    workers: Annotated[int, number(1, 64, "processes, each a member of its own; worker i listens 10*i ports higher")] = 1
    insecure_listen: Annotated[bool, what("allow an address that other machines can reach, without encryption")] = False


class ClusterSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    partitions: Annotated[int, number(1, 65536, "Q, a power of two, fixed when the cluster is born")] = 1024
    replicas: Annotated[int, number(1, 16, "N, fixed when the cluster is born")] = 3


class RequestsSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    r: Annotated[int, number(1, 16, "replicas that answer a get, 1..N")] = 2
    w: Annotated[int, number(1, 16, "replicas that hold a put before its answer, 1..N")] = 2
    dw: Annotated[int, number(0, 16, "replicas that have a put on disk before its answer, 0..N")] = 1
    strict: Annotated[bool, what("count home replicas only")] = False
    deadline_ms: Annotated[int, number(1, 3_600_000, "milliseconds for a request that names no deadline")] = 1000
    deadline_ms_max: Annotated[int, number(1, 3_600_000, "longest deadline that a request may name, in milliseconds")] = 60_000
    ask_all_every: Annotated[int, number(1, 1 << 20, "one get in so many asks all homes, the others as many as R; 1: every one")] = 16
    suspect_ms: Annotated[int, number(10, 60_000, "milliseconds for which a peer owes answers and says nothing until it is avoided")] = 300
    silence_ms_max: Annotated[int, number(1000, 600_000, "milliseconds of such silence until its connection is closed")] = 10_000
    requests_in_flight_max: Annotated[int, number(1, 1 << 24, "requests coordinated at once; then overload")] = 65_536
    put_ids_max: Annotated[int, number(1, 1 << 26, "put ids remembered, so that a retry makes no version; then overload")] = 1 << 20


class LimitsSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    key_bytes_max: Annotated[int, number(1, 4096, "bytes of a key")] = 4096
    value_bytes_max: Annotated[int, number(0, 8 * MIB, "bytes of a value")] = MIB
    siblings_max: Annotated[int, number(1, 1024, "concurrent versions of a key that a put may leave")] = 100
    frame_bytes_max: Annotated[int, number(64 * 1024, 256 * MIB, "bytes of one frame's body; a longer message goes in pieces")] = 16 * MIB
    message_bytes_max: Annotated[int, number(MIB, 1 << 30, "bytes of a message that other nodes send in pieces")] = 512 * MIB
    connections_max: Annotated[int, number(16, 1 << 20, "connections open at once; more are closed at once")] = 20_000
    buffered_bytes_max: Annotated[int, number(16 * MIB, 1 << 40, "bytes unsent or not yet whole on all connections together")] = 512 * MIB
    grace_s: Annotated[int, number(1, 1 << 30, "seconds after which deletes and old events of long clocks may be forgotten")] = 86_400
    hint_age_max_s: Annotated[int, number(60, 1 << 30, "seconds after which a hint is handed to all homes instead of its owner")] = 259_200
    hint_bytes_max: Annotated[int, number(0, 1 << 40, "bytes of hints kept for other nodes; beyond it no more are taken")] = 4096 * MIB
    outgoing_bytes_max: Annotated[int, number(64 * 1024, 1 << 30, "bytes unsent on a connection before it is not read from")] = 32 * MIB


class StorageSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    engine: Annotated[Literal["lmdb", "memory"], what("memory: nothing outlives the process")] = "lmdb"
    log_bytes_max: Annotated[int, number(4 * MIB, 1 << 40, "bytes of log not yet in LMDB; near it puts slow down")] = 512 * MIB
    log_segment_bytes: Annotated[int, number(MIB, 1 << 32, "bytes after which a new log file begins")] = 32 * MIB
    write_buffer_bytes_max: Annotated[int, number(4 * MIB, 1 << 40, "bytes of records in memory not yet in LMDB")] = 256 * MIB
    lmdb_map_bytes: Annotated[int, number(64 * MIB, 1 << 46, "address space for LMDB: the largest it may grow to")] = 1 << 40
    scrub_period_s: Annotated[int, number(60, 1 << 30, "seconds in which every record and leaf at rest is checked once")] = 604_800


class AntiEntropySection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    round_s: Annotated[int, number(1, 86_400, "seconds after which two members compare all that both are homes of again")] = 10


class LogSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: Annotated[Literal["text", "json"], what("a line for people, or one JSON object a line")] = "text"
    level: Annotated[Literal["debug", "info", "warning", "error"], what("the least severe message that is shown")] = "info"


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of one node, checked; see `settings` for the list with units and bounds."""

    node: NodeSection = NodeSection()
    cluster: ClusterSection = ClusterSection()
    requests: RequestsSection = RequestsSection()
    limits: LimitsSection = LimitsSection()
    storage: StorageSection = StorageSection()
    anti_entropy: AntiEntropySection = AntiEntropySection()
    log: LogSection = LogSection()

    @property
    def defaults(self) -> ClusterDefaults:
        """What requests get that say nothing; N is the birth's to give and the configured one until then."""
        asked = self.requests
        return ClusterDefaults(n=self.cluster.replicas, r=asked.r, w=asked.w, dw=asked.dw, strict=asked.strict,
                               deadline_ms=asked.deadline_ms, deadline_ms_max=asked.deadline_ms_max)  # fmt: skip


class Setting(NamedTuple):
    """One setting as the documentation lists it. `allowed` is its bound in words."""

    section: str
    key: str
    type: Any
    default: Any
    allowed: str
    description: str

    @property
    def name(self) -> str:
        return f"{self.section}.{self.key}"

    @property
    def variable(self) -> str:
        return f"{ENVIRONMENT_PREFIX}{self.section}_{self.key}".upper()


def _allowed(kind: Any, meta: Meta) -> str:
    if kind is bool:
        return "true or false"
    if get_args(kind) and isinstance(get_args(kind)[0], str):
        return " or ".join(get_args(kind))
    if kind is int:
        return f"a whole number from {meta.ge} to {meta.le}"
    if kind is str:
        return "text" if meta.max_length is None else f"text of at most {meta.max_length} characters"
    return f"a list of at most {meta.max_length} texts"


def _section_settings(section: str, struct: type[msgspec.Struct]) -> Iterator[Setting]:
    hints = get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        kind, meta = get_args(hints[field.name])
        default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
        yield Setting(section, field.name, hints[field.name], default, _allowed(kind, meta), meta.description)


@cache
def settings() -> Mapping[str, Mapping[str, Setting]]:
    """Every setting there is, by section and key, in the order of the file."""
    sections = {field.name: field.type for field in msgspec.structs.fields(Config)}
    return {name: {one.key: one for one in _section_settings(name, struct)} for name, struct in sections.items()}


def load_config(file: Path | None = None, environment: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None) -> Config:
    """The configuration from a TOML file, under an environment, under flags (`{"node.listen": value}`); ConfigError for any mistake."""
    known = settings()
    values: dict[str, dict[str, Any]] = {section: {} for section in known}
    if file is not None:
        for setting, value in _from_file(file, known):
            values[setting.section][setting.key] = _convert(setting, value, f"in {file}", strict=True)
    for setting, text in _from_environment(environment or {}, known):
        listed: Any = [part.strip() for part in text.split(",") if part.strip()] if isinstance(setting.default, list) else text
        values[setting.section][setting.key] = _convert(setting, listed, f"from the environment's {setting.variable}", strict=False)
    for name, value in (flags or {}).items():
        section, key = name.split(".")
        values[section][key] = _convert(known[section][key], value, "on the command line", strict=True)
    config = msgspec.convert(values, Config)
    _check(config)
    return config


def _from_file(file: Path, known: Mapping[str, Mapping[str, Setting]]) -> Iterator[tuple[Setting, Any]]:
    try:
        document = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}") from error
    for section, entries in document.items():
        if section not in known:
            raise ConfigError(f"unknown section [{section}] in {file}; there are {', '.join(known)}")
        if not isinstance(entries, dict):
            raise ConfigError(f"{section} in {file} must be a section, [{section}]")
        for key, value in entries.items():
            if key not in known[section]:
                raise ConfigError(f"unknown key {section}.{key} in {file}; [{section}] has {', '.join(known[section])}")
            yield known[section][key], value


def _from_environment(environment: Mapping[str, str], known: Mapping[str, Mapping[str, Setting]]) -> Iterator[tuple[Setting, str]]:
    variables = {setting.variable: setting for section in known.values() for setting in section.values()}
    for variable, text in environment.items():
        if variable in variables:
            yield variables[variable], text
            continue
        for section, entries in known.items():
            if variable.startswith(f"{ENVIRONMENT_PREFIX}{section.upper()}_"):
                allowed = ", ".join(setting.variable for setting in entries.values())
                raise ConfigError(f"unknown variable {variable}; for [{section}] there are {allowed}")


def _convert(setting: Setting, value: Any, where: str, *, strict: bool) -> Any:
    try:
        return msgspec.convert(value, setting.type, strict=strict)
    except msgspec.ValidationError as error:
        shown = value if isinstance(value, str) else json.dumps(value, default=str)
        raise ConfigError(f"{setting.name} = {shown} {where} is refused: it must be {setting.allowed} ({setting.description})") from error


def _check(config: Config) -> None:
    """What holds between settings, and what no type can say."""
    n, requests = config.cluster.replicas, config.requests
    for name, count in (("r", requests.r), ("w", requests.w), ("dw", requests.dw)):
        if count > n:
            raise ConfigError(f"requests.{name} = {count} is more than cluster.replicas = {n}")
    if requests.deadline_ms > requests.deadline_ms_max:
        raise ConfigError(f"requests.deadline_ms = {requests.deadline_ms} is more than"
                          f" requests.deadline_ms_max = {requests.deadline_ms_max}")  # fmt: skip
    if config.cluster.partitions & (config.cluster.partitions - 1):
        raise ConfigError(f"cluster.partitions = {config.cluster.partitions} is not a power of two")
    if config.limits.value_bytes_max + 2 * MIB > config.limits.frame_bytes_max:
        raise ConfigError(f"limits.frame_bytes_max = {config.limits.frame_bytes_max} leaves no room for a value of limits.value_bytes_max"
                          f" = {config.limits.value_bytes_max} and its context: it must be at least 2 MiB more")  # fmt: skip
    if config.limits.message_bytes_max < config.limits.frame_bytes_max:
        raise ConfigError(f"limits.message_bytes_max = {config.limits.message_bytes_max} is less than limits.frame_bytes_max"
                          f" = {config.limits.frame_bytes_max}: a message in pieces is one that is longer than a frame")  # fmt: skip
    if 2 * config.storage.log_segment_bytes > config.storage.log_bytes_max:
        raise ConfigError(f"storage.log_segment_bytes = {config.storage.log_segment_bytes} is more than half of storage.log_bytes_max"
                          f" = {config.storage.log_bytes_max}")  # fmt: skip
    if config.requests.suspect_ms >= config.requests.silence_ms_max:
        raise ConfigError(f"requests.suspect_ms = {config.requests.suspect_ms} must be less than requests.silence_ms_max"
                          f" = {config.requests.silence_ms_max}: a peer is avoided before it is given up")  # fmt: skip
    for name in ("listen", "advertise", "seeds", "bootstrap"):
        given = getattr(config.node, name)
        for address in given if isinstance(given, list) else [given] * bool(given or name == "listen"):
            try:
                parse_address(address)
            except AddressError as error:
                raise ConfigError(f"node.{name}: {error}") from error
    host = parse_address(config.node.listen)[0]
    if host in ("0.0.0.0", "::") and config.node.insecure_listen and not config.node.advertise:
        raise ConfigError(f"node.listen = {config.node.listen} is every address of this machine: say in node.advertise at which one"
                          " the others reach it")  # fmt: skip
    if not is_loopback(host) and not config.node.insecure_listen:
        raise ConfigError(f"node.listen = {config.node.listen} can be reached from other machines and nothing is encrypted yet;"
                          " say --insecure-listen if that is what you want")  # fmt: skip


def _toml(value: Any) -> str:
    """Numbers, truth, text and lists of text are written alike in TOML and JSON."""
    return json.dumps(value, ensure_ascii=False)


def dump_config(config: Config) -> str:
    """The configuration as a TOML file that reads back as the same, each key with its meaning and bound."""
    lines: list[str] = []
    for section, entries in settings().items():
        lines += [f"[{section}]"]
        for setting in entries.values():
            value = getattr(getattr(config, section), setting.key)
            lines += [f"# {setting.description}; {setting.allowed}", f"{setting.key} = {_toml(value)}"]
        lines += [""]
    return "\n".join(lines)
