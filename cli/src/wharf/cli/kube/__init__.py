"""Stock Kubernetes programs: where their binaries come from, and how a control plane is made of them."""
