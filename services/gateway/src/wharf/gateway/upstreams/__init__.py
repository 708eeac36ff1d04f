"""The servers behind a cluster: which there are, how they fare, which one takes the next request."""
