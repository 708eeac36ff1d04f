"""Several nodes over one engine: who leads, what the others ask of it, and how they keep up."""
