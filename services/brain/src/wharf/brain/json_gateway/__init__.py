"""etcd's HTTP/JSON mapping of its gRPC API (`POST /v3/kv/range` and the rest), on the client port."""
