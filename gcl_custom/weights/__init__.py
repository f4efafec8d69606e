"""Weights on the disk: what a recipe names, where it lies, what it holds, and how it is read."""
