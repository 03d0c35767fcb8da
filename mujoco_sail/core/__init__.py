"""The update: stacked networks, optimisers, objectives, replay buffer and random streams."""
