"""Several processes over one LMDB store: one leads, the others read its pages and serve on its port."""
