"""The synthetic teacher, and how it is asked."""
