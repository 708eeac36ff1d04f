"""What an upstream gone bad cannot make a relay hold."""

from __future__ import annotations

from wharf.wire.web import Fault
from wire.test_web_relay import Stand


def test_interim_responses_without_end_are_a_failure_and_pile_up_nowhere() -> None:
    at = Stand()
    for attempt in (1, 2):
        request = at.start()
        assert request.on_inform
        for _ in range(1000):
            if not request.done:
                request.on_inform(103, [(b"link", b"x")])
        assert request.was_reset
        assert at.exchange.told == [("inform", 103)] * 32 * attempt
    assert [failure.fault for failure, _ in at.done if failure is not None] == [Fault.PROTOCOL] * 2
    assert at.relay.replayable, "the client can still be answered"
