"""The embedded system behind `wharf up`: a table of parts, and a supervisor that starts, watches and stops them."""
