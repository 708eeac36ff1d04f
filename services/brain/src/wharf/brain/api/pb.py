"""The generated etcd messages under short names; the one place that knows where they are."""

from wharf.common.pb.etcd import kv_pb2 as mvcc
from wharf.common.pb.etcd import rpc_pb2 as rpc
from wharf.common.pb.etcd import v3election_pb2 as election
from wharf.common.pb.etcd import v3lock_pb2 as lock

__all__ = ["election", "lock", "mvcc", "rpc"]
