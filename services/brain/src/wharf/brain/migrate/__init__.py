"""Moving a cluster's state between an etcd (or a brain) that goes on serving and another store."""
