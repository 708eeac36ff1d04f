"""Passwords are removed from texts, whatever characters they hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.common.redact import hide_password, hide_password_in_value


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at redis://me:hunter2@host and a@b", "at redis://me:***@host and a@b"),
        ("redis://:pa#ss@h:1/0", "redis://:***@h:1/0"),
        ("postgresql://u:p/a?s[s]@h,h2/db?sslmode=x", "postgresql://u:***@h,h2/db?sslmode=x"),
        ("nats://u:p@h1:4222,h2", "nats://u:***@h1:4222,h2"),
        ("postgresql://user:secret", "postgresql://user:***"),
        ("postgresql://h/db?password=abc&x=1", "postgresql://h/db?password=***&x=1"),
        ("postgresql://h/db?sslpassword=abc", "postgresql://h/db?sslpassword=***"),
        ("us/er:pw@h is no URL", "us/er:pw@h is no URL"),
        ("nats://u:hun,ter2", "nats://u:***"),
        ("postgresql://u@h:hunter2@x", "postgresql://***@x"),
    ],
)
def test_password_is_hidden(text: str, shown: str) -> None:
    assert hide_password(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "http://[::1]:2379",
        "http://0.0.0.0:2379,https://1.2.3.4:5",
        "lmdb:///a/b@c",
        "https://me@host/x",
        "http://h/a:b@c",
        "nats://h1:4222,h2:4222",
        "clients cannot reach http://0.0.0.0:28561, which is a wildcard",
        "",
    ],
)
def test_text_without_a_password_stays(text: str) -> None:
    assert hide_password(text) == text


@given(st.text(st.characters(exclude_categories=("Cs", "Zs", "Cc", "Zl", "Zp")), min_size=1))
def test_no_password_survives(password: str) -> None:
    marked = f"<{password}>"
    shown = hide_password(f"cannot connect to redis://user:{marked}@host:6379/0")
    assert marked not in shown
    assert shown.endswith("@host:6379/0")
    assert hide_password(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:pa ss\tword@host", "redis://:***@host"),
        ("redis://us/er:pw@host", "redis://***@host"),
        ("u:hunter2@h:4222", "***"),
        ("redis:u:hunter2@h", "***"),
        ("host=h password = hunter2", "***"),
        ("nats://u:hunter2:4222", "nats://u:***"),
        ("postgresql://h/d?password=hun&ter2=1", "postgresql://h/d?password=***"),
        ("plain text", "plain text"),
    ],
)
def test_a_value_is_hidden_as_a_whole(text: str, shown: str) -> None:
    assert hide_password_in_value(text) == shown
