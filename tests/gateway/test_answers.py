"""The answer for a server that failed says whether the request may have been processed."""

import json

import pytest
from wharf.common.kube.status import encode
from wharf.gateway.answers import upstream_failed
from wharf.wire.web import Fault

SAFE = {Fault.UNSENT, Fault.FULL, Fault.REFUSED}


@pytest.mark.parametrize("fault", list(Fault))
def test_failure_says_whether_a_write_may_be_repeated(fault: Fault) -> None:
    _, body = encode(upstream_failed("prod", "one", fault).status, b"")
    found = json.loads(body)
    assert (found["kind"], found["code"]) == ("Status", 503)
    assert found["message"].startswith("server one of cluster prod did not answer: ")
    assert ("try again" in found["message"]) is (fault in SAFE)
    assert ("may have been processed" in found["message"]) is (fault not in SAFE)
