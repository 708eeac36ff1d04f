"""The loader: precedence, Go's flag syntax, files, environment, errors that name key, source and what is allowed."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.common.config import ConfigError, HelpRequested, Ignored, Loaded, Schema, load, option
from wharf.common.parsers import BOOLEAN, DURATION, INTEGER, PATH, SIZE, STRING, Url, integer, parse_url, urls


@dataclass(frozen=True, slots=True)
class Sample:
    name: str = option(STRING, "default", help="The node's name.", group="Node")
    data_dir: Path | None = option(PATH, None, help="Where data lives.", group="Node")
    quota: int = option(SIZE, 2 * 2**30, help="Most bytes stored.", flag="quota-backend-bytes", group="Storage")
    interval: float = option(DURATION, 300.0, help="How often.", group="Storage")
    sync: bool = option(BOOLEAN, True, help="Wait for the disk.", group="Storage")
    shards: int = option(integer(1, 8), 1, help="How many.", group="Storage")
    urls: tuple[Url, ...] = option(
        urls("http", "https"), (parse_url("http://localhost:2379"),), help="Where to listen.", flag="listen-client-urls"
    )
    password: str = option(STRING, "", help="Of the lease store.", secret=True)
    otlp: str = option(STRING, "", help="Where spans go.", env="OTEL_EXPORTER_OTLP_ENDPOINT")
    cert_file: str = option(STRING, "", help="Certificate.")

    def __post_init__(self) -> None:
        if self.shards > 1 and not self.sync:
            raise ValueError("--shards above 1 needs --sync")


SCHEMA = Schema(
    shape=Sample,
    program="wharf brain",
    service="brain",
    summary="The store under a Kubernetes control plane.",
    ignored=(
        Ignored("snapshot-count", "there is no raft log"),
        Ignored("pre-vote", "there are no elections", switch=True),
    ),
    sections={"client-transport-security": ""},
)


def read(*argv: str, **environ: str) -> Loaded[Sample]:
    return load(SCHEMA, argv, environ)


def refused(*argv: str, **environ: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(SCHEMA, argv, environ)
    return caught.value.problems


def test_nothing_given_is_the_defaults() -> None:
    loaded = read()
    assert loaded.config == Sample()
    assert set(loaded.sources.values()) == {"default"}


@pytest.mark.parametrize("argv", [("--name", "a"), ("--name=a",), ("-name", "a"), ("-name=a",)])
def test_a_flag_in_each_of_go_s_spellings(argv: tuple[str, ...]) -> None:
    assert read(*argv).config.name == "a"


def test_a_boolean_takes_its_value_only_with_equals() -> None:
    assert read("--sync=false").config.sync is False
    assert read("--sync").config.sync is True
    assert refused("--sync", "false") == ("wharf brain takes no arguments, got 'false'",)


def test_a_value_may_begin_with_a_dash_and_hold_equals() -> None:
    assert read("--name", "-x").config.name == "-x"
    assert read("--name=a=b").config.name == "a=b"


def test_the_last_of_two_flags_wins() -> None:
    assert read("--name", "a", "--name=b").config.name == "b"


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    file = tmp_path / "brain.yaml"
    file.write_text("name: file\nquota-backend-bytes: 1GiB\ninterval: 7s\n")
    loaded = read("--config-file", str(file), "--name", "flag", WHARF_BRAIN_NAME="env", WHARF_BRAIN_INTERVAL="6s")
    assert (loaded.config.name, loaded.config.interval, loaded.config.quota) == ("flag", 6.0, 2**30)
    assert loaded.sources["name"] == "--name"
    assert loaded.sources["interval"] == "WHARF_BRAIN_INTERVAL"
    assert loaded.sources["quota-backend-bytes"] == str(file)
    assert loaded.sources["sync"] == "default"


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        ("toml", 'data_dir = "/d"\nsync = false\nshards = 1\nlisten-client-urls = ["http://a:1", "http://b:2"]\n'),
        ("yaml", "data-dir: /d\nsync: false\nshards: 1\nlisten-client-urls: http://a:1,http://b:2\n"),
    ],
)
def test_files_in_toml_and_yaml(tmp_path: Path, suffix: str, text: str) -> None:
    file = tmp_path / f"c.{suffix}"
    file.write_text(text)
    config = read(WHARF_BRAIN_CONFIG_FILE=str(file)).config
    assert (config.data_dir, config.sync, len(config.urls)) == (Path("/d"), False, 2)


def test_a_known_section_is_read_as_its_flags(tmp_path: Path) -> None:
    file = tmp_path / "etcd.yaml"
    file.write_text("client-transport-security:\n  cert-file: /c.pem\n")
    assert read("--config-file", str(file)).config.cert_file == "/c.pem"


def test_file_problems_name_key_and_file(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("nmae: x\nshards: {a: 1}\nsnapshot-count: 5\n")
    problems = refused("--config-file", str(file))
    assert problems[0] == f"unknown key nmae in {file}; did you mean name?"
    assert problems[1].startswith(f"shards in {file} is not a plain value")
    assert len(problems) == 2


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("c.yaml", "a: [", "while parsing"),
        ("c.yaml", "- a\n", "not a table"),
        ("c.toml", "a =", "Invalid value"),
        ("c.yaml", None, "No such file"),
    ],
)
def test_an_unreadable_file_is_one_clear_line(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    file = tmp_path / name
    if text is not None:
        file.write_text(text)
    (problem,) = refused("--config-file", str(file))
    assert said in problem
    assert str(file) in problem
    assert "\n" not in problem


def test_every_problem_is_named_with_source_and_what_is_allowed() -> None:
    problems = refused("--interval", "5", "--nme", "x", WHARF_BRAIN_SHARDS="9")
    assert problems == (
        "unknown flag --nme; did you mean --name?",
        "--interval: '5' is not a duration; allowed: 100ms, 5s, 1h30m",
        "--shards: '9' (from WHARF_BRAIN_SHARDS) is out of range; allowed: a whole number from 1 up to 8",
    )


def test_a_flag_without_its_value() -> None:
    assert refused("--name") == ("--name needs a value",)


def test_a_rule_between_settings_is_a_clear_line() -> None:
    assert refused("--shards", "2", "--sync=false") == ("--shards above 1 needs --sync",)


def test_flags_without_meaning_are_accepted_with_a_line() -> None:
    loaded = read("--snapshot-count", "10000", "--pre-vote", "--name=a")
    assert loaded.warnings == (
        "--snapshot-count is accepted and ignored: there is no raft log",
        "--pre-vote is accepted and ignored: there are no elections",
    )
    assert loaded.config.name == "a"


def test_environment_of_a_kubernetes_service_is_left_alone_and_near_misses_are_told() -> None:
    loaded = read(WHARF_BRAIN_PORT="tcp://10.0.0.1:2379", WHARF_BRAIN_SERVICE_HOST="10.0.0.1", WHARF_BRAIN_SHARD="3")
    assert loaded.config == Sample()
    assert loaded.warnings == ("environment WHARF_BRAIN_SHARD is not read; did you mean WHARF_BRAIN_SHARDS?",)


def test_a_second_environment_name_counts_less_than_the_own_one() -> None:
    assert read(OTEL_EXPORTER_OTLP_ENDPOINT="a").config.otlp == "a"
    assert read(OTEL_EXPORTER_OTLP_ENDPOINT="a", WHARF_BRAIN_OTLP="b").config.otlp == "b"


def test_secrets_are_never_shown() -> None:
    loaded = read("--password", "hunter2", "--listen-client-urls", "http://u:hunter2@h:1")
    assert loaded.config.password == "hunter2"
    assert "hunter2" not in f"{loaded.config!r} {loaded.shown} {loaded!r}"
    secret = Schema(shape=SecretNumber, program="p", service="p", summary="s")
    with pytest.raises(ConfigError) as caught:
        load(secret, ["--pin", "hunter2"], {})
    assert "hunter2" not in str(caught.value)
    (problem,) = refused("--listen-client-urls", "ftp://u:hunter2@h:1")
    assert "hunter2" not in problem


@dataclass(frozen=True, slots=True)
class SecretNumber:
    pin: int = option(INTEGER, 0, help="h", secret=True)


def test_positional_arguments_are_named() -> None:
    schema = Schema(
        shape=Sample, program="wharf brain snapshot save", service="brain", summary="s", arguments=("FILE",)
    )
    assert load(schema, ["--name", "a", "out.db"], {}).arguments == ("out.db",)
    assert load(schema, ["--", "--odd-name"], {}).arguments == ("--odd-name",)
    with pytest.raises(ConfigError, match="takes FILE, got none"):
        load(schema, [], {})


@pytest.mark.parametrize("flag", ["--help", "-h", "-help"])
def test_help_can_be_learned_from(flag: str) -> None:
    with pytest.raises(HelpRequested) as caught:
        read(flag)
    text = caught.value.text
    assert text.index("Node\n") < text.index("--data-dir PATH") < text.index("Storage\n") < text.index("--shards N")
    for said in ("default 2GiB", "default 5m", "WHARF_BRAIN_NAME", "--config-file", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        assert said in text
    assert max(map(len, text.splitlines())) <= 100


@given(
    st.lists(st.text(max_size=12), max_size=6), st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3)
)
def test_any_command_line_loads_or_is_refused(argv: list[str], environ: dict[str, str]) -> None:
    argv = [word for word in argv if "config-file" not in word]
    with suppress(ConfigError, HelpRequested):
        assert isinstance(load(SCHEMA, argv, environ).config, Sample)
