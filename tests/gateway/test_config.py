"""What `wharf gateway` can be told: every option by flag, by environment and by file, and the same each way."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
from wharf.common.config import ConfigError
from wharf.gateway.config import GatewayConfig, load_config

SAMPLES: dict[str, str] = {
    "name": "gw-1",
    "listen": "https://10.0.0.1:443,http://127.0.0.1:80",
    "health_listen": "http://0.0.0.0:1",
    "config_dir": "/clusters",
    "home_kubeconfig": "/kubeconfig",
    "workers": "3",
    "zone": "a",
    "redis": "redis://:secret@redis:6379/1",
    "nats": "nats://nats:4222",
    "nats_ca_file": "/ca",
    "nats_cert_file": "/cert",
    "nats_key_file": "/key",
    "nats_credentials_file": "/creds",
    "tls_cert_file": "/cert",
    "tls_private_key_file": "/key",
    "tls_min_version": "TLS1.3",
    "trusted_proxies": "10.0.0.0/8,::1/128",
    "connections_max": "7",
    "streams_max": "8",
    "drain_delay": "1500ms",
    "drain_watches": "1m",
    "drain_timeout": "2s",
    "log_level": "warn",
    "log_format": "console",
    "access_log": "/log",
    "otlp_endpoint": "collector:4317",
    "trace_ratio": "0.5",
}
TOGETHER = {
    "nats_cert_file": ("nats_key_file",),
    "nats_key_file": ("nats_cert_file",),
    "tls_cert_file": ("tls_private_key_file",),
    "tls_private_key_file": ("tls_cert_file",),
    "home_kubeconfig": (),
    "config_dir": (),
}
NUMBERS = frozenset(("workers", "connections_max", "streams_max", "trace_ratio"))
DEFAULTS = {field.name: field.default for field in fields(GatewayConfig) if field.default is not MISSING}


def flag_of(name: str) -> str:
    return name.replace("_", "-")


def variable_of(name: str) -> str:
    return "OTEL_EXPORTER_OTLP_ENDPOINT" if name == "otlp_endpoint" else f"WHARF_GATEWAY_{name.upper()}"


def line_of(name: str) -> str:
    text = SAMPLES[name]
    return f"{flag_of(name)} = {text}" if name in NUMBERS else f'{flag_of(name)} = "{text}"'


def told(name: str) -> list[str]:
    """The options that make a whole configuration with this one."""
    return [name, *TOGETHER.get(name, ()), *(() if name in ("config_dir", "home_kubeconfig") else ("config_dir",))]


def test_there_is_a_sample_of_every_option() -> None:
    assert set(SAMPLES) == {field.name for field in fields(GatewayConfig)}


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_flag_environment_and_file_say_the_same(name: str, tmp_path: Path) -> None:
    names = told(name)
    by_flag = load_config([f"--{flag_of(one)}={SAMPLES[one]}" for one in names], {}).config
    assert load_config([], {variable_of(one): SAMPLES[one] for one in names}).config == by_flag
    file = tmp_path / "gateway.toml"
    file.write_text("\n".join(line_of(one) for one in names) + "\n")
    assert load_config([f"--config-file={file}"], {}).config == by_flag
    assert getattr(by_flag, name) != DEFAULTS[name]


def refusal(*argv: str, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(argv, environment or {})
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ((), "give one of --config-dir and --home-kubeconfig"),
        (("--config-dir=a", "--home-kubeconfig=b"), "give one of --config-dir and --home-kubeconfig"),
        (("--config-dir=a", "--no-such-flag=1"), "no-such-flag"),
        (("--config-dir=a", "--workers=0"), "workers"),
        (("--config-dir=a", "--workers=many"), "workers"),
        (("--config-dir=a", "--tls-cert-file=b"), "must be given together"),
        (("--config-dir=a", "--nats-key-file=b"), "must be given together"),
        (("--config-dir=a", "--listen=http://0.0.0.0:1"), "use https"),
        (("--config-dir=a", "--listen=https://0.0.0.0"), "needs a port"),
        (("--config-dir=a", "--listen=https://gateway.test:1"), "must name an IP address"),
        (("--config-dir=a", "--listen=https://0.0.0.0:1/path"), "nothing more"),
        (("--config-dir=a", "--health-listen=https://0.0.0.0:1"), "http only"),
        (("--config-dir=a", "--trusted-proxies=10.0.0.0/33"), "trusted-proxies"),
        (("--config-dir=a", "--drain-delay=soon"), "drain-delay"),
        (("--config-dir=a", "--tls-min-version=SSL3"), "tls-min-version"),
        (("--config-dir=a", "--trace-ratio=2"), "trace-ratio"),
        (("--config-dir=a", "words"), "words"),
    ],
)
def test_wrong_words_are_named(flags: tuple[str, ...], problem: str) -> None:
    assert problem in refusal(*flags)


def test_a_wrong_variable_is_named() -> None:
    assert "WHARF_GATEWAY_WORKERS" in refusal("--config-dir=a", environment={"WHARF_GATEWAY_WORKERS": "many"})


def test_no_secret_is_in_a_refusal() -> None:
    said: Any = refusal(
        "--config-dir=a", "--redis=redis://:s3cr3t@redis:6379", "--workers=0", "--nats=nats://u:s3cr3t@n"
    )
    assert "s3cr3t" not in said
