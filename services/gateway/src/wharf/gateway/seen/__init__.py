"""What can be seen of the gateway: metrics, the access log, status."""
