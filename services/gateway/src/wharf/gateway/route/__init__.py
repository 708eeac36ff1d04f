"""Which policy a request falls under."""
