"""The process: workers, drain, heartbeat, status."""
