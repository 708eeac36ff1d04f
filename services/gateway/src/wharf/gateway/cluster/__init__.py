"""A cluster at run time: its parts, compiled from an UpstreamCluster, and how a request finds it."""
