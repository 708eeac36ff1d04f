"""The etcd v3 API: one module per service, each a handful of `bytes → bytes` handlers over the store."""
