"""Kubernetes' own conformance tests, at a real cluster on brain and once more with the gateway in front of it."""
