"""Fixtures of the integration suite: the servers a replicated brain stands on."""

from harness.fixtures import nats, postgres, redis

__all__ = ["nats", "postgres", "redis"]
