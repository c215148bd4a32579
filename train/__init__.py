"""From a run's data sets to models: train, fuse, evaluate. It meets the pipelines on disk only."""
