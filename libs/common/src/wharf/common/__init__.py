"""What every wharf service shares: configuration, clock, logs, metrics, traces and their export."""
