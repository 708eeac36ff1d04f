"""Flow control: who may ask how much of a cluster, in one process and across all of them."""
