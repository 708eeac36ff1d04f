"""The etcd v3 API: kv, auth, rpc, v3lock, v3election."""
