"""Where UpstreamClusters come from: a watched directory, or the home cluster's API."""
