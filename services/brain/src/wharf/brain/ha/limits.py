"""What one node may cost another at most, so that a peer that errs or lies costs bounded memory and bounded time.

Followers are trusted (with TLS they show a certificate), so nothing here is about fairness between them; it is about a
leader that goes on renewing its lease and serving the rest whatever one of them does.
"""

from __future__ import annotations

from typing import Final

BATCH_BYTES: Final = 1 << 20
"""Of questions or answers in one message; a single larger one goes alone. Enough for thousands of small ones, and what
the transport holds for a peer that does not read."""

MOST_IN_BATCH: Final = 4096
"""Questions, or answers, in one message: it is worked off without a pause, and the same loop renews the lease."""

MOST_UNDER_WAY: Final = 50_000
"""Questions of one follower; more go back undone and wait there."""

MOST_BYTES_UNDER_WAY: Final = 256 << 20
"""Of their requests."""

PAUSE_ANSWERS: Final = 2 * MOST_IN_BATCH
PAUSE_BYTES: Final = 16 << 20
"""Answers that wait to be sent; beyond either nothing more is read from that follower until some have left."""

MOST_UNREAD_BYTES: Final = 256 << 20
"""Of answers that a follower does not take; then its session ends. A single larger one is let through."""

OVERHEAD_BYTES: Final = 256 << 10
"""What surrounds requests in a message: numbers, methods, trace context, what is cancelled."""

HELLO_SECONDS: Final = 5.0
"""For a session to say who it is."""

MOST_SESSIONS: Final = 300
"""A machine's 256 workers, or far more nodes than one store has use for."""

MOST_CALLS: Final = 400
"""Sessions that have not said who they are yet, and operators, on top of these."""

MOST_CALLS_OF_CONNECTION: Final = 16
"""A node has one session on a connection, an operator one call at a time."""

MOST_CONNECTIONS: Final = 4096
"""Each costs some ten kilobytes, said anything or not."""

IDLE_SECONDS: Final = 30
"""A connection without a call; a node's has its session all the time."""

HANDSHAKE_SECONDS: Final = 10
"""For TLS and HTTP/2 to begin."""

MOST_MEMBERS: Final = 100
"""Listed at a time: the list is one record that every node holds and every join rewrites."""

MOST_NAME: Final = 256
MOST_URLS: Final = 16
MOST_URL: Final = 1024
"""Characters of what a member says of itself, and addresses; these are what the list is made of."""
