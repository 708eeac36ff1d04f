"""Which of several equal servers takes a request."""
