"""One request's path through the gateway."""
