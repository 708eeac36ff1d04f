"""What a command line asks ginkgo for."""

from __future__ import annotations

import re

import pytest

from conformance.images import short_name
from conformance.run import wish

CLI = "[sig-cli] Kubectl client Kubectl version should check is all data is printed [Conformance]"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], True),
        (["--sig", "sig-cli"], True),
        (["--sig", "sig-node,sig-cli", "--focus", "nothing|Kubectl version"], True),
        (["--sig", "sig-cli", "--focus", "nothing|at all"], False),
        (["--sig", "sig"], False),
    ],
)
def test_focus_is_groups_and_a_part_of_the_name(words: list[str], found: bool) -> None:
    assert (re.search(wish(words).pattern, CLI) is not None) == found
    assert re.search(wish(words).pattern, CLI.replace("[Conformance]", "")) is None


def test_both_ways_are_gone_unless_one_is_named() -> None:
    assert wish([]).ways == ("direct", "gateway")
    assert wish(["--through", "gateway"]).ways == ("gateway",)


def test_short_names_of_images() -> None:
    assert short_name("host.example/folder/nginx:1.27-0") == "nginx"
