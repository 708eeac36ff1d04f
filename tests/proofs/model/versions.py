"""Where released servers differ from one another, as data: each field is one difference, with the reason.

The model follows the newest rules; an older server is compared under the rules it has.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rules:
    """What later releases changed."""

    progress_waits_for_watchers: bool = True
    """A manual progress answer waits until every watcher of the stream is synced (3.4.25, 3.5.8); older ones always
    answer at once.
    """

    keeps_deletes_at_compact_revision: bool = True
    """A watch from exactly the compact revision sees the deletes made there (3.5.21, 3.6.0); older ones dropped them.
    """


NEWEST = Rules()
ETCD_3_4_23 = Rules(progress_waits_for_watchers=False, keeps_deletes_at_compact_revision=False)
