"""Training: data, network, pruning and records joined into runs and grids of runs."""
