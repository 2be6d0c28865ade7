"""Many recordings: divided into shards, each a result file, on one machine or on a cluster."""
