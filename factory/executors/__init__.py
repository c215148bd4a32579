"""Executors: where the shards of a map stage run."""
