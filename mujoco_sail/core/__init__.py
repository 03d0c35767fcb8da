"""The update core: stacked networks, optimisers and the objectives' estimators."""
