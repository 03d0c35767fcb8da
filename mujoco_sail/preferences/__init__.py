"""Preference labels: synthetic teacher, query selection and label sessions."""
