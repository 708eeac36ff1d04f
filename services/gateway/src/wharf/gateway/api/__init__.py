"""The UpstreamCluster API: shapes, reading and refusing documents, the CRD, conversion from KubeGateway."""
