"""The page on which a person answers: which of two clips is better."""
