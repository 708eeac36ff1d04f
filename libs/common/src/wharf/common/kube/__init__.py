"""Kubernetes' own conventions, as a client and a proxy need them."""
