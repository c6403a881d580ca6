"""Settings: three levels, each mistake one sentence that names the key and what is allowed."""

from pathlib import Path

import pytest

from dynamo_fast.node.config import Config, ConfigError, dump_config, load_config, settings


def write(directory: Path, text: str) -> Path:
    file = directory / "node.toml"
    file.write_text(text)
    return file


def test_flags_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    file = write(tmp_path, "[requests]\nr = 1\nw = 1\ndw = 0\n[node]\nseeds = ['a:1']\n")
    environment = {"DYNAMO_FAST_REQUESTS_W": "3", "DYNAMO_FAST_REQUESTS_DW": "2", "DYNAMO_FAST_NODE_SEEDS": "b:2, c", "PATH": "/bin"}
    config = load_config(file, environment, {"requests.dw": 1, "requests.strict": True})
    assert (config.requests.r, config.requests.w, config.requests.dw, config.requests.strict) == (1, 3, 1, True)
    assert config.node.seeds == ["b:2", "c"]
    assert config.cluster.partitions == 1024


def test_the_dump_reads_back_as_the_same_configuration(tmp_path: Path) -> None:
    config = load_config(flags={"node.data_dir": 'a "quoted" näme', "node.seeds": ["x:1", "y:2"], "storage.engine": "memory"})
    assert load_config(write(tmp_path, dump_config(config))) == config
    assert load_config(write(tmp_path, dump_config(Config()))) == Config()


def test_every_setting_has_a_bound_and_a_meaning_and_its_default_is_within() -> None:
    for section, entries in settings().items():
        for key, setting in entries.items():
            assert setting.allowed, setting.name
            assert setting.description, setting.name
            assert load_config(flags={f"{section}.{key}": setting.default}) == Config()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[nod]\n", r"unknown section \[nod\] .* there are node, cluster"),
        ("[storage]\nlog_bytes = 1\n", r"unknown key storage.log_bytes .* \[storage\] has engine, log_bytes_max"),
        ("storage = 3\n", r"storage in .* must be a section"),
        ("[storage]\nlog_bytes_max = 1\n", r"storage.log_bytes_max = 1 in .* whole number from 4194304 to"),
        ("[storage]\nlog_bytes_max = '512'\n", r"storage.log_bytes_max = 512 in .* whole number"),
        ("[requests]\nr = 4\n", r"requests.r = 4 is more than cluster.replicas = 3"),
        ("[requests]\nstrict = 1\n", r"requests.strict = 1 .* true or false"),
        ("[requests]\ndeadline_ms = 5000\ndeadline_ms_max = 10\n", r"more than requests.deadline_ms_max"),
        ("[cluster]\npartitions = 1000\n", r"not a power of two"),
        ("[limits]\nframe_bytes_max = 2000000\n", r"leaves no room for a value"),
        ("[storage]\nlog_segment_bytes = 536870912\n", r"more than half of storage.log_bytes_max"),
        ("[node]\nlisten = '127.0.0.1:x'\n", r"node.listen: '127.0.0.1:x' is not an address"),
        ("[node]\nlisten = '0.0.0.0:7400'\n", r"--insecure-listen"),
        ("[node]\nlisten = 'example.org:7400'\n", r"--insecure-listen"),
        ("[node]\nseeds = [3]\n", r"node.seeds = \[3\] .* list of at most 256 texts"),
        ("[log]\nformat = 'xml'\n", r"log.format = xml .* text or json"),
        ("[log\n", r"is not TOML"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_key_and_what_is_allowed(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        load_config(write(tmp_path, text))
    assert "\n" not in str(raised.value)


def test_a_mistyped_variable_of_ours_is_refused_and_others_are_left_alone() -> None:
    load_config(environment={"DYNAMO_FAST_SANITIZE": "1", "HOME": "/"})
    with pytest.raises(ConfigError, match=r"unknown variable DYNAMO_FAST_LOG_LEVELS; for \[log\] .*DYNAMO_FAST_LOG_LEVEL"):
        load_config(environment={"DYNAMO_FAST_LOG_LEVELS": "info"})
    with pytest.raises(ConfigError, match=r"requests.r = two from the environment's DYNAMO_FAST_REQUESTS_R"):
        load_config(environment={"DYNAMO_FAST_REQUESTS_R": "two"})


def test_a_missing_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the configuration .*No such file"):
        load_config(tmp_path / "none.toml")


def test_an_outside_address_is_accepted_when_asked_for() -> None:
    config = load_config(flags={"node.listen": "0.0.0.0:7400", "node.insecure_listen": True, "node.advertise": "10.0.0.1:7400"})
    assert config.node.listen == "0.0.0.0:7400"
    with pytest.raises(ConfigError, match=r"node\.advertise"):
        load_config(flags={"node.listen": "0.0.0.0:7400", "node.insecure_listen": True})
