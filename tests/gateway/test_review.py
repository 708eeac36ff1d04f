"""Reviews of tokens: asked once, kept shortly, no answer is not a no."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from gateway.authn_kit import EPOCH_S, Reviews, cluster, request
from hypothesis import given
from hypothesis import strategies as st
from wharf.common.clock import FakeClock
from wharf.common.kube.client import Document, StatusError, Unreachable
from wharf.common.kube.status import forbidden, too_many_requests
from wharf.gateway.answers import Answer
from wharf.gateway.api.shapes import Authentication, TokenMode
from wharf.gateway.authn import Authenticated, Authenticator, Lane, Pending
from wharf.gateway.identity import front_proxy_headers
from wharf.gateway.review import TOKENS_MAX, ReviewUnavailable, TokenReviewer, taken_for, token_end
from wharf.gateway.user import User
from wharf.gateway.verdicts import Crowded, Flights, Verdicts

JANE = {
    "authenticated": True,
    "user": {"username": "jane", "uid": "1", "groups": ["dev"], "extra": {"acme.com/p": ["x", "y"]}},
}


def answer(spec: Document) -> Document:
    return JANE if spec["token"] != "bad" else {"authenticated": False, "error": "no such token"}


class World:
    """A reviewer, its cluster and its clock."""

    def __init__(self, **settings: Any) -> None:
        self.clock = FakeClock()
        self.reviews = Reviews(answer)
        self.settings = Authentication(tokens=TokenMode.REVIEW, **settings)
        self.reviewer = TokenReviewer(self.reviews, self.settings, self.clock)

    def authenticator(self) -> Authenticator:
        return Authenticator(cluster(TokenMode.REVIEW), self.clock, self.reviewer)


def jwt(**claims: Any) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{payload}.sig"


def test_edge_08_a_review_tells_the_whole_user() -> None:
    world = World()
    found = asyncio.run(world.reviewer.review("good"))
    assert found == User("jane", ("dev", "system:authenticated"), "1", {"acme.com/p": ("x", "y")})
    assert world.reviews.paths == ["/apis/authentication.k8s.io/v1/tokenreviews"]
    assert world.reviews.asked == [{"token": "good"}]


def test_edge_08_an_answer_is_kept_for_a_moment() -> None:
    world = World(review_success_seconds=10.0, review_failure_seconds=1.0)
    good, bad = asyncio.run(world.reviewer.review("good")), asyncio.run(world.reviewer.review("bad"))
    assert (world.reviewer.remembered("good"), world.reviewer.remembered("bad")) == ((good,), (None,))
    assert bad is None
    world.clock.advance(1)
    assert (world.reviewer.remembered("good"), world.reviewer.remembered("bad")) == ((good,), None)
    world.clock.advance(9)
    assert world.reviewer.remembered("good") is None


def test_edge_08_no_answer_outlives_its_token() -> None:
    world = World(review_success_seconds=60.0)
    soon, past = jwt(exp=EPOCH_S + 5), jwt(exp=EPOCH_S - 5)
    asyncio.run(world.reviewer.review(soon))
    asyncio.run(world.reviewer.review(past))
    assert world.reviewer.remembered(past) is None
    world.clock.advance(4)
    assert world.reviewer.remembered(soon) is not None
    world.clock.advance(1)
    assert world.reviewer.remembered(soon) is None


def test_edge_08_those_who_ask_together_ask_once() -> None:
    async def main() -> None:
        world = World()
        world.reviews.gate = asyncio.Event()
        asking = [asyncio.create_task(world.reviewer.review("good")) for _ in range(5)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asking[0].cancel()  # the first one gives up: the others get their answer
        await asyncio.gather(asking[0], return_exceptions=True)
        world.reviews.gate.set()
        answers = await asyncio.gather(*asking[1:])
        assert len(world.reviews.asked) == 1
        assert {found.name for found in answers if found is not None} == {"jane"}

    asyncio.run(main())


def test_edge_08_a_changed_cluster_is_asked_anew() -> None:
    async def main() -> None:
        world = World()
        await world.reviewer.review("good")
        world.reviews.gate = asyncio.Event()
        early = asyncio.create_task(world.reviewer.review("other"))
        await asyncio.sleep(0)
        world.reviewer.forget()
        late = asyncio.create_task(world.reviewer.review("other"))
        await asyncio.sleep(0)
        assert world.reviewer.remembered("good") is None
        world.reviews.gate.set()
        await early
        await late
        assert [spec["token"] for spec in world.reviews.asked] == ["good", "other", "other"]

    asyncio.run(main())


def test_what_was_asked_of_the_old_cluster_is_not_remembered() -> None:
    async def main() -> None:
        world = World()
        world.reviews.gate = asyncio.Event()
        early = asyncio.create_task(world.reviewer.review("good"))
        await asyncio.sleep(0)
        world.reviewer.forget()
        world.reviews.gate.set()
        assert await early is not None
        assert world.reviewer.remembered("good") is None

    asyncio.run(main())


def test_reviews_under_way_end_with_the_reviewer() -> None:
    async def main() -> None:
        world = World()
        world.reviews.gate = asyncio.Event()
        asking = asyncio.create_task(world.reviewer.review("good"))
        await asyncio.sleep(0)
        await world.reviewer.close()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(main())


@pytest.mark.parametrize(
    "failures",
    [
        [Unreachable("a"), Unreachable("b")],
        [StatusError(forbidden("the gateway may not"))],
        [StatusError(too_many_requests("slow down"))],
    ],
)
def test_edge_08_a_failed_review_is_503_and_not_remembered(failures: list[Exception]) -> None:
    world = World()
    world.reviews.failures = list(failures)
    with pytest.raises(ReviewUnavailable):
        asyncio.run(world.reviewer.review("good"))
    assert world.reviewer.remembered("good") is None
    world.reviews.failures = list(failures)
    outcome = asyncio.run(resolve(world, "good"))
    assert isinstance(outcome, Answer)
    assert (outcome.status.code, outcome.status.retry_after_seconds) == (503, 1)


async def resolve(world: World, token: str) -> Authenticated | Answer:
    outcome = world.authenticator().authenticate(request((b"authorization", b"Bearer " + token.encode())))
    return await outcome.resolve() if isinstance(outcome, Pending) else outcome


def test_what_a_server_says_about_its_refusal_is_told_in_short() -> None:
    world = World()
    world.reviews.failures = [StatusError(forbidden("no" * 1_000_000))]
    with pytest.raises(ReviewUnavailable) as told:
        asyncio.run(world.reviewer.review("good"))
    assert len(str(told.value)) <= 200


def test_another_server_is_asked_when_one_does_not_answer() -> None:
    world = World()
    world.reviews.failures = [Unreachable("gone")]
    assert asyncio.run(world.reviewer.review("good")) is not None


@pytest.mark.parametrize(
    "status",
    [
        {"authenticated": True},
        {"authenticated": True, "user": {}},
        {"authenticated": True, "user": {"username": ""}},
        {"authenticated": True, "user": {"username": "a", "extra": {"k": 1}}},
        {"authenticated": True, "user": {"username": "a", "extra": [1]}},
        {"authenticated": True, "user": {"username": "a", "groups": 1}},
        {"authenticated": True, "user": [1]},
        {"authenticated": True, "user": {"username": "a", "groups": "root"}},
    ],
)
def test_an_answer_without_a_user_is_no_answer(status: Document) -> None:
    world = World()
    world.reviews.answer = lambda _: status
    with pytest.raises(ReviewUnavailable):
        asyncio.run(world.reviewer.review("good"))


@pytest.mark.parametrize(
    ("audiences", "accepted"),
    [(["wharf"], True), (["wharf", "x"], True), (["other"], False), ([], False), (None, False)],
)
def test_a_token_must_be_meant_for_the_audience(audiences: list[str] | None, accepted: bool) -> None:
    world = World(audiences=("wharf",))
    world.reviews.answer = lambda _: {**JANE, "audiences": audiences}
    assert (asyncio.run(world.reviewer.review("good")) is not None) is accepted
    assert world.reviews.asked == [{"token": "good", "audiences": ["wharf"]}]


def test_invented_tokens_do_not_drown_the_cluster_in_questions_nor_push_out_good_answers() -> None:
    async def main() -> None:
        world = World(review_success_seconds=60.0, review_failure_seconds=60.0)
        world.reviews.answer = lambda spec: JANE if spec["token"] == "good" else {"authenticated": False}
        await world.reviewer.review("good")
        world.reviews.gate = asyncio.Event()
        asking = [asyncio.create_task(world.reviewer.review(f"made up {number}")) for number in range(2000)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(world.reviews.asked) - 1 == 64, "at a time"
        refused = [task for task in asking if task.done()]
        assert len(refused) == 2000 - 1024, "who would wait too long is told at once"
        assert all(isinstance(task.exception(), ReviewUnavailable) for task in refused)
        world.reviews.gate.set()
        await asyncio.gather(*asking, return_exceptions=True)
        assert len(world.reviews.asked) - 1 == 1024
        for number in range(TOKENS_MAX):
            world.reviewer._bad.put(b"%d" % number, (None,), world.clock.now(), 60.0)
        assert len(world.reviewer._bad) == TOKENS_MAX
        found = world.reviewer.remembered("good")
        assert found is not None
        assert found[0] is not None

    asyncio.run(main())


def test_who_has_no_turn_in_time_is_told() -> None:
    async def main() -> None:
        flights: Flights[str, int] = Flights(at_once=1, patience=0.01)
        gate = asyncio.Event()

        async def ask() -> int:
            await gate.wait()
            return 1

        first = asyncio.create_task(flights.join("a", ask))
        await asyncio.sleep(0)
        with pytest.raises(Crowded):
            await flights.join("b", ask)
        gate.set()
        assert await first == 1
        assert await flights.join("b", ask) == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    ("status", "name"), [({"userInfo": {"username": "jane"}}, "jane"), ({"userInfo": {}}, ""), ({}, None)]
)
def test_edge_03_a_server_tells_whom_it_takes_us_for(status: Document, name: str | None) -> None:
    async def ask(spec: Document) -> str:
        return await taken_for(Reviews(lambda _: spec))

    if name is None:
        with pytest.raises(ReviewUnavailable):
            asyncio.run(ask(status))
    else:
        assert asyncio.run(ask(status)) == name


def test_a_reviewed_user_is_vouched_for_and_its_token_goes_nowhere() -> None:
    world = World()
    for _ in range(2):  # asked, remembered
        found = asyncio.run(resolve(world, "good"))
        assert isinstance(found, Authenticated)
        assert (found.lane, found.forward_authorization) == (Lane.VOUCHED, False)
        assert found.headers == front_proxy_headers(found.user)
    assert len(world.reviews.asked) == 1


def test_a_token_that_is_nobodys_is_401_and_not_anonymous() -> None:
    found = asyncio.run(resolve(World(), "bad"))
    assert isinstance(found, Answer)
    assert found.status.code == 401


def test_edge_11_a_reviewed_token_subprotocol_is_consumed() -> None:
    token = base64.urlsafe_b64encode(b"good").rstrip(b"=")
    protocols = b"base64url.bearer.authorization.k8s.io." + token + b", v5.channel.k8s.io"
    asked = request((b"upgrade", b"WebSocket"), (b"sec-websocket-protocol", protocols))
    outcome = World().authenticator().authenticate(asked)
    assert isinstance(outcome, Pending)
    found = asyncio.run(outcome.resolve())
    assert isinstance(found, Authenticated)
    assert found.subprotocols == b"v5.channel.k8s.io"


def test_edge_12_a_token_is_kept_nowhere() -> None:
    world = World()
    asyncio.run(world.reviewer.review("a-very-secret-token"))
    assert b"secret" not in b"".join(world.reviewer._known._entries)


@pytest.mark.parametrize(
    "token", ["opaque", "a.b.c", "a.e30.c", jwt(exp="soon"), jwt(exp=None), "é.é.é", f"a.{'W' * 8000}.c"]
)
def test_a_token_that_does_not_tell_its_end_has_none(token: str) -> None:
    assert token_end(token) == float("inf")


@given(st.text())
def test_any_token_has_an_end(token: str) -> None:
    assert isinstance(token_end(token), float)
    assert isinstance(token_end(f"a.{token}.b"), float)


def test_the_verdict_asked_for_the_longest_ago_goes_first() -> None:
    known: Verdicts[str, int] = Verdicts(2)
    known.put("a", 1, 0.0, 10.0)
    known.put("b", 2, 0.0, 10.0)
    assert known.get("a", 1.0) == 1
    known.put("c", 3, 1.0, 10.0)
    assert (known.get("a", 2.0), known.get("b", 2.0), known.get("c", 2.0)) == (1, None, 3)
    known.put("d", 4, 2.0, 0.0)
    assert known.get("d", 2.0) is None
    assert known.get("a", 10.0) is None
    assert len(known) == 1
