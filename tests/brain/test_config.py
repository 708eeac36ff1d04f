"""What `wharf brain` can be told, and what it says to what it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
from wharf.brain.config import DEFAULT_QUOTA, BrainConfig, join_warnings, load_config
from wharf.brain.config_rules import Retention, address_warnings, exposed, parse_retention
from wharf.common.config import ConfigError, HelpRequested

KUBEADM = (
    "--advertise-client-urls=https://10.0.0.1:2379",
    "--cert-file=/etc/kubernetes/pki/etcd/server.crt",
    "--client-cert-auth=true",
    "--data-dir=/var/lib/etcd",
    "--feature-gates=InitialCorruptCheck=true",
    "--initial-advertise-peer-urls=https://10.0.0.1:2380",
    "--initial-cluster=node=https://10.0.0.1:2380",
    "--initial-cluster-state=existing",
    "--key-file=/etc/kubernetes/pki/etcd/server.key",
    "--listen-client-urls=https://127.0.0.1:2379,https://10.0.0.1:2379",
    "--listen-metrics-urls=http://127.0.0.1:2381",
    "--listen-peer-urls=https://10.0.0.1:2380",
    "--name=node",
    "--peer-cert-file=/etc/kubernetes/pki/etcd/peer.crt",
    "--peer-client-cert-auth=true",
    "--peer-key-file=/etc/kubernetes/pki/etcd/peer.key",
    "--peer-trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt",
    "--snapshot-count=10000",
    "--trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt",
    "--watch-progress-notify-interval=5s",
)
KUBEADM_BEFORE_1_34 = ("--experimental-initial-corrupt-check=true", "--experimental-watch-progress-notify-interval=5s")


def config(*argv: str, **environment: str) -> BrainConfig:
    return load_config(argv, environment).config


def refusal(*argv: str, **environment: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(argv, environment)
    return str(caught.value)


def test_kubeadms_flags_work_as_they_stand() -> None:
    loaded = load_config(KUBEADM, {})
    found = loaded.config
    assert [url.text for url in found.listen_client_urls] == ["https://127.0.0.1:2379", "https://10.0.0.1:2379"]
    assert found.client_urls == ("https://10.0.0.1:2379",)
    assert found.directory == Path("/var/lib/etcd")
    assert found.engine_url == "lmdb:///var/lib/etcd"
    assert found.client_cert_auth
    assert found.progress_interval == 5.0
    ignored, others = join_warnings(loaded.warnings)
    assert "--initial-cluster" in ignored
    assert (found.peer_cert_file, found.peer_client_cert_auth) == (Path("/etc/kubernetes/pki/etcd/peer.crt"), True)
    assert "--snapshot-count" in ignored
    assert others == ()


def test_older_experimental_names_mean_the_same() -> None:
    loaded = load_config(KUBEADM_BEFORE_1_34, {})
    assert loaded.config.progress_interval == 5.0
    assert join_warnings(loaded.warnings)[0] == ("--initial-corrupt-check",)


def test_an_unknown_flag_is_refused_by_name_with_the_nearest_one() -> None:
    assert refusal("--listen-client-url=http://127.0.0.1:1") == (
        "unknown flag --listen-client-url; did you mean --listen-client-urls?"
    )


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("--max-txn-ops", "7"), 7),
        (("--max-txn-ops=7",), 7),
        (("-max-txn-ops", "7"), 7),
        (("-max-txn-ops=7",), 7),
        (("--max-txn-ops=6", "--max-txn-ops=7"), 7),
    ],
)
def test_flags_are_read_as_go_reads_them(argv: tuple[str, ...], expected: int) -> None:
    assert config(*argv).max_txn_ops == expected


def test_a_switch_takes_a_value_only_with_an_equals_sign() -> None:
    assert config("--unsafe-no-fsync").unsafe_no_fsync
    assert not config("--unsafe-no-fsync=false").unsafe_no_fsync
    assert "'false'" in refusal("--unsafe-no-fsync", "false")


def test_flags_win_over_environment_and_environment_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "brain.toml"
    file.write_text('name = "file"\nmax-txn-ops = 1\nlog-level = "warn"\n')
    found = config(f"--config-file={file}", "--name=flag", WHARF_BRAIN_NAME="environment", WHARF_BRAIN_MAX_TXN_OPS="2")
    assert (found.name, found.max_txn_ops, found.log_level) == ("flag", 2, "warn")


def test_etcds_yaml_file_with_its_tls_sections_is_understood(tmp_path: Path) -> None:
    file = tmp_path / "etcd.yaml"
    file.write_text(
        "name: n1\n"
        "listen-client-urls: https://127.0.0.1:2379\n"
        "client-transport-security:\n"
        "  cert-file: /pki/server.crt\n"
        "  key-file: /pki/server.key\n"
        "  client-cert-auth: true\n"
        "  trusted-ca-file: /pki/ca.crt\n"
        "peer-transport-security:\n"
        "  cert-file: /pki/peer.crt\n"
    )
    found = config(f"--config-file={file}")
    assert (found.name, found.cert_file, found.client_cert_auth) == ("n1", Path("/pki/server.crt"), True)


def test_variables_that_kubernetes_sets_for_a_service_are_no_errors() -> None:
    assert config(WHARF_BRAIN_PORT="tcp://10.0.0.1:2379", WHARF_BRAIN_SERVICE_HOST="10.0.0.1").name == "default"


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (("--listen-client-urls=https://127.0.0.1:2379",), "needs --cert-file and --key-file"),
        (("--cert-file=/c",), "must be given together"),
        (("--client-cert-auth",), "needs --trusted-ca-file"),
        (("--client-cert-allowed-hostname=a",), "needs --trusted-ca-file"),
        (("--auto-tls",), "none of --listen-client-urls begins with https://"),
        (("--cert-file=/c", "--key-file=/k"), "none of --listen-client-urls begins with https://"),
        (("--peer-crl-file=/crl",), "revocation lists are not checked"),
        (("--cors=https://a.example",), "serve web pages through a proxy"),
        (("--cors=*",), "serve web pages through a proxy"),
        (("--peer-cert-allowed-cn=node",), "--peer-trusted-ca-file"),
        (("--peer-cert-allowed-hostname=node",), "--peer-trusted-ca-file"),
        (("--auth-token=jwt,sign-method=RS256",), "simple"),
        (("--client-crl-file=/crl",), "revocation lists are not checked"),
        (("--listen-client-urls=http://example.com:2379",), "IP address or localhost"),
        (("--listen-client-urls=http://127.0.0.1",), "needs a port"),
        (("--listen-client-urls=http://127.0.0.1:1/path",), "nothing more"),
        (("--listen-metrics-urls=unix:///s",), "has scheme 'unix'"),
        (("--listen-client-urls=unix://",), "has no host"),
        ((f"--listen-client-urls=unix:///{'s' * 107}",), "at most 107 bytes"),
        (("--listen-client-urls=unix:///s", "--workers=1"), "share a TCP port"),
        (("--grpc-keepalive-interval=-1s",), "must not be negative"),
        (("--watch-progress-notify-interval=5",), "not a duration"),
        (("--auto-compaction-retention=x",), "--auto-compaction-retention"),
        (("--auto-compaction-mode=revision", "--auto-compaction-retention=5m"), "number of revisions"),
        (("--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"), "older than"),
        (("--tls-min-version=TLS1.3", "--cipher-suites=TLS_RSA_X"), "TLS1.3 only"),
        (("--front-end=h3",), "wire, grpcio"),
    ],
)
def test_what_cannot_work_is_refused_with_its_flag(argv: tuple[str, ...], part: str) -> None:
    assert part in refusal(*argv)


def test_harmless_forms_of_refused_flags_are_accepted() -> None:
    found = config(
        "--auto-tls=false", "--client-crl-file=", "--peer-cert-allowed-cn=", "--auth-token=simple", "--cors="
    )
    assert not found.auto_tls


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("", ("*",)),
        (" , ", ("*",)),
        ("*", ("*",)),
        ("Good.Example, 127.0.0.1", ("good.example", "127.0.0.1")),
        ("[::1]", ("::1",)),
    ],
)
def test_the_hosts_of_the_whitelist_are_names_in_lower_case(text: str, hosts: tuple[str, ...]) -> None:
    assert config(f"--host-whitelist={text}").host_whitelist == hosts


@pytest.mark.parametrize(
    ("mode", "text", "expected"),
    [
        ("periodic", "0", Retention()),
        ("periodic", "1", Retention(seconds=3600)),
        ("periodic", "5m", Retention(seconds=300)),
        ("revision", "1000", Retention(revisions=1000)),
    ],
)
def test_retention_is_hours_a_duration_or_revisions(mode: str, text: str, expected: Retention) -> None:
    assert parse_retention(mode, text) == expected


def test_defaults_are_etcds() -> None:
    found = config()
    assert [url.text for url in found.listen_client_urls] == ["http://localhost:2379"]
    assert found.client_urls == ("http://localhost:2379",)
    assert (found.max_request_bytes, found.max_txn_ops, found.quota_backend_bytes) == (1572864, 128, DEFAULT_QUOTA)
    assert found.receive_max == 2 * 1024 * 1024
    assert found.progress_interval == 600.0
    assert found.grpc_keepalive_min_time == 5.0
    assert found.directory == Path("default.wharf")


def test_quota_zero_is_the_default_and_negative_means_none() -> None:
    assert config("--quota-backend-bytes=0").quota_backend_bytes == DEFAULT_QUOTA
    assert config("--quota-backend-bytes=-1").quota_backend_bytes == -1


def test_progress_notifications_have_etcds_floor() -> None:
    assert config("--watch-progress-notify-interval=1ms").progress_interval == 0.1


def test_etcds_tracing_flags_name_the_collector() -> None:
    assert config().trace_endpoint == ""
    assert config("--experimental-enable-distributed-tracing").trace_endpoint == "localhost:4317"
    assert config("--otlp-endpoint=c:1", "--enable-distributed-tracing").trace_endpoint == "c:1"


def test_help_tells_every_flag() -> None:
    with pytest.raises(HelpRequested) as caught:
        load_config(["--help"], {})
    assert "--listen-client-urls" in str(caught.value)
    assert "--auto-compaction-retention" in str(caught.value)


SEVERAL = ("--engine=postgresql://db/wharf", "--redis=redis://redis")


@pytest.mark.parametrize("url", ["http://0.0.0.0:2380", "http://10.0.0.1:2380", "http://[::]:2380"])
def test_plain_peer_urls_beyond_loopback_need_a_word_of_their_own(url: str) -> None:
    peers = (f"--listen-peer-urls={url}", "--initial-advertise-peer-urls=http://10.0.0.1:2380")
    said = refusal(*SEVERAL, *peers)
    assert f"{url} lets whoever reaches it write everything" in said
    assert "--unsafe-no-peer-tls" in said
    assert config(*SEVERAL, *peers, "--unsafe-no-peer-tls").replicated
    assert not config(*peers).replicated, "what an etcd had before means nothing to one node"


@pytest.mark.parametrize("url", ["http://127.0.0.1:2380", "http://localhost:2380", "http://[::1]:2380"])
def test_plain_peer_urls_on_loopback_do_not(url: str) -> None:
    assert config(*SEVERAL, f"--listen-peer-urls={url}").replicated


TLS = ("--cert-file=c", "--key-file=k")


@pytest.mark.parametrize("asked", ["--client-cert-auth", "--client-cert-allowed-hostname=a", ""])
def test_client_certificates_are_refused_on_a_plain_client_url(asked: str) -> None:
    asks = ("--trusted-ca-file=ca", *([asked] if asked else []), *TLS)
    said = refusal("--listen-client-urls=https://127.0.0.1:2379,http://127.0.0.1:2378", *asks)
    assert (asked or "--trusted-ca-file").partition("=")[0] in said
    assert "--listen-client-urls http://127.0.0.1:2378" in said
    metrics = ("--listen-client-urls=https://127.0.0.1:2379", "--listen-metrics-urls=http://127.0.0.1:2381")
    assert config(*metrics, *asks).trusted_ca_file == Path("ca"), "probes need no certificate"


def test_peers_certificates_are_refused_on_plain_peer_urls() -> None:
    assert "--peer-client-cert-auth cannot be enforced" in refusal(*SEVERAL, "--peer-client-cert-auth")
    https = ("--listen-peer-urls=https://10.0.0.1:2380", "--initial-advertise-peer-urls=https://10.0.0.1:2380")
    files = ("--peer-cert-file=c", "--peer-key-file=k", "--peer-trusted-ca-file=ca")
    assert config(*SEVERAL, *https, *files, "--peer-client-cert-auth").peer_client_cert_auth


def test_peer_auto_tls_is_refused_where_nodes_have_peers() -> None:
    assert "another node signed itself" in refusal(*SEVERAL, "--peer-auto-tls")
    assert config("--peer-auto-tls").peer_auto_tls


@pytest.mark.parametrize("flag", ["engine", "redis", "nats"])
@pytest.mark.parametrize("delimiter", ["#", "/", "?", "[", "]", "@"])
def test_an_unescaped_password_is_refused_without_showing_any_of_it(flag: str, delimiter: str) -> None:
    scheme = {"engine": "postgresql", "redis": "redis", "nats": "nats"}[flag]
    said = refusal(f"--{flag}={scheme}://brain:hunter{delimiter}secret@db:1")
    assert said.startswith(f"--{flag}: '{scheme}://brain:***@db:1' holds an unescaped {delimiter!r}")
    assert f"percent-encode the user and the password ({delimiter!r} is %" in said
    assert "hunter" not in said
    assert "secret" not in said


def test_an_escaped_password_is_accepted() -> None:
    escaped = "hunter%23%2F%3F%5B%40secret"
    found = config(f"--engine=postgresql://brain:{escaped}@a,b/wharf", f"--redis=rediss://:{escaped}@redis:6379/0")
    assert found.engine.endswith("@a,b/wharf")


def test_plain_client_urls_beyond_loopback_are_known() -> None:
    urls = "http://127.0.0.1:2379,http://10.0.0.1:2379,https://10.0.0.2:2379"
    loaded = config(f"--listen-client-urls={urls}", "--cert-file=c", "--key-file=k")
    assert exposed(loaded.listen_client_urls) == ("http://10.0.0.1:2379",)


@pytest.mark.parametrize("url", ["http://127.0.0.1:12380", "http://localhost:12380"])
def test_other_nodes_are_told_the_peer_listen_url_unless_another_is_given(url: str) -> None:
    assert config(*SEVERAL, f"--listen-peer-urls={url}").peer_urls == (url,)
    other = "--initial-advertise-peer-urls=http://brain-1.example:2380"
    assert config(*SEVERAL, f"--listen-peer-urls={url}", other).peer_urls == ("http://brain-1.example:2380",)


@pytest.mark.parametrize("url", ["http://0.0.0.0:2380", "http://[::]:2380", "http://127.0.0.1:0"])
def test_peer_urls_that_no_node_can_reach_are_refused(url: str) -> None:
    listen, plain = f"--listen-peer-urls={url}", "--unsafe-no-peer-tls"
    said = refusal(*SEVERAL, plain, listen)
    assert f"--listen-peer-urls: other nodes cannot reach {url}; give --initial-advertise-peer-urls" in said
    said = refusal(*SEVERAL, plain, "--listen-peer-urls=http://127.0.0.1:2380", f"--initial-advertise-peer-urls={url}")
    assert f"--initial-advertise-peer-urls: other nodes cannot reach {url}" in said
    told = "--initial-advertise-peer-urls=http://10.0.0.1:2380"
    assert config(*SEVERAL, plain, listen, told).peer_urls == ("http://10.0.0.1:2380",)
    assert not config(listen).replicated, "what an etcd had before means nothing to one node"


def test_addresses_that_others_cannot_reach_are_warned_of() -> None:
    everywhere = "--listen-client-urls=http://0.0.0.0:2379"
    [warning] = address_warnings(config(everywhere))
    assert "told http://0.0.0.0:2379" in warning
    assert "--advertise-client-urls" in warning
    assert not list(address_warnings(config(everywhere, "--advertise-client-urls=http://brain.example:2379")))
    assert not list(address_warnings(config()))
    peers = (*SEVERAL, "--unsafe-no-peer-tls", "--listen-peer-urls=http://0.0.0.0:2380")
    [warning] = address_warnings(config(*peers, "--initial-advertise-peer-urls=http://localhost:2380"))
    assert "told http://localhost:2380" in warning
    assert "--initial-advertise-peer-urls" in warning
    assert not list(address_warnings(config(*peers, "--initial-advertise-peer-urls=http://brain-1.example:2380")))
