"""What is written into the status: by whom, when, and when nothing is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from wharf.gateway.api.status import (
    HEARTBEAT_SECONDS,
    SERVERS_SHOWN,
    SILENT_SECONDS,
    Patch,
    ServerSight,
    Sight,
    entry_of,
    manager_of,
    plan_status,
    summarize,
    timestamp,
)

Json = dict[str, Any]
NOW = 1_800_000_000.0
UP = ServerSight("one", "https://10.0.0.1:6443", True, "a", "ok", NOW - 5, 2, 7)
DOWN = ServerSight("two", "https://10.0.0.2:6443", False, reason="connection refused", since=NOW - 9)
SIGHT = Sight("gw-a", 3, (UP, DOWN))


def applied(status: Json, patches: list[Patch]) -> Json:
    """A small stand-in for the API server: applies of a map list, of plain fields and of nothing."""
    after = {**status, "gateways": list(status.get("gateways", []))}
    for patch in patches:
        if "status" not in patch.document:
            after["gateways"] = [one for one in after["gateways"] if manager_of(one["instance"]) != patch.manager]
            continue
        for key, value in patch.document["status"].items():
            if key == "gateways":
                mine = value[0]["instance"]
                after[key] = [one for one in after[key] if one["instance"] != mine] + value
            else:
                after[key] = value
    return after


def condition(status: Json, kind: str) -> Json:
    [found] = [one for one in status["conditions"] if one["type"] == kind]
    return dict(found)


def test_the_first_gateway_writes_its_entry_and_the_summary() -> None:
    patches = plan_status({}, "blue", SIGHT, NOW)
    assert [patch.manager for patch in patches] == ["wharf-gateway-gw-a", "wharf-gateway"]
    status = applied({}, patches)
    assert status["gateways"] == [entry_of(SIGHT, NOW)]
    assert (status["servers"], status["activeRequests"], status["watches"]) == ("1/2", 2, 7)
    assert status["observedGeneration"] == 3
    assert condition(status, "Accepted")["status"] == "True"
    assert condition(status, "Ready")["status"] == "True"


def test_entries_say_why_a_server_is_out() -> None:
    [_, down] = entry_of(SIGHT, NOW)["servers"]
    assert down == {
        "name": "two",
        "url": "https://10.0.0.2:6443",
        "healthy": False,
        "reason": "connection refused",
        "since": timestamp(NOW - 9),
        "activeRequests": 0,
        "watches": 0,
    }


def test_more_servers_than_fit_are_counted_and_those_that_are_out_are_shown() -> None:
    many = tuple(replace(UP, url=f"https://10.0.{number // 250}.{number % 250}:6443") for number in range(600))
    entry = entry_of(replace(SIGHT, servers=(*many, DOWN, DOWN)), NOW)
    assert (entry["serversReady"], entry["serversTotal"]) == (600, 602)
    assert len(entry["servers"]) == SERVERS_SHOWN
    assert entry["servers"][0]["name"] == "two"


def test_nothing_is_written_while_only_counters_change() -> None:
    status = applied({}, plan_status({}, "blue", SIGHT, NOW))
    busier = replace(SIGHT, servers=(replace(UP, active_requests=99), DOWN))
    assert plan_status(status, "blue", busier, NOW + HEARTBEAT_SECONDS - 1) == []
    beat = applied(status, plan_status(status, "blue", busier, NOW + HEARTBEAT_SECONDS))
    assert beat["activeRequests"] == 99


def test_a_change_of_health_is_written_at_once_and_keeps_the_times_of_other_conditions() -> None:
    status = applied({}, plan_status({}, "blue", SIGHT, NOW))
    worse = replace(SIGHT, servers=(replace(UP, healthy=False), DOWN))
    after = applied(status, plan_status(status, "blue", worse, NOW + 2))
    assert after["servers"] == "0/2"
    ready = condition(after, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "NoServerReady")
    assert ready["lastTransitionTime"] == timestamp(NOW + 2)
    assert condition(after, "Accepted")["lastTransitionTime"] == timestamp(NOW)


def test_only_the_first_of_the_living_writes_the_summary() -> None:
    status = applied({}, plan_status({}, "blue", SIGHT, NOW))
    second = replace(SIGHT, instance="gw-b", servers=(replace(UP, healthy=False),))
    patches = plan_status(status, "blue", second, NOW + 1)
    assert [patch.manager for patch in patches] == ["wharf-gateway-gw-b"]
    both = applied(status, patches)
    after = applied(both, plan_status(both, "blue", SIGHT, NOW + 2))
    assert condition(after, "Ready") == {
        "type": "Ready",
        "status": "False",
        "reason": "SomeGatewaysUnready",
        "message": "no server ready for gw-b",
        "observedGeneration": 3,
        "lastTransitionTime": timestamp(NOW + 2),
    }
    assert after["servers"] == "0/2"


def test_a_silent_gateway_is_removed_by_the_first_of_the_living() -> None:
    status = applied({}, plan_status({}, "blue", SIGHT, NOW))
    later = NOW + SILENT_SECONDS
    second = replace(SIGHT, instance="gw-b")
    patches = plan_status(status, "blue", second, later)
    assert [patch.manager for patch in patches] == ["wharf-gateway-gw-b", "wharf-gateway-gw-a"]
    after = applied(status, patches)
    assert [one["instance"] for one in after["gateways"]] == ["gw-b"]


def test_refusals_are_told_with_their_problems() -> None:
    refused = replace(SIGHT, accepted=False, reason="Conflict", problems=("x belongs to UpstreamCluster a", "and y"))
    status = applied({}, plan_status({}, "blue", refused, NOW))
    told = condition(status, "Accepted")
    assert (told["status"], told["reason"]) == ("False", "Conflict")
    assert told["message"] == "x belongs to UpstreamCluster a; and y"
    assert condition(status, "Ready")["status"] == "True"


def test_a_gateway_that_lags_behind_does_not_speak_for_the_new_generation() -> None:
    old = entry_of(replace(SIGHT, instance="gw-b", generation=2, accepted=False, reason="Invalid"), NOW)
    summary = summarize([old, entry_of(SIGHT, NOW)], (), NOW)
    assert condition(summary, "Accepted")["status"] == "True"
    assert summary["observedGeneration"] == 3


def test_an_entry_without_a_time_is_silent() -> None:
    status = {"gateways": [{"instance": "gw-0"}]}
    after = applied({**status, "gateways": [{"instance": "gw-0", "updated": None}]}, [])
    patches = plan_status(after, "blue", SIGHT, NOW)
    assert patches[-1].manager == "wharf-gateway-gw-0"


@given(st.permutations([f"gw-{name}" for name in "abcd"]), st.lists(st.booleans(), min_size=4, max_size=4))
def test_the_summary_does_not_depend_on_the_order_of_entries(order: list[str], health: list[bool]) -> None:
    healthy = dict(zip(sorted(order), health, strict=True))
    entries = [entry_of(Sight(name, 1, (replace(UP, healthy=healthy[name]),)), NOW) for name in order]
    assert summarize(entries, (), NOW) == summarize(sorted(entries, key=lambda one: one["instance"]), (), NOW)
