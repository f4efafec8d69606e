"""Generators that others trained, a file for each family."""
