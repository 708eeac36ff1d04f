"""The gateway beside nginx, haproxy and Envoy: TLS and HTTP in, TLS and HTTP out, each alone on one core."""
