"""Flags of etcd's that are accepted and mean nothing here: about raft, peers, discovery and bbolt.

Kept apart from the options themselves so that a new release of etcd is a change of one list.
"""

from __future__ import annotations

from typing import Final

WITHOUT_MEANING: Final = "it has no meaning for this store"

IGNORED_VALUES: Final = """
wal-dir listen-client-http-urls max-snapshots max-wals snapshot-count heartbeat-interval
backend-bbolt-freelist-type backend-batch-interval backend-batch-limit raft-read-timeout
raft-write-timeout
initial-cluster initial-cluster-state initial-cluster-token discovery discovery-endpoints
discovery-token discovery-dial-timeout discovery-request-timeout discovery-keepalive-time discovery-keepalive-timeout
discovery-cert discovery-key discovery-cacert discovery-user discovery-password discovery-proxy discovery-srv
discovery-srv-name discovery-fallback v2-deprecation client-cert-file client-key-file
peer-client-cert-file peer-client-key-file logger log-rotation-config-json
bcrypt-cost corrupt-check-time compact-hash-check-time compaction-batch-limit compaction-sleep-interval
downgrade-check-time warning-apply-duration warning-unary-request-duration bootstrap-defrag-threshold-megabytes
max-learners snapshot-catchup-entries feature-gates proxy
""".split()  # noqa: SIM905

IGNORED_SWITCHES: Final = """
initial-election-tick-advance socket-reuse-port socket-reuse-address discovery-insecure-transport
discovery-insecure-skip-tls-verify strict-reconfig-check pre-vote
peer-skip-client-san-verification enable-log-rotation enable-pprof enable-v2 debug
initial-corrupt-check compact-hash-check-enabled enable-lease-checkpoint enable-lease-checkpoint-persist memory-mlock
txn-mode-write-with-shared-buffer stop-grpc-service-on-defrag force-new-cluster
""".split()  # noqa: SIM905 as above
