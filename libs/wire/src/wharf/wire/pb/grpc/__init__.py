"""gRPC server reflection v1 (v1alpha and health come with grpcio-reflection and grpcio-health-checking)."""
