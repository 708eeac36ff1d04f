"""The engine itself fails over: PostgreSQL's synchronous standby is promoted while clients write."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.replicated.kit import scenario
from harness.nodes import BrainCluster


@pytest.mark.parametrize("dies_first", [True, False], ids=["after the primary's end", "beside the living primary"])
def test_a_synchronous_standby_is_promoted(tmp_path: Path, dies_first: bool) -> None:
    """What was acknowledged is on the standby, so nothing may be missing; what was not may or may not be there.

    A primary that lives on beside its promoted standby acknowledges nothing, and is ended soon, as an operator's
    tools do.
    """
    with BrainCluster(tmp_path, standby=True) as cluster, scenario(cluster, tmp_path):
        assert cluster.standby is not None
        if dies_first:
            cluster.postgres.kill()
            cluster.standby.promote()
        else:
            cluster.standby.promote()
            cluster.postgres.kill()
