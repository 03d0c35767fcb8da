"""Files of a run: writing, reading, pooling, checkpoints and trackers."""
