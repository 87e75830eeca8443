"""A real Kubernetes control plane on this machine, whose nodes and pods KWOK plays: for tests and for `make cluster`."""
