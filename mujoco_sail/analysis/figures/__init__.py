"""Figures from a results folder."""
