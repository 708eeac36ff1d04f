"""The number of the protocol that nodes speak in a session: both sides name theirs, and it must be the same.

Raise it when a node that does not know of a change would do something wrong: check no permission, for example, or take
a refusal for a success. Builds from before the number send none, which reads as 0.
"""

from __future__ import annotations

from typing import Final

PROTOCOL: Final = 1  # 1: the leader checks the permissions of the user that a question names


def mismatch(here: str, there: str, theirs: int) -> str:
    """Why a session between these two is refused; "" if it is not."""
    if theirs == PROTOCOL:
        return ""
    return (
        f"{here} speaks protocol {PROTOCOL} and {there} protocol {theirs}: run the same release of wharf on all nodes "
        "(stop the nodes of the other release, then start them with this one)"
    )
