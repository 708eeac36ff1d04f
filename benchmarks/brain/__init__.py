"""brain beside etcd."""
