"""URLs of the services that wharf connects to are checked whole when the configuration is read."""

from pathlib import Path

import pytest
from wharf.common.parsers import BadValue, Parser
from wharf.common.service_urls import NATS_URL, OTLP_ENDPOINT, REDIS_URL


@pytest.mark.parametrize(
    ("parser", "text"),
    [
        (REDIS_URL, ""),
        (REDIS_URL, "redis://redis"),
        (REDIS_URL, "rediss://u:p%40ss@[::1]:6379/15?ssl_ca_certs=/ca&ssl_cert_reqs=required"),
        (NATS_URL, ""),
        (NATS_URL, "tls://u:p%2C@a:1,b:2, [::1]:3"),
        (NATS_URL, "nats://u:p@a,nats://b,tls://v:q@c"),
        (OTLP_ENDPOINT, "collector:4317"),
        (OTLP_ENDPOINT, "https://collector"),
    ],
)
def test_accepted(parser: Parser[str], text: str) -> None:
    assert parser.parse(text) == text


@pytest.mark.parametrize(
    ("parser", "text", "cause"),
    [
        (REDIS_URL, "http://redis", "scheme 'http'"),
        (REDIS_URL, "redis:6379", "no scheme"),
        (REDIS_URL, "redis://redis/x", "database 'x', which is not a number"),
        (REDIS_URL, "redis://redis/0?ssl_ca_cert=f", "unknown parameter 'ssl_ca_cert'; did you mean 'ssl_ca_certs'"),
        (REDIS_URL, "rediss://redis/0?ssl_cert_reqs=maybe", "not one of required, optional, none"),
        (REDIS_URL, "redis://redis/0?ssl", "a query that is not name=value"),
        (NATS_URL, "http://nats", "not a list of NATS servers"),
        (NATS_URL, "nats://nats:port", "not a list of NATS servers"),
        (NATS_URL, "nats://u:hun,ter2@h:1", "percent-encode a ','"),
        (NATS_URL, "nats://u:p@h:1,u2:hun#ter2@h2", "unescaped '#'"),
        (OTLP_ENDPOINT, "ftp://collector", "scheme 'ftp'"),
    ],
)
def test_refused(parser: Parser[str], text: str, cause: str) -> None:
    with pytest.raises(BadValue, match=cause):
        parser.parse(text)


def test_the_files_of_a_redis_url_are_known() -> None:
    assert REDIS_URL.files("rediss://r/0?ssl_ca_certs=/ca.pem&db=1&ssl_keyfile=k") == (Path("/ca.pem"), Path("k"))
